"""A name for a whole computation: a network with its weights and its code, what it is given, and the settings."""

import functools
import hashlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from modlib._tensors import plain
from modlib.models.inputs import Inputs, parts

# What torch keeps in a module beside its parameters, buffers and parts, which are looked at by name.
_BOOKKEEPING = {name for name in vars(nn.Module()) if name.startswith("_")} | {"training", "_is_torch_compile"}

_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, np.generic)
_DATA = (int, float, str, tuple, list, dict, set, frozenset, np.ndarray, torch.Tensor, nn.Module, functools.partial)
_OF_CLASSES = (types.FunctionType, staticmethod, classmethod, property, *_DATA)
_OF_PACKAGES = (types.FunctionType, types.BuiltinFunctionType, int, float, str, tuple, torch.Tensor)  # theirs may hold caches
_INSTALLED = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


def fingerprint(model: nn.Module, x: Inputs, **settings) -> str:
    """The same for the same computation, in every process; another where weights, activation functions, the code of a
    forward, hooks, inputs or settings differ."""
    digest = hashlib.sha256()
    seen: dict[int, tuple[int, object]] = {}  # by address, and held: an address is not given to another thing meanwhile
    for piece in _of_network(plain(model), seen):
        digest.update(piece)
    others = {} if isinstance(x, torch.Tensor) else {"structure": [*x] if isinstance(x, dict) else len(x)}
    for name, value in (*parts(x).items(), *sorted({**others, **settings}.items())):
        for piece in (name.encode(), *_of(value, seen)):
            digest.update(piece)
    return digest.hexdigest()


def _of_network(model: nn.Module, seen: dict) -> Iterator[bytes]:
    for name, module in model.named_modules():
        kind = type(module)
        yield f"|module {name} {kind.__module__}.{kind.__qualname__}".encode()
        own = {key: value for key, value in vars(module).items() if key not in _BOOKKEEPING}
        for group in (dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False)), own):
            for key, value in group.items():
                yield f"|{key}".encode()
                yield from _of(value, seen)
        yield from _of(getattr(module, "code", None), seen)  # of a scripted module
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            yield from _of([*hooks.values()], seen)
        yield from _of_class(kind, seen)
    everywhere = nn.modules.module
    yield from _of([*everywhere._global_forward_pre_hooks.values(), *everywhere._global_forward_hooks.values()], seen)


def _of_class(kind: type, seen: dict) -> Iterator[bytes]:
    """The code of a class of the reader's; torch's is known by name."""
    for each in kind.__mro__:
        if each.__module__.partition(".")[0] not in ("torch", "builtins", "torchvision", "numpy"):
            for key, value in sorted(vars(each).items()):
                if isinstance(value, _OF_CLASSES) and (not key.startswith("__") or key == "__call__"):
                    yield f"|{key}".encode()
                    yield from _of(value, seen)


def _of(value, seen: dict) -> Iterator[bytes]:
    """Bytes that stand for a value: of what it is, never of where it lies in memory."""
    if value is None or isinstance(value, _PLAIN):
        yield f"|{type(value).__name__} {value!r}".encode()
    elif isinstance(value, torch.Tensor):
        tensor = value.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor.to_dense() if tensor.is_sparse else tensor
        yield f"|tensor {value.dtype} {tuple(value.shape)}".encode()
        yield tensor.cpu().resolve_conj().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"|array {value.dtype} {value.shape}".encode() + value.tobytes()
    elif id(value) in seen:  # also ends circles
        yield f"|again {seen[id(value)][0]}".encode()
    else:
        seen[id(value)] = len(seen), value
        yield f"|{type(value).__module__}.{type(value).__qualname__}".encode()
        yield from _inside(value, seen)


def _inside(value, seen: dict) -> Iterator[bytes]:
    if isinstance(value, (list, tuple)):
        held = value
    elif isinstance(value, (set, frozenset)):
        held = sorted(value, key=lambda each: re.sub(r"0x[0-9a-f]+", "", repr(each)))
    elif isinstance(value, Mapping):
        held = [part for item in value.items() for part in item]
    elif isinstance(value, nn.Module):
        yield from _of_network(value, seen)
        return
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        held = [value.__code__, value.__defaults__, value.__kwdefaults__, cells, _globals(value)]
    elif isinstance(value, types.CodeType):
        held = [value.co_code, value.co_consts, value.co_names, value.co_varnames]
    elif isinstance(value, types.MethodType):
        held = [value.__func__, value.__self__]
    elif isinstance(value, functools.partial):
        held = [value.func, value.args, value.keywords]
    elif isinstance(value, (staticmethod, classmethod)):
        held = [value.__func__]
    elif isinstance(value, property):
        held = [value.fget]
    elif isinstance(value, type) and _of_reader(sys.modules.get(value.__module__)):
        held = [value.__qualname__]
        yield from _of_class(value, seen)
    elif isinstance(value, (type, types.BuiltinFunctionType, types.MethodDescriptorType, types.ModuleType)):
        held = [getattr(value, "__module__", ""), getattr(value, "__qualname__", getattr(value, "__name__", ""))]
    elif not hasattr(value, "__dict__") and not _of_reader(sys.modules.get(type(value).__module__)):
        held = []
    else:
        slots = [name for each in type(value).__mro__ for name in _names(vars(each).get("__slots__", ()))]
        held = [getattr(value, "__dict__", {}), {name: getattr(value, name) for name in slots if hasattr(value, name)}]
        yield from _of_class(type(value), seen)
    for part in held:
        yield from _of(part, seen)


def _filled(cell) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return False
    return True


def _names(slots) -> list[str]:
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _of_reader(module) -> bool:
    """Whether a module is the reader's own, none of an installed package or of Python."""
    path = getattr(module, "__file__", None) or ""
    return module is not None and module.__name__ not in sys.builtin_module_names and not any(each in path for each in _INSTALLED)


def _globals(function: types.FunctionType) -> list:
    """What a function uses of its own module, and of other modules of the reader's: functions, classes, modules, plain values."""
    own = _of_reader(sys.modules.get(function.__module__))
    return _used(function.__globals__, sorted(_names_in(function.__code__)), own)


def _names_in(code: types.CodeType) -> set[str]:
    """What a function names, and the functions in it."""
    return set(code.co_names).union(*(_names_in(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _used(space: dict, names: list[str], own: bool) -> list:
    held = []
    for name in names:
        value = space.get(name)
        kind = value if isinstance(value, type) else type(value)
        if isinstance(value, types.ModuleType):
            if own and _of_reader(value):
                held.append((name, _used(vars(value), names, True)))
        elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            of = (value.__module__ or "").partition(".")[0]
            held.append((name, name if of in ("torch", "numpy") else value))
        elif isinstance(value, _DATA if own else _OF_PACKAGES):
            held.append((name, value))
        elif own and (kind is types.SimpleNamespace or _of_reader(sys.modules.get(kind.__module__))):
            held.append((name, value))
    return held
