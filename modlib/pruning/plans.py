"""Which layers of a network are redundant, by its modularity curve, and the controls (Section 5.2 of the paper)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # Student's t quantile, without the second that scipy.stats takes to import
from torch import nn

from modlib._checks import array, check_seed, checked, number, whole_number
from modlib.curves import Curve, CurveDraws
from modlib.pruning.layers import Removable, Stages, match, units_of

CONFIDENCE = 0.95  # that a layer's rise is within the tolerance, before it is removed


@checked
@dataclass(frozen=True, eq=False)
class Plan:
    """Which layers of a network to remove, and why.

    Attributes:
        layers: names of all L layers, first layer first.
        remove: names of those that go.
        scores: (L,) what decided: the rise of Q, or the L1 norm, or a random number.
        verdicts: a phrase for each layer.
    """

    layers: tuple[str, ...]
    remove: tuple[str, ...]
    scores: np.ndarray
    verdicts: tuple[str, ...]

    def __post_init__(self):
        if self.scores.shape != (len(self.layers),) or len(self.verdicts) != len(self.layers) or {*self.remove} - {*self.layers}:
            raise ValueError("scores and verdicts must be one a layer, and remove name some of the layers")

    def table(self) -> pd.DataFrame:
        """One row a layer: layer, score, verdict, remove."""
        goes = [name in self.remove for name in self.layers]
        return pd.DataFrame({"layer": self.layers, "score": self.scores, "verdict": self.verdicts, "remove": goes})


@checked
def find_redundant(curve, tol: float = 0.01, model: nn.Module | None = None, *, layers: Sequence[str] | None = None) -> Plan:
    """The layers where the modularity curve falls, stays or creeps.

    Layers are judged in order, each against the highest layer r of those kept before it. Layer i goes if it rises by no
    more than ``tol`` above that layer; otherwise it is kept. So of a plateau that creeps, one layer is kept for each
    ``tol`` that it gains. With draws s = 1..S, which show the same images to both layers,

        d_s = Q_si - Q_sr,    layer i goes  <=>  mean(d) + t_(S-1) std(d) / sqrt(S) <= tol,

    t being the 95 % quantile of Student's t: the rise must be small beyond what the choice of images can explain. With
    a single curve the second term is left out. A verdict names the mean rise: ``rises`` (more than tol), ``creeps``
    (more than tol/2), ``stays``, ``falls`` (less than -tol/2), or ``unsure`` where mean(d) <= tol, but not with the
    second term: that layer is kept.

    The paper takes falls for redundant, too. Later layers may need what such a layer does, so try its removal by itself:
    chapter 9 measures two that a VGG19 could not spare.

    Args:
        curve: a :class:`modlib.Curve` or, for the spread to count, :class:`modlib.CurveDraws`; or modularities alone, (L,) or
            (draws, L).
        tol: a rise of Q that is not worth a layer. By default the 0.01 whose removal cost 0.01 points in Fig. 10.
        layers: names of the layers of modularities alone; by default "1" to "L".
        model: the network of the curve; with it, layers that cannot go (:func:`removable`) are among those kept.

    Raises:
        ValueError: for another ``tol`` than a number >= 0, modularities that are not finite or of another shape, a curve of
            another model, or a model of no known family.

    >>> from modlib.paper import paper_values
    >>> find_redundant(paper_values("fig4")["vgg19/cifar10"]).remove
    ('2', '4', '11', '12', '13', '14', '15', '16')
    """
    q, layers = _numbers(curve, layers)
    tol = number("tol", tol)
    units = match(model, layers) if model is not None else [Removable((name,)) for name in layers]
    room = Stages(units)
    best, remove, rises, verdicts = 0, [], [q[:, 0].mean()], ["first"]
    for i in range(1, len(units)):
        d = q[:, i] - q[:, best]
        rise = d.mean()
        upper = rise + (stdtrit(len(d) - 1, CONFIDENCE) * d.std(ddof=1) / math.sqrt(len(d)) if len(d) > 1 else 0)
        verdict = "rises" if rise > tol else "unsure" if upper > tol else "creeps" if rise > tol / 2 else "stays"
        verdict = "falls" if verdict == "stays" and rise < -tol / 2 else verdict
        why = "" if upper > tol else room.take(units[i])
        if upper <= tol and not why:
            remove.append(layers[i])
        elif rise > 0:
            best = i
        rises.append(rise)
        verdicts.append(f"{verdict}, but {why}" if why else verdict)
    return Plan(layers, tuple(remove), np.array(rises), tuple(verdicts))


def _numbers(curve, layers: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Modularities (draws, L) of a curve, and the names of its layers."""
    if isinstance(curve, (Curve, CurveDraws)):
        if layers is not None:
            raise ValueError("layers are those of the curve; leave them out, or give modularities alone")
        curve, layers = curve.q, curve.layers
    q = np.atleast_2d(array("curve", curve, (1, 2), "a Curve, CurveDraws or modularities (L,) or (draws, L)").astype(float))
    if not q.size:
        raise ValueError(f"curve must hold a modularity or more; got shape {q.shape}")
    layers = tuple(map(str, range(1, q.shape[1] + 1))) if layers is None else tuple(layers)
    if len(layers) != q.shape[1]:
        raise ValueError(f"layers must name each of the {q.shape[1]} layers of the curve; got {len(layers)} names")
    return q, layers


@checked
def rise_plan(curve: Curve | CurveDraws, model: nn.Module, count: int) -> Plan:
    """The ``count`` layers of smallest rise Q_i - Q_(i-1) among those that can go; where Q falls, the rise is negative.

    So the paper reads its curves (Section 5.2), with a number of layers in place of a tolerance.

    Raises:
        ValueError: for a curve of another model, or as :func:`random_plan` does.

    >>> import modlib
    >>> model, images = modlib.load_model("resnet20"), modlib.load_images("cifar10", n=500)
    >>> rise_plan(modlib.modularity_curve(model, images.x, images.y), model, 2).remove
    ('layer1.0', 'layer1.1')
    """
    q, layers = _numbers(curve, None)
    return _lowest(model, match(model, layers), np.diff(q.mean(0), prepend=0), count, "of small rise")


def random_plan(model: nn.Module, count: int, seed: int = 0) -> Plan:
    """A control: ``count`` layers drawn at random, by a seed, from those that can go.

    Raises:
        ValueError: for more layers than can go together, or a model of no known family.

    >>> import modlib
    >>> len(random_plan(modlib.build_model("resnet20"), 3).remove)
    3
    """
    units = units_of(model)
    return _lowest(model, units, np.random.default_rng(check_seed(seed)).random(len(units)), count, "drawn")


def l1_plan(model: nn.Module, count: int) -> Plan:
    """A control: the ``count`` layers of smallest weights among those that can go.

    The score is the L1 norm of a filter (Li et al. 2017), averaged over the filters of each convolution and the
    convolutions of the layer; Elkerdawy et al. (2020) prune layers by such filter criteria.

    Raises:
        ValueError: as :func:`random_plan` does.
    """
    units, scores = units_of(model), []
    for unit in units:
        modules = [module for name in unit.names for module in model.get_submodule(name).modules()]
        norms = [m.weight.detach().abs().flatten(1).sum(1).mean().item() for m in modules if isinstance(m, nn.Conv2d)]
        scores.append(np.mean(norms))
    return _lowest(model, units, np.array(scores), count, "of small weights")


def _lowest(model: nn.Module, units: Sequence[Removable], scores: np.ndarray, count: int, verdict: str) -> Plan:
    room = Stages(units)
    order = [i for i in np.argsort(scores, kind="stable") if not room.take(units[i])]
    count = whole_number("count", count, 0, len(order), f"layers to remove from this {type(model).__name__}")
    chosen = set(order[:count])
    layers = tuple(unit.names[0] for unit in units)
    remove = tuple(name for i, name in enumerate(layers) if i in chosen)
    return Plan(layers, remove, scores, tuple(verdict if i in chosen else units[i].why for i in range(len(units))))
