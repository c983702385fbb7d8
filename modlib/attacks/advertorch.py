"""AdverTorch 0.2.3 (Ding et al. 2019) behind the signature of our own algorithms, made to work beside current torch."""

import importlib
from collections.abc import Callable

import torch

CLASSES = {
    "fgsm": "GradientSignAttack",
    "pgd": "PGDAttack",
    "jsma": "JacobianSaliencyMapAttack",
    "cw": "CarliniWagnerL2Attack",
    "onepixel": "SinglePixelAttack",
    "localsearch": "LocalSearchAttack",
}


def advertorch_algorithm(name: str, num_classes: int) -> Callable:
    """AdverTorch's implementation of an attack, to be called as those of :mod:`modlib.attacks.algorithms` are.

    Raises:
        ImportError: if the package is not installed.
    """
    gradcheck = importlib.import_module("torch.autograd.gradcheck")
    # The package imports a function that torch 1.9 dropped; the attack that calls it is none of the six.
    dropped = not hasattr(gradcheck, "zero_gradients")
    if dropped:
        gradcheck.zero_gradients = None
    try:
        package = importlib.import_module("advertorch.attacks")
    except ImportError as error:
        raise ImportError(
            "implementation='advertorch' needs AdverTorch: pip install advertorch==0.2.3. "
            "implementation='modlib' (the default) runs the same attacks without it"
        ) from error
    finally:
        if dropped:
            del gradcheck.zero_gradients

    def perturb(predict, x, y, rngs, *, target="label", **settings):
        if name in ("jsma", "cw"):
            settings["num_classes"] = num_classes
        y = (y + 1) % num_classes if target == "next" else y
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(int(rngs[0].integers(2**32)))
            return getattr(package, CLASSES[name])(predict, **settings).perturb(x, y)

    return perturb
