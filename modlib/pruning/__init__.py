"""Which layers are redundant; a network without them; cost in MACs and parameters (Section 5.2 of the paper)."""

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from modlib._checks import checked, listed, unknown
from modlib._tensors import plain
from modlib.cost import Cost, cost, seconds
from modlib.pruning.layers import Stages, is_vgg, match, units_of
from modlib.pruning.plans import Plan, find_redundant, l1_plan, random_plan, rise_plan
from modlib.results import Result
from modlib.training import Recipe, train
from modlib.zoo import same_weights, save_model

__all__ = ["Plan", "find_redundant", "rise_plan", "random_plan", "l1_plan"]  # which layers
__all__ += ["removable", "prune", "fine_tune"]  # a network without them
__all__ += ["Cost", "cost", "layer_costs", "seconds"]  # what it costs


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
    add up: :func:`modlib.cost.cost` of the pruned network is that of the whole one minus their sum, exactly.

    Args:
        shape: (3, H, W) of one image.

    Raises:
        ValueError: as :func:`removable` and :func:`modlib.cost.cost` do.

    >>> import modlib
    >>> table = layer_costs(modlib.build_model("resnet56")).set_index("layer")
    >>> table.loc[["layer1.1", "layer3.1"], ["macs", "params"]].values.tolist()
    [[4718592, 4672], [4718592, 73984]]
    """
    return costs_by_layer(model, cost(model, shape))


def costs_by_layer(model: nn.Module, whole: Cost) -> pd.DataFrame:
    """The table of :func:`layer_costs`, of a network whose cost is known."""
    parts, rows = whole.layers, []
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
    model = plain(model, meta=True)
    if not isinstance(plan, Plan):
        plan = listed("plan", plan, "names of layers, such as ['layer1.1'], or a Plan")
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


@checked
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
