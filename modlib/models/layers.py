"""Which of a network's modules count as its layers."""

from collections import Counter
from collections.abc import Sequence

from torch import nn

from modlib._checks import listed, one_of
from modlib._tensors import plain

CHAINS = (nn.Sequential, nn.ModuleList)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh)


def layer_names(model: nn.Module, at: str = "conv") -> list[str]:
    """The modules whose outputs count as the layers of a network, in the order in which they are defined.

    One rule for every network. Where it is a chain of blocks, each block is a layer, and so is each convolution before or
    between them. Blocks are modules with parts of their own inside an ``nn.Sequential`` or ``nn.ModuleList``, as in ResNets
    and transformers, or inside a module that has three or more of one class, as in Inception. Where it is not (VGG), each
    convolution is a layer; without convolutions, each linear module but the last.

    :func:`modlib.iter_features` and all that builds on it take those of them that run, in the order in which they run.

    The paper's text takes features after the ReLU; the curves in its figures come from the convolutions' outputs before
    batch normalisation and ReLU (for ResNets: of the stem; blocks always end in their ReLU). ``at="conv"`` is the
    reading of the figures, ``at="relu"`` that of the text.

    Raises:
        ValueError: for another ``at``, or a model with nothing to tap.

    >>> from modlib import build_model
    >>> layer_names(build_model("resnet18"))[:3]
    ['conv1', 'layer1.0', 'layer1.1']
    >>> [len(layer_names(build_model(f"vgg{n}"))) for n in (11, 13, 16, 19)]
    [8, 10, 13, 16]
    """
    one_of("reading of a layer (at)", at, ("conv", "relu"))
    modules = dict(plain(model, meta=True).named_modules())
    blocks = _blocks(modules)
    free = {name: m for name, m in modules.items() if not any(name.startswith(block + ".") for block in blocks)}
    linear = [name for name, module in free.items() if isinstance(module, nn.Linear)]
    convolutions = [i for i, module in enumerate(free.values()) if isinstance(module, CONVOLUTIONS)]
    heads = [i for i, module in enumerate(free.values()) if isinstance(module, nn.Linear) and convolutions and i > convolutions[-1]]
    if heads:  # a linear module behind the convolutions begins the classifier, which is no layer of the feature extractor
        free = dict(list(free.items())[: heads[0]])
    kinds = CONVOLUTIONS if at == "conv" else ACTIVATIONS
    found = [name for name, module in free.items() if name in blocks or isinstance(module, kinds)]
    if found or at == "conv" and linear[:-1]:
        return found or linear[:-1]
    made = ", ".join(sorted({type(module).__name__ for module in modules.values()}))
    if at == "relu":
        raise ValueError(f"model has no blocks or activation modules to tap; it is made of {made}. Take at='conv'")
    raise ValueError(f"model has no blocks, convolutions or linear layers to tap; it is made of {made}. Name its layers")


def _blocks(modules: dict[str, nn.Module]) -> list[str]:
    """Modules with parts of their own that follow each other in a chain; none inside another."""
    runs = {name: m for name, m in modules.items() if type(m) is not nn.Module}  # else it only holds parts, as in torch.fx
    with_parts = {name: m for name, m in runs.items() if name and not isinstance(m, CHAINS) and [*m.children()]}
    parents = {name: modules.get(name.rpartition(".")[0]) for name in with_parts}
    kinds = Counter((id(parents[name]), type(module)) for name, module in with_parts.items())
    rows = {parent for (parent, kind), count in kinds.items() if count > 2}  # two may be two networks side by side
    inside = [name for name in with_parts if isinstance(parents[name], CHAINS) or id(parents[name]) in rows]
    found = []
    for name in inside:  # outer modules come before those inside them
        if not any(name.startswith(block + ".") for block in found):
            found.append(name)
    return found


def chosen_layers(model: nn.Module, layers: Sequence[str] | str | None) -> list[str]:
    """The layers that are asked for, one or more, each once; by default those of :func:`modlib.layer_names`."""
    names = layer_names(model) if layers is None else [layers] if isinstance(layers, str) else listed("layers", layers, "names")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers must name at least one module, and each once; got {names}")
    return names
