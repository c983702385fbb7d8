"""Adversarial images: the six attacks of Section 4.2, in two protocols, with a record of how they went."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from modlib import _resumable as stored
from modlib._checks import as_path, check_seed, checked, number, one_of, whole_number
from modlib._tensors import as_floats, as_tensor, evaluating, exactly, place, plain
from modlib.attacks import algorithms as algorithms
from modlib.attacks.advertorch import advertorch_algorithm
from modlib.attacks.checks import check_images, check_model, check_settings
from modlib.data import Images
from modlib.models.identity import fingerprint
from modlib.models.outputs import first_tensor

ATTACKS = ("fgsm", "pgd", "jsma", "cw", "onepixel", "localsearch")
# Settings of each attack, with their defaults: the keyword arguments of its algorithm.
DEFAULTS = {
    name: {
        key: each.default
        for key, each in signature(getattr(algorithms, name)).parameters.items()
        if each.kind is Parameter.KEYWORD_ONLY
    }
    for name in ATTACKS
}
# Mean and standard deviation by which the authors' code normalises. Its deviations for CIFAR-10 are the mean of the
# single images' own, less than that of all pixels; its values for CIFAR-100 are CIFAR-10's.
AUTHORS_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
# What a protocol changes in the defaults. The authors' code gives JSMA the true label as its target.
PROTOCOLS = {"pixels": {}, "authors": {"jsma": {"target": "label"}}}
IMPLEMENTATIONS = ("modlib", "advertorch")
BY_GRADIENT = ("fgsm", "pgd", "jsma", "cw")


@checked
@dataclass(frozen=True, eq=False)
class Attacked:
    """Images on which an attack succeeded, and how it went on the A source images it was tried on, the first A.

    Attributes:
        images: the S images that the model classified correctly before and wrongly after, in the order of the source;
            ``x`` float32 (S, 3, H, W), not rounded to uint8; ``y`` their true labels. Values lie in [0, 1]; but
            LocalSearch of the protocol ``"authors"`` leaves it by a few hundredths, since it scales without a clip.
        index: int64 (S,) where each stands in the source.
        before: int64 (A,) predicted class of each source image.
        after: int64 (A,) predicted class after the attack; images wrong before are not attacked.
        l0: int64 (S,) number of pixels changed.
        l2: float (S,) Euclidean norm of the change, pixels in [0, 1].
        linf: float (S,) largest change of a value.
        correct: number of images classified correctly before, and so attacked.
        changed: number of those classified wrongly after: S, or more if only n were asked for.
        seconds: wall-clock time, of all calls if it was resumed.
        attack, protocol, seed, settings, implementation: what was run; ``settings`` with the defaults.
        complete: False if it was stopped before all images were tried or n had been found.
    """

    images: Images
    index: np.ndarray
    before: np.ndarray
    after: np.ndarray
    l0: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    correct: int
    changed: int
    seconds: float
    attack: str
    protocol: str
    seed: int
    settings: dict
    implementation: str
    complete: bool

    @property
    def success_rate(self) -> float:
        """Share of the attacked images that changed class, before any selection."""
        return self.changed / self.correct if self.correct else 0.0


@checked
@torch.inference_mode(False)  # tensors made in it know no gradient, also outside of it
def attack(
    model: nn.Module,
    images: Images,
    name: str,
    *,
    protocol: str = "pixels",
    seed: int = 0,
    n: int | None = None,
    batch_size: int = 25,
    max_minutes: float | None = None,
    resume: str | Path | None = None,
    implementation: str = "modlib",
    progress: bool = False,
    **settings,
) -> Attacked:
    """Untargeted adversarial images (Section 4.2), as in the paper only those on which the attack succeeds.

    The model computes where its parameters lie, in evaluation mode and without TF32, and is as before in the end. What
    becomes of an image depends on the seed and its place in ``images``, not on the batches. An attack stopped from the
    keyboard or by ``max_minutes`` returns what its finished batches gave, with ``complete=False``.

    Args:
        model: takes (N, 3, H, W) pixels in [0, 1] and gives (N, C) logits.
        images: what to attack; ``x`` uint8, or floats in [0, 1].
        name: ``"fgsm"``, ``"pgd"``, ``"jsma"``, ``"cw"``, ``"onepixel"`` or ``"localsearch"``.
        protocol: ``"pixels"`` attacks pixels and clips to [0, 1]. ``"authors"`` attacks tensors normalised by
            :data:`modlib.attacks.AUTHORS_STATISTICS` and clips those to [0, 1], as the authors' code does: most of a clean
            image does not survive (:func:`modlib.attacks.clip_only`). That code also gives JSMA the true label as its
            target, so that JSMA does nothing but clip.
        seed: of the random choices of PGD, OnePixel and LocalSearch.
        n: stop once so many images have changed class, and return the first n.
        batch_size: images at a time.
        max_minutes: stop after the batch that passes this.
        resume: a file that keeps the finished batches; the same call goes on after any interruption. (Of a process that
            is killed, the last minute's may be lost.)
        implementation: ``"modlib"``, or ``"advertorch"`` for that package's with the same settings.
        progress: show a bar over the images, or over those that changed class if n are asked for.
        **settings: of the attack, such as ``eps``; :data:`modlib.attacks.DEFAULTS` has them all. They are AdverTorch
            0.2.3's (Ding et al. 2019) but for the 200 iterations of CW, which are the authors' (AdverTorch: 10,000).

    Raises:
        ValueError: for an unknown attack, protocol or setting, pixels outside [0, 1], labels outside the classes, or a
            file of another attack to resume.
        ImportError: if AdverTorch is asked for and not installed.

    Warns:
        UserWarning: if all images were tried and none, or fewer than n, changed class.

    >>> import modlib
    >>> attacked = attack(modlib.load_model("resnet20"), modlib.load_images("cifar10", n=20), "fgsm", eps=8 / 255)
    >>> attacked.images.x.dtype, bool((attacked.after[attacked.index] == attacked.images.y).any())
    (dtype('float32'), False)
    """
    for what, value, known in (
        ("attack", name, ATTACKS),
        ("protocol", protocol, PROTOCOLS),
        ("implementation", implementation, IMPLEMENTATIONS),
    ):
        one_of(what, value, known)
    settings = check_settings(name, DEFAULTS[name] | PROTOCOLS[protocol].get(name, {}), settings)
    seed, batch_size = check_seed(seed), whole_number("batch_size", batch_size, 1)
    check_images(images)
    model = plain(model)
    max_minutes = max_minutes if max_minutes is None else number("max_minutes", max_minutes)
    n = n if n is None else whole_number("n", n, 1, len(images), f"for {len(images)} images")
    if name in BY_GRADIENT and any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError("model was made under torch.inference_mode(), and knows no gradient. Make or load it outside of that")
    device, precision = place(model)
    statistics = _statistics(images, protocol)
    mean, std = (each.to(device, precision) for each in statistics)
    batches, kept = [], None
    if resume is not None:
        how = {"attack": name, "protocol": protocol, "seed": seed, "implementation": implementation, **settings}
        key = fingerprint(model, as_tensor(images.x), labels=images.y.tolist(), statistics=statistics, **how)
        kept = stored.Work(as_path("resume", resume), key)
        batches += kept.parts.values()

    def keep() -> None:
        if kept and batches:
            kept.add({str(i): batch for i, batch in enumerate(batches)})

    began = last = saved = time.monotonic()
    tried, changed = (sum(len(batch[i]) for batch in batches) for i in (0, 2))
    total, unit = (n, "changed image") if n else (len(images), "image")
    bar = tqdm(total=total, desc=name, unit=unit, disable=not progress, leave=False)
    with _at_rest(model, device), bar:
        bar.update(min(total, changed if n else tried))
        classes = check_model(model, images, _floats(images.x[:1]).to(device, precision, copy=True), name in BY_GRADIENT)
        algorithm = advertorch_algorithm(name, classes) if implementation == "advertorch" else getattr(algorithms, name)

        def perturb(x: torch.Tensor, y: torch.Tensor, rngs: list) -> torch.Tensor:
            return algorithm(lambda z: first_tensor(model(z * std + mean)), (x - mean) / std, y, rngs, **settings) * std + mean

        try:
            while tried < len(images) and (n is None or changed < n):
                part = images[tried : tried + batch_size]
                x, y = _floats(part.x).to(device, precision), torch.tensor(part.y.copy(), dtype=torch.int64, device=device)
                batch = _one_batch(model, perturb, x, y, tried, seed)
                now = time.monotonic()
                batches.append((*batch, np.array([now - last])))
                last, tried, changed = now, tried + len(part), changed + len(batch[2])
                bar.set_postfix_str(f"{changed} of {tried} changed class", refresh=False)
                bar.update(min(total, changed if n else tried) - bar.n)
                if now - saved > 60:
                    keep()
                    saved = now
                if max_minutes is not None and now - began > 60 * max_minutes:
                    break
        except KeyboardInterrupt:
            if not batches:
                raise
        finally:
            keep()
    before, after, index, x, *distances, seconds = (np.concatenate(each) for each in zip(*batches, strict=True))
    correct, changed = int((before == images.y[: len(before)]).sum()), len(index)
    complete = len(before) == len(images) or n is not None and changed >= n
    if complete and changed < (n or 1):
        warnings.warn(
            f"{name} changed the class of {changed} of the {correct} images that the model classifies correctly"
            f"{f'; n={n} were asked for' if n else ''}. Give more images or stronger settings",
            stacklevel=4,
        )
    index, x, l0, l2, linf = (each[:n] for each in (index, x, *distances))
    return Attacked(
        replace(images[index], x=x, name=f"{images.name}/{name}-{protocol}"),
        *(index, before, after, l0, l2, linf, correct, changed, float(seconds.sum())),
        *(name, protocol, seed, settings, implementation, complete),
    )


def clip_only(images: Images) -> Images:
    """What the clip of the protocol ``"authors"`` leaves of images, without any attack, as float32 pixels.

    A tensor normalised by :data:`modlib.attacks.AUTHORS_STATISTICS` and clipped to [0, 1] holds the pixels clipped to
    [mean, mean + std]: everything darker than the mean of its channel is gone.

    Raises:
        ValueError: for pixels outside [0, 1], or images that are not of CIFAR-10 or CIFAR-100.

    >>> import modlib
    >>> clipped = clip_only(modlib.load_images("cifar10", n=100)).x
    >>> round(clipped[:, 0].min().item(), 4), round(clipped[:, 0].max().item(), 4)  # red: mean, mean + std
    (0.4914, 0.6937)
    """
    check_images(images)
    mean, std = _statistics(images, "authors")
    x = torch.clamp((_floats(images.x) - mean) / std, 0, 1) * std + mean
    return replace(images, x=x.float().numpy(), name=f"{images.name}/clip")


def _one_batch(model: nn.Module, perturb: Callable, x: torch.Tensor, y: torch.Tensor, start: int, seed: int) -> list:
    """Arrays of one batch, whose first image stands at ``start`` in the source: predictions before and after, and of
    those that changed class where they stand, their pixels, and the distances l0, l2, linf."""
    before = after = _predict(model, x)
    right = (before == y).nonzero()[:, 0]
    attacked = x[right]
    if len(right):
        attacked = perturb(x[right], y[right], [np.random.default_rng((seed, start + int(i))) for i in right]).detach()
        after = before.index_copy(0, right, _predict(model, attacked))
    success = after[right] != y[right]
    change = (attacked - x[right])[success].flatten(2).abs()
    l0 = (change > 1e-6).any(1).sum(1)  # less is the rounding of normalising and back
    distances = (l0, change.square().sum((1, 2)).sqrt().float(), change.amax((1, 2)).float())
    found = (before, after, right[success] + start, attacked[success].float(), *distances)
    return [each.cpu().numpy() for each in found]


def _floats(x: np.ndarray) -> torch.Tensor:
    return as_floats(as_tensor(x))


@torch.no_grad()
def _predict(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return first_tensor(model(x.clone())).argmax(1)  # a copy: it may change what it is given


def _statistics(images: Images, protocol: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, (1, 3, 1, 1) each, by which a protocol normalises before it attacks."""
    dataset = images.name.split("/")[0]
    if protocol == "authors" and dataset not in AUTHORS_STATISTICS:
        raise ValueError(
            f"protocol 'authors' has statistics to normalise {', '.join(AUTHORS_STATISTICS)} by; got images of "
            f"{images.name!r}. Take protocol='pixels'"
        )
    mean, std = AUTHORS_STATISTICS[dataset] if protocol == "authors" else ((0.0,), (1.0,))
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


@contextmanager
def _at_rest(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, parameters that ask for no gradient, exact and repeatable convolutions; as before at the end."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad and not parameter.is_inference()]
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        cudnn.benchmark, cudnn.deterministic = False, True
        with torch.enable_grad(), evaluating(model), exactly(device):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        for parameter in asking:
            parameter.requires_grad_(True)
