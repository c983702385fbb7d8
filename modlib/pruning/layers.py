"""The layers of a VGG or ResNet as they can be removed: which modules belong together, and what cannot go."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from modlib._tensors import plain

_CHANGES = "it changes the channels from {} to {}"


@dataclass(frozen=True)
class Removable:
    """One layer as it can be removed."""

    names: tuple[str, ...]  # of its modules; the first is the layer's
    stage: str = ""  # which must keep one of its layers
    why: str = ""  # it cannot go


class Stages:
    """How many layers each stage still has."""

    def __init__(self, units: Sequence[Removable]):
        self.left = Counter(unit.stage for unit in units)

    def take(self, unit: Removable) -> str:
        """Take a layer out, or say why it cannot go."""
        if unit.why:
            return unit.why
        if self.left[unit.stage] == 1:
            return f"it is the last of {unit.stage}, which would be empty"
        self.left[unit.stage] -= 1
        return ""


def _is(model: nn.Module, family: str) -> bool:
    """Whether a model is of torchvision's class of this name, or of modlib's thin ResNets; torchvision is not imported for it."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__}
    return bool(kinds & {f"torchvision.models.{family.lower()}.{family}", f"modlib.models.networks.PixelThin{family}"})


def is_vgg(model: nn.Module) -> bool:
    """Whether a model is a VGG of modlib or torchvision."""
    return _is(model, "VGG")


def units_of(model: nn.Module) -> list[Removable]:
    """The layers of a VGG or ResNet, first layer first."""
    model, units = plain(model, meta=True), []
    if is_vgg(model):
        for index, module in model.features.named_children():
            if isinstance(module, nn.Conv2d):
                channels = (module.in_channels, module.out_channels)
                units.append(Removable((), why="" if channels[0] == channels[1] else _CHANGES.format(*channels)))
            if not isinstance(module, nn.MaxPool2d):
                units[-1] = replace(units[-1], names=(*units[-1].names, f"features.{index}"))
    elif _is(model, "ResNet"):
        units.append(Removable(("conv1", "bn1", "relu"), "stem", "it is the stem, not a block"))
        for stage, blocks in model.named_children():
            for index, block in blocks.named_children() if stage.startswith("layer") else ():
                convs = [part for part in block.children() if isinstance(part, nn.Conv2d)]
                why = "" if block.downsample is None else _CHANGES.format(convs[0].in_channels, convs[-1].out_channels)
                why = "it halves the resolution" if block.stride > 1 else why
                units.append(Removable((f"{stage}.{index}",), stage, why))
    else:
        raise ValueError(f"model must be a VGG or ResNet of modlib or torchvision; got {type(model).__name__}")
    return units


def match(model: nn.Module, layers: Sequence[str]) -> list[Removable]:
    """The model's layers, which must be those of a curve."""
    units = units_of(model)
    if len(units) != len(layers) or not all(name in unit.names for name, unit in zip(layers, units, strict=True)):
        raise ValueError(
            f"curve is of another model: it has {len(layers)} layers, {layers[0]} to {layers[-1]}; this "
            f"{type(model).__name__} has {len(units)}, {units[0].names[0]} to {units[-1].names[0]}"
        )
    return units
