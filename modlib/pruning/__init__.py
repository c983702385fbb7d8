"""Which layers are redundant; a network without them; cost in MACs and parameters (Section 5.2 of the paper)."""

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # Student's t quantile, without the second that scipy.stats takes to import
import torch
from torch import nn

from modlib._checks import unknown, whole_number
from modlib.cost import Cost, cost, seconds
from modlib.curves import Curve, CurveDraws
from modlib.pruning.layers import Removable, Stages, is_vgg, match, units_of
from modlib.results import Result
from modlib.training import Recipe, train
from modlib.zoo import same_weights, save_model

__all__ = ["Plan", "find_redundant", "rise_plan", "random_plan", "l1_plan"]  # which layers
__all__ += ["removable", "prune", "fine_tune"]  # a network without them
__all__ += ["Cost", "cost", "layer_costs", "seconds"]  # what it costs
CONFIDENCE = 0.95  # that a layer's rise is within the tolerance, before it is removed


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

    def table(self) -> pd.DataFrame:
        """One row a layer: layer, score, verdict, remove."""
        goes = [name in self.remove for name in self.layers]
        return pd.DataFrame({"layer": self.layers, "score": self.scores, "verdict": self.verdicts, "remove": goes})


def find_redundant(
    curve, tol: float = 0.01, model: nn.Module | None = None, *, layers: Sequence[str] | None = None
) -> Plan:
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
    if not (isinstance(tol, Real) and 0 <= tol < math.inf):
        raise ValueError(f"tol must be a rise of Q, a number of at least 0; got {tol!r}")
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
        curve, layers = curve.q, curve.layers
    try:
        q = np.atleast_2d(np.asarray(curve, float))
    except (TypeError, ValueError):
        raise ValueError(f"curve must be a Curve, CurveDraws or numbers (L,) or (draws, L); got {type(curve).__name__}") from None
    if q.ndim != 2 or not q.size or not np.isfinite(q).all():
        raise ValueError(f"curve must hold finite modularities, (L,) or (draws, L); got shape {q.shape}, {np.isnan(q).sum()} NaN")
    layers = tuple(map(str, range(1, q.shape[1] + 1))) if layers is None else tuple(layers)
    if len(layers) != q.shape[1]:
        raise ValueError(f"layers must name each of the {q.shape[1]} layers of the curve; got {len(layers)} names")
    return q, layers


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
    units = match(model, curve.layers)
    return _lowest(model, units, np.diff(np.atleast_2d(curve.q).mean(0), prepend=0), count, "of small rise")


def random_plan(model: nn.Module, count: int, seed: int = 0) -> Plan:
    """A control: ``count`` layers drawn at random, by a seed, from those that can go.

    Raises:
        ValueError: for more layers than can go together, or a model of no known family.

    >>> import modlib
    >>> len(random_plan(modlib.build_model("resnet20"), 3).remove)
    3
    """
    units = units_of(model)
    return _lowest(model, units, np.random.default_rng(seed).random(len(units)), count, "drawn")


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


def removable(model: nn.Module) -> dict[str, str]:
    """Layer name -> why it cannot go; empty where it can.

    A Conv-BN-ReLU of a VGG can go if its input and output channels agree, a block of a ResNet if its shortcut is the
    identity (basic or bottleneck; of modlib or torchvision). One layer of each stage of a ResNet must stay.

    Raises:
        ValueError: for a model of another family.

    >>> import modlib
    >>> removable(modlib.build_model("resnet18"))["layer2.0"]
    'it halves the resolution'
    """
    return {unit.names[0]: unit.why for unit in units_of(model)}


def layer_costs(model: nn.Module, shape: Sequence[int] = (3, 32, 32)) -> pd.DataFrame:
    """What goes with each layer. One row a layer: layer, stage (which must keep one), macs, params, why it cannot go.

    What remains of a pruned network sees images of the same sizes as before, so the costs of layers that go together
    add up: :func:`cost` of the pruned network is that of the whole one minus their sum, exactly.

    Args:
        shape: (3, H, W) of one image.

    Raises:
        ValueError: as :func:`removable` and :func:`cost` do.

    >>> import modlib
    >>> table = layer_costs(modlib.build_model("resnet56")).set_index("layer")
    >>> table.loc[["layer1.1", "layer3.1"], ["macs", "params"]].values.tolist()
    [[4718592, 4672], [4718592, 73984]]
    """
    parts, rows = cost(model, shape).layers, []
    for unit in units_of(model):
        own = [row for name, row in parts.items() if any(f"{name}.".startswith(f"{each}.") for each in unit.names)]
        costs = {kind: sum(row[kind] for row in own) for kind in ("macs", "params")}
        rows.append({"layer": unit.names[0], "stage": unit.stage, **costs, "why": unit.why})
    return pd.DataFrame(rows)


def prune(model: nn.Module, plan: Plan | Sequence[str]) -> nn.Module:
    """The network without the layers of a plan; what remains keeps its weights. The model itself is not changed.

    Poolings of a VGG stay where they are, also where no convolution is left between two of them: all other layers
    see images of the size they were trained on.

    Args:
        model: a VGG or ResNet of modlib or torchvision.
        plan: a Plan, or names of layers, as :func:`removable` or :func:`modlib.layer_names` gives them.

    Returns:
        nn.Module of the same class, mode and device; its ``architecture``, if the model has one, says its new stages.

    Raises:
        ValueError: if the model is of another family, the plan is of a curve of another model, or it names layers that
            do not exist, that cannot go, or that are all of a stage's.

    >>> import modlib
    >>> model = modlib.load_model("resnet20")
    >>> prune(model, ["layer1.1", "layer3.2"]).architecture["stages"]
    [2, 3, 2]
    """
    if isinstance(plan, str):
        raise ValueError(f"plan must be a Plan or a list of names of layers; got {plan!r}. Write [{plan!r}]")
    units = match(model, plan.layers) if isinstance(plan, Plan) else units_of(model)
    owner = {name: i for i, unit in enumerate(units) for name in unit.names}
    gone, room = set(), Stages(units)
    for name in plan.remove if isinstance(plan, Plan) else plan:
        if name not in owner:
            raise unknown("layer", name, [unit.names[0] for unit in units])
        if owner[name] in gone:
            continue
        if why := room.take(units[owner[name]]):
            can = [unit.names[0] for unit in units if not unit.why]
            raise ValueError(f"layer {name!r} cannot go: {why}. Those that can: {', '.join(can) or 'none'}")
        gone.add(owner[name])

    # Tensors that modules compute and keep, such as the weights of torch's old weight_norm, deepcopy would refuse.
    computed = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    shorter = copy.deepcopy(model, {id(each): each.detach().clone() for each in computed if not each.is_leaf})
    names = {name for i in gone for name in units[i].names}
    for path in {name.rpartition(".")[0] for name in names}:
        chain = shorter.get_submodule(path)
        kept = nn.Sequential(*(part for name, part in chain.named_children() if f"{path}.{name}" not in names))
        kept.training = chain.training
        setattr(shorter, path, kept)
    if hasattr(shorter, "architecture"):
        stages = shorter.architecture["stages"]
        if is_vgg(model):
            widths = [place for place, width in enumerate(stages) if width != "M"]
            cut = {widths[i] for i in gone}
            stages = [width for place, width in enumerate(stages) if place not in cut]
        else:
            cut = Counter(units[i].stage for i in gone)
            stages = [blocks - cut[f"layer{stage}"] for stage, blocks in enumerate(stages, 1)]
        shorter.architecture["stages"] = stages
    return shorter


def fine_tune(
    model: nn.Module, dataset: str = "cifar10", recipe: str | Recipe = "fast", *, folder: str | Path, **options
) -> Result:
    """Train a network on, such as a pruned one, from the weights it has, which are kept as ``folder/start.safetensors``.

    Args:
        model: one of modlib's, or of :func:`prune` made from one; it is not changed.
        folder: of the run, which the same call resumes; afterwards it holds ``model.safetensors``.
        **options: of :func:`modlib.training.train` (``epochs``, ``seed``, ``device``, ``max_minutes``, ``data``, ...).

    Raises:
        ValueError: for a model that modlib has not built, or of another dataset, and as :func:`modlib.training.train` does.
    """
    if not hasattr(model, "architecture"):
        raise ValueError(f"model must come from modlib; this {type(model).__name__} has no record of its architecture")
    if dataset != model.architecture["dataset"]:
        raise ValueError(f"model is of {model.architecture['dataset']!r}; got dataset={dataset!r}")
    start = Path(folder) / "start.safetensors"
    begun = start.exists() and (start.parent / "checkpoint.pt").exists()
    if begun and not same_weights(start, model):
        raise ValueError(f"{start} holds other weights: a run of another network began there. Name another folder, or delete it")
    start.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, start)
    return train(model.architecture["name"], dataset, recipe, folder=folder, weights=start, **options)
