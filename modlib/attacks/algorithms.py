"""The six attacks of Section 4.2, untargeted, on whole batches.

Every one takes ``predict`` (a differentiable map from a batch to logits), images x (B, C, H, W) whose legal values are
[0, 1], labels y (B,) that ``predict`` gives for x, and a random generator an image; it returns images of x's shape,
changed or not. Keyword arguments are its settings: the names and, but for one, the defaults of AdverTorch 0.2.3 (Ding
et al. 2019). What happens to an image does not depend on the others of its batch.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

Predict = Callable[[torch.Tensor], torch.Tensor]
Generators = Sequence[np.random.Generator]
TARGETS = ("next", "label")  # of JSMA


def fgsm(predict: Predict, x: torch.Tensor, y: torch.Tensor, rngs: Generators, *, eps: float = 0.3) -> torch.Tensor:
    """Fast gradient sign method (Goodfellow et al. 2015): clip(x + eps sign(grad_x loss))."""
    return (x + eps * _loss_gradient(predict, x, y).sign()).clamp(0, 1)


def pgd(
    predict: Predict,
    x: torch.Tensor,
    y: torch.Tensor,
    rngs: Generators,
    *,
    eps: float = 0.3,
    nb_iter: int = 40,
    eps_iter: float = 0.01,
    rand_init: bool = True,
) -> torch.Tensor:
    """Projected gradient descent in the L-infinity ball (Madry et al. 2018): steps along the sign of the gradient,
    each followed by the projection onto the ball of radius eps around x and onto [0, 1]."""
    adversarial = x
    if rand_init:
        start = np.stack([rng.uniform(-eps, eps, x.shape[1:]) for rng in rngs])
        adversarial = (x + torch.from_numpy(start).to(x)).clamp(0, 1)
    for _ in range(nb_iter):
        step = eps_iter * _loss_gradient(predict, adversarial, y).sign()
        adversarial = (x + (adversarial + step - x).clamp(-eps, eps)).clamp(0, 1)
    return adversarial


def _loss_gradient(predict: Predict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(predict(x), y, reduction="sum"), x)[0]


def jsma(
    predict: Predict,
    x: torch.Tensor,
    y: torch.Tensor,
    rngs: Generators,
    *,
    theta: float = 1.0,
    gamma: float = 1.0,
    target: str = "next",
) -> torch.Tensor:
    """Jacobian saliency map attack (Papernot et al. 2016, Algorithms 1 and 3): raise by theta the pair of values that
    moves the target's logit up and the sum of the others down the most, each value once, until the target is predicted
    or a share gamma of the values is used up.

    The attack needs a target. ``"next"`` is class y + 1. ``"label"`` is y itself, as in the authors' code: the target
    is then reached before the first step, and all that happens to an image is the clip to [0, 1].
    """
    adversarial, unused = x.clone(), torch.ones_like(x.flatten(1), dtype=torch.bool)
    live = torch.arange(len(x), device=x.device)
    sign = 1 if theta > 0 else -1
    for _ in range(int(gamma * x[0].numel() / 2)):
        image = adversarial[live].requires_grad_()
        logits = predict(image)
        goal = (y[live] + (target == "next")) % logits.shape[1]
        going = logits.argmax(1) != goal
        # The sum over the other classes needs no Jacobian: it is the gradient of all logits' sum less the target's.
        toward = torch.autograd.grad(logits.gather(1, goal[:, None]).sum(), image, retain_graph=True)[0].flatten(1)
        others = torch.autograd.grad(logits.sum(), image)[0].flatten(1) - toward
        pair, found = salient_pair(sign * toward, -sign * others, unused[live])
        live, pair = live[going & found], pair[going & found]
        if not len(live):
            break
        unused[live[:, None], pair] = False
        flat = adversarial[live].flatten(1)
        flat.scatter_(1, pair, flat.gather(1, pair) + theta)
        adversarial[live] = flat.view(-1, *x.shape[1:]).clamp(0, 1)
    return adversarial.clamp(0, 1)


def salient_pair(u: torch.Tensor, v: torch.Tensor, allowed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair i != j of allowed columns with the largest (u_i + u_j)(v_i + v_j), both factors positive, of each row.

    A column with two others that are at least as large in both u and v can be left out: at least one of the two is not
    its partner, and taking that one instead is no worse. What remains is a handful, where all pairs are compared.

    Returns:
        pairs (B, 2), and whether there was one (B,).
    """
    u, v = (each.masked_fill(~allowed, -torch.inf) for each in (u, v))
    order = u.argsort(1, descending=True)
    in_order = v.gather(1, order)
    largest = in_order.cummax(1).values
    second = torch.minimum(in_order[:, 1:], largest[:, :-1]).cummax(1).values  # of the first two, three, ... columns
    needed = torch.ones_like(allowed)
    needed[:, 2:] = in_order[:, 2:] > second[:, :-1]
    width = int(needed.sum(1).max())
    columns = order.gather(1, needed.byte().topk(width, 1).indices)
    u, v = (each.gather(1, columns) for each in (u, v))
    u, v = (each[:, :, None] + each[:, None] for each in (u, v))
    same = torch.eye(width, dtype=torch.bool, device=u.device)
    score = torch.where((u > 0) & (v > 0) & ~same, u * v, 0)
    value, at = score.flatten(1).max(1)
    return columns.gather(1, torch.stack([at // width, at % width], 1)), value > 0


def cw(
    predict: Predict,
    x: torch.Tensor,
    y: torch.Tensor,
    rngs: Generators,
    *,
    confidence: float = 0.0,
    learning_rate: float = 0.01,
    binary_search_steps: int = 9,
    max_iterations: int = 200,
    abort_early: bool = True,
    initial_const: float = 1e-3,
) -> torch.Tensor:
    """The L2 attack of Carlini and Wagner (2017): minimise |x' - x|^2 + c max(0, margin of y + confidence) by Adam over
    w, x' = (tanh(w) + 1) / 2, with a binary search for c; the nearest x' that succeeds is kept.

    ``max_iterations`` is 200, as in the authors' code; AdverTorch's own default is 10,000.
    """
    precision = x.dtype
    x = x.to(torch.promote_types(precision, torch.float32))  # in half precision Adam's 1e-8 would be 0
    start = torch.atanh(0.999999 * (2 * x.clamp(0, 1) - 1))
    origin = (start.tanh() + 1) / 2
    adversarial, nearest = x.clone(), x.new_full((len(x),), torch.inf)
    low, high, const = (x.new_full((len(x),), value) for value in (0, torch.inf, initial_const))
    for _ in range(binary_search_steps):
        w, mean, square = start.clone(), torch.zeros_like(x), torch.zeros_like(x)
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        previous = x.new_full((len(x),), torch.inf)
        live = (nearest > 0).nonzero()[:, 0]  # nothing is nearer than x itself, if the clip has changed its class
        for step in range(max_iterations):
            if not len(live):
                break
            variable = w[live].requires_grad_()
            image = (variable.tanh() + 1) / 2
            logits = predict(image.to(precision))
            distance = (image - origin[live]).square().flatten(1).sum(1)
            label = y[live, None]
            margin = logits.gather(1, label)[:, 0] - logits.scatter(1, label, -torch.inf).amax(1) + confidence
            loss = distance + const[live] * margin.clamp(min=0)
            gradient = torch.autograd.grad(loss.sum(), variable)[0]
            # Adam by hand, because every image stops for itself: torch's counts the steps of all together.
            mean[live] = 0.9 * mean[live] + 0.1 * gradient
            square[live] = 0.999 * square[live] + 0.001 * gradient.square()
            scale = (square[live] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            w[live] -= learning_rate * mean[live] / (1 - 0.9 ** (step + 1)) / scale
            loss, distance, margin, image = (each.detach() for each in (loss, distance, margin, image))
            going = torch.ones_like(live, dtype=torch.bool)
            if abort_early and step % max(1, max_iterations // 10) == 0:
                going = loss <= 0.999999 * previous[live]
                previous[live] = loss
            better = going & (margin < 0)
            found[live[better]] = True
            better &= distance < nearest[live]
            nearest[live[better]], adversarial[live[better]] = distance[better], image[better]
            live = live[going & (nearest[live] > 0)]
        high = torch.where(found, torch.minimum(high, const), high)
        low = torch.where(found, low, torch.maximum(low, const))
        const = torch.where(high.isinf(), 10 * const, (low + high) / 2)
    return adversarial.to(precision)


@torch.no_grad()
def onepixel(predict: Predict, x: torch.Tensor, y: torch.Tensor, rngs: Generators, *, max_pixels: int = 100) -> torch.Tensor:
    """One pixel in black, then in white, at places drawn at random, until one changes the prediction (Narodytska and
    Kasiviswanathan 2016, Algorithm 1: AdverTorch's SinglePixelAttack). Nothing else is clipped."""
    adversarial, live = x.clone(), torch.arange(len(x), device=x.device)
    places = np.stack([rng.permutation(x[0, 0].numel())[:max_pixels] for rng in rngs], 1)
    for place in torch.from_numpy(places).to(x.device):
        for value in (0, 1):
            trial = _changed(x[live], place[live, None], partial(torch.full_like, fill_value=value))
            changed = predict(trial).argmax(1) != y[live]
            adversarial[live[changed]] = trial[changed]
            live = live[~changed]
            if not len(live):
                return adversarial
    return adversarial


@torch.no_grad()
def localsearch(
    predict: Predict,
    x: torch.Tensor,
    y: torch.Tensor,
    rngs: Generators,
    *,
    p: float = 1.0,
    r: float = 1.5,
    d: int = 5,
    t: int = 5,
    round_ub: int = 10,
    seed_ratio: float = 0.1,
    max_nb_seeds: int = 128,
) -> torch.Tensor:
    """Greedy local search (Narodytska and Kasiviswanathan 2016, Algorithm 3), around mid-grey 0.5.

    In a round every candidate pixel is thrown to p times its extreme, and the image clipped; the t pixels that lower
    the probability of the label most are scaled by r, cyclically; the next round's candidates lie within d of them.
    Every image on the way that changes the prediction counts, and the nearest to x is kept. As in AdverTorch, and other
    than in the paper of the attack, a round starts from x again: changes do not add up over the rounds.
    """
    height, width = x.shape[2:]
    best, nearest = x.clone(), x.new_full((len(x),), torch.inf)
    seeds = max(1, min(int(seed_ratio * height * width), max_nb_seeds))
    candidates = [rng.permutation(height * width)[:seeds] for rng in rngs]
    live = np.arange(len(x))
    probability = np.full((len(x), height * width), np.nan)  # of the label: known once a pixel is tried, for all rounds
    for _ in range(round_ub):
        tried = {i: candidates[i][rngs[i].permutation(len(candidates[i]))[:max_nb_seeds]] for i in live}
        new = {i: places[np.isnan(probability[i, places])] for i, places in tried.items()}
        for column in range(max(map(len, new.values()))):
            pairs = np.array([(i, places[column]) for i, places in new.items() if column < len(places)])
            chosen, place = torch.from_numpy(pairs.T).to(x.device)
            trial = _changed(x[chosen], place[:, None], lambda v: 0.5 + p * (v - 0.5).sign()).clamp(0, 1)
            logits = predict(trial)
            probability[tuple(pairs.T)] = logits.softmax(1).gather(1, y[chosen, None])[:, 0].float().cpu().numpy()
            _keep_nearest(best, nearest, x, trial, chosen, logits.argmax(1) != y[chosen])
        ranked = [places[np.argsort(probability[i, places], kind="stable")] for i, places in tried.items()]
        # An image with fewer than t candidates gets some of them twice, which changes them only once.
        strongest = np.stack([np.resize(places[:t], t) for places in ranked])
        chosen, place = (torch.from_numpy(each).to(x.device) for each in (live, strongest))
        trial = _changed(x[chosen], place, lambda v: _cyclic(r, v))
        changed = predict(trial).argmax(1) != y[chosen]
        _keep_nearest(best, nearest, x, trial, chosen, changed)
        for row, i in enumerate(live):
            near = np.zeros((height, width), bool)
            for top, left in zip(*np.divmod(strongest[row], width), strict=True):
                near[max(0, top - d) : top + d + 1, max(0, left - d) : left + d + 1] = True
            candidates[i] = np.flatnonzero(near)
        live = live[~changed.cpu().numpy()]
        if not len(live):
            break
    return best


def _cyclic(r: float, v: torch.Tensor) -> torch.Tensor:
    """Scaled by r around mid-grey; what leaves [0, 1] comes in on the other side (Algorithm 2)."""
    v = r * (v - 0.5)
    return v + (v < -0.5).to(v) - (v > 0.5).to(v) + 0.5


def _keep_nearest(best, nearest, x, trial, chosen, changed) -> None:
    """Store the trials of chosen images that changed the prediction and lie nearer to x than the best so far."""
    distance = (trial - x[chosen]).square().flatten(1).sum(1)
    better = changed & (distance < nearest[chosen])
    best[chosen[better]], nearest[chosen[better]] = trial[better], distance[better]


def _changed(x: torch.Tensor, places: torch.Tensor, rule: Callable) -> torch.Tensor:
    """x with some pixels of each image replaced by a rule; places (B, n) counts them row by row."""
    at = (torch.arange(len(x), device=x.device)[:, None], slice(None), places // x.shape[3], places % x.shape[3])
    x = x.clone()
    x[at] = rule(x[at])
    return x
