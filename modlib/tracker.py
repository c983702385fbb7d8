"""The modularity of a network's layers while it trains: in a plain loop, with Lightning, with Hugging Face's Trainer."""

import time
from collections.abc import Sequence

import pandas as pd
from torch import nn

from modlib._checks import checked, shown, whole_number
from modlib._tensors import plain
from modlib.curves import Curve, modularity_curve
from modlib.graph import iter_graphs
from modlib.graph.knn import check_k
from modlib.models.inputs import as_inputs, copied, samples
from modlib.modularity import check_labels


class ModularityTracker:
    """Measures the modularity curve of a network every few epochs of its training.

    The network computes in evaluation mode and is as before afterwards, its gradients and the random numbers of the process
    with it: training goes on as if nothing had been measured. (ResNet20 on one core: a measurement with 500 images takes 0.7 %
    of the processor time of an epoch of CIFAR-10.)

    Args:
        model: the network that is trained.
        x, y: samples and labels, as of :func:`modlib.modularity_curve`; a few hundred that are not trained on. They are read once.
        every: epochs (or whatever ``step`` counts) from one measurement to the next.
        k: neighbours of each node.
        layers: names of modules; by default those of :func:`modlib.layer_names` that run.
        writer: a ``SummaryWriter`` of TensorBoard, which then shows ``modularity/LAYER`` over the steps.
        **options: of :func:`modlib.dynamic_graph`.

    Attributes:
        curves: step -> :class:`modlib.Curve`.
        seconds: what all measurements took.

    Raises:
        ValueError: as :func:`modlib.modularity_curve` does, before the training.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=60)
    >>> tracker = ModularityTracker(modlib.load_model("resnet20"), images.x, images.y, every=2, layers=["conv1", "layer3.2"])
    >>> for epoch in range(1, 5):
    ...     curve = tracker.step(epoch)  # at the end of an epoch
    >>> tracker.table()["step"].tolist()
    [2, 2, 4, 4]
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        x,
        y,
        *,
        every: int = 1,
        k: int = 3,
        layers: Sequence[str] | str | None = None,
        writer=None,
        **options,
    ):
        self.model, self.x, self.every = plain(model), copied(as_inputs(x)), whole_number("every", every, 1)
        self.y = check_labels(y, samples(self.x))
        self.k = check_k(k, samples(self.x), "x")
        if writer is not None and not callable(getattr(writer, "add_scalar", None)):
            raise ValueError(f"writer must be a SummaryWriter, with add_scalar; got writer={shown(writer)}")
        if "resume" in options:
            raise ValueError("resume is for one network as it is; a tracker's changes from one measurement to the next")
        iter_graphs(self.model, self.x, self.k, None, layers, **options).close()  # refuses what cannot be, before the training
        self.layers, self.writer, self.options = layers, writer, options
        self.curves: dict[int, Curve] = {}
        self.seconds = 0.0

    @checked
    def step(self, step: int) -> Curve | None:
        """Measure where ``step`` is a multiple of ``every``; the curve, or None."""
        step = whole_number("step", step, 0)
        if step % self.every:
            return None
        began = time.perf_counter()
        curve = self.curves[step] = modularity_curve(self.model, self.x, self.y, self.k, self.layers, **self.options)
        if self.writer is not None:
            for name, q in _scalars(curve).items():
                self.writer.add_scalar(name, q, step)
        self.seconds += time.perf_counter() - began
        return curve

    def table(self) -> pd.DataFrame:
        """One row a step and layer: step, layer, q."""
        rows = [(step, layer, q) for step, curve in self.curves.items() for layer, q in zip(curve.layers, curve.q, strict=True)]
        return pd.DataFrame(rows, columns=["step", "layer", "q"])

    def lightning(self):
        """A callback for Lightning: ``Trainer(callbacks=[tracker.lightning()])``. Its loggers get the curves, too.

        Raises:
            ImportError: without ``lightning`` or ``pytorch_lightning``.
        """
        Callback = _imported("Callback", "lightning.pytorch", "pytorch_lightning")
        tracker = self

        class ModularityCallback(Callback):
            def on_train_epoch_end(self, trainer, module):
                curve = tracker.step(trainer.current_epoch + 1)
                for logger in trainer.loggers if curve else ():
                    logger.log_metrics(_scalars(curve), step=trainer.global_step)

        return ModularityCallback()

    def hugging_face(self):
        """A callback for Hugging Face's Trainer: ``Trainer(..., callbacks=[tracker.hugging_face()])``.

        Raises:
            ImportError: without ``transformers``.
        """
        TrainerCallback = _imported("TrainerCallback", "transformers")
        tracker = self

        class ModularityCallback(TrainerCallback):
            def on_epoch_end(self, args, state, control, **others):
                tracker.step(round(state.epoch))

        return ModularityCallback()


def _scalars(curve: Curve) -> dict[str, float]:
    return {f"modularity/{layer}": float(q) for layer, q in zip(curve.layers, curve.q, strict=True)}


def _imported(name: str, *packages: str):
    """A class of the first of the packages that is there."""
    for package in packages:
        try:
            return getattr(__import__(package, fromlist=[name]), name)
        except ImportError:
            continue
    package = packages[0].partition(".")[0]
    raise ImportError(f"this callback needs {package}, which is not installed. In a loop of your own, call tracker.step(epoch)")
