"""Weights small enough to embed, and what making them small costs, measured."""

from dataclasses import asdict
from pathlib import Path

from modlib.cost import accuracy
from modlib.curves import Curve, modularity_curve
from modlib.data import Images, load_images
from modlib.paper import K
from modlib.results import FOLDER, Result, measurement, read_result, write_result
from modlib.training import RECIPES, run_name
from modlib.zoo import load_model, register, save_model

ALLOWED = {"accuracy": 0.1, "q": 0.01}  # loss: percentage points of accuracy, and in the Q of any layer
SMALL = 1_500_000  # bytes: a file that takes no more in float16 is not compressed further


def embed(run: str | Path, images: Images | None = None) -> Result:
    """Put the weights of a finished training run into modlib, as small as they go.

    float16 where that is small, int8 where it is not, the next better precision where more is lost than :data:`ALLOWED`.

    Args:
        run, images: its folder (see :func:`modlib.training.train`); test images, by default the dataset's.

    Returns:
        Result "compression": accuracy in percent, curve (N = 500, k = 3) and bytes, as trained and as embedded.

    Raises:
        OSError: if the run is not finished.
        ValueError: if it is not a recipe's plain training of the whole network: the name would not say so.
    """
    run = Path(run)
    training = read_result(run / "result.json")
    settings = {key: training.settings[key] for key in ("model", "dataset", "recipe", "epochs", "seed")}
    usual = RECIPES.get(settings["recipe"])
    plain = {**asdict(usual), "steps": list(usual.steps)} if usual else {}
    plain |= {**settings, "n": training.settings["n"], "k": K}
    other = [f"{key}={value}" for key, value in training.settings.items() if plain.get(key) != value]
    if other:
        recipe = f"the recipe {settings['recipe']!r} does not give"
        raise ValueError(f"{run} cannot be embedded by that name: it has {', '.join(other)}, which {recipe}")
    name, dataset = settings["model"], settings["dataset"]
    model = load_model(name, dataset, weights=run / "model.safetensors")
    images = images or load_images(dataset, split="test")
    sample = images[:500]

    def measured(path: Path) -> tuple[float, Curve, int]:
        stored = load_model(name, dataset, weights=path)
        return accuracy(stored, images), modularity_curve(stored, sample.x, sample.y), path.stat().st_size

    before = measured(run / "model.safetensors")
    small = save_model(model, run / "float16.safetensors", "float16").stat().st_size <= SMALL
    for precision in ("float16", "float32") if small else ("int8", "float16", "float32"):
        path = save_model(model, run / f"{precision}.safetensors", precision)
        after = measured(path)
        if before[0] - after[0] <= ALLOWED["accuracy"] and abs(before[1].q - after[1].q).max() <= ALLOWED["q"]:
            break
    accuracies, curves, sizes = zip(before, after, strict=True)
    values = {"accuracy": (["weights"], accuracies), "q": (["weights", "layer"], [curve.q for curve in curves])}
    values["bytes"] = (["weights"], sizes)
    coords = {"weights": ["as trained", "embedded"], "layer": before[1].layers}
    result = measurement("compression", {**settings, "precision": precision, "n": len(sample), "k": 3}, coords, values)

    made = {key: training.evidence[key] for key in ("device", "date", "command")}
    title = run_name(*settings.values())
    register(path, {"name": settings.pop("model"), **settings, "precision": precision, "accuracy": after[0], **made})
    write_result(training, FOLDER / f"training-{title}.json")
    write_result(result, FOLDER / f"compression-{title}.json")
    return result
