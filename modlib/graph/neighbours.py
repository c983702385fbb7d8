"""The k nearest rows of every row, by cosine similarity: one exact search for all sizes, in bounded memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from modlib._checks import check_seed, whole_number
from modlib._tensors import full_precision

PANEL_BYTES = 128 * 2**20  # similarities held at a time: bounds the memory, does not change the neighbours

SLICE = 4096  # features multiplied at a time: float32 sums stay short, and of features on disk a slice is in memory

LEAF = 64  # rows below which a square is not divided further: smaller products would not run at full speed

SPARE = 4  # candidates beyond the k-th that are kept, to see what lies near it

GROUP = 16  # rows of a panel whose maximum is looked at first

PAIRS = 16  # rows compared in float64 at a time: they fit in a core's cache

# Similarities nearer to each other than this are decided in float64. Of float32 it is twice the largest error that
# features of trained and untrained networks showed (1.5e-6); of float64, four times GRAIN.
DOUBT = {torch.float32: 2.0**-18, torch.float64: 2.0**-38}

GRAIN = 2.0**-40  # similarities that agree to this are equal: float64 products of the same rows may differ by less


def panel_bytes(n: int) -> int:
    """What the search among n rows of float32 may take beside them: a panel, its copies on the way, the candidates."""
    return 3 * min(PANEL_BYTES, 4 * n * n)


def nearest(x: torch.Tensor, k: int, samples: Sequence[np.ndarray] | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The k most similar other rows of each row and their similarities, most similar first, equal ones by index.

    Similarities come in panels of rows: of each panel only what lies right of the diagonal is multiplied, and serves
    its rows and its columns. Each row keeps the best candidates met so far. What rounding leaves in doubt is computed again
    in float64, so neither panels nor the order of a sum decide who is a neighbour.

    Args:
        x: (N, M) float32 or float64, or float16 that is multiplied as float32; N >= 2, finite, no row zero.
        k: 1 <= k < N, and smaller than every sample.
        samples: indices of rows in rising order: the neighbours are sought within each of these by itself. Where samples
            overlap so much that it is less work, all pairs are multiplied once for all of them.

    Returns:
        of each sample (by default, of all rows) a pair (similarities, neighbours), both (n, k), in the type of the
        products and int64; neighbours are counted within the sample.
    """
    scaled = in_range(x)
    norms = row_norms(scaled)
    if scaled is not x:  # make every row a unit vector first
        x = (scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True, dtype=torch.float64)).to(scaled.dtype)
        norms = torch.ones_like(norms)
    if samples is None:
        samples = [np.arange(len(x))]
    rows = np.unique(np.concatenate(samples))
    together = len(rows) ** 2 < sum(len(sample) ** 2 for sample in samples)
    groups = [(rows, samples)] if together else [(sample, [sample]) for sample in samples]
    with full_precision():
        return [found for rows, group in groups for found in _search(x, norms, rows, group, k)]


def _search(
    x: torch.Tensor, norms: torch.Tensor, rows: np.ndarray, samples: Sequence[np.ndarray], k: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The neighbours within each sample, by one walk over the pairs of rows."""
    n, device = len(rows), x.device
    places = [np.searchsorted(rows, sample) for sample in samples]  # of each sample's rows among these
    kept = [min(k + SPARE, len(place) - 1) for place in places]
    best = [norms.new_full((len(place), keep), -torch.inf) for place, keep in zip(places, kept, strict=True)]
    index = [torch.zeros(values.shape, dtype=torch.int64, device=device) for values in best]
    height = max(1, PANEL_BYTES // (n * norms.element_size()))
    for start in range(0, n, height):
        stop = min(start + height, n)
        panel = _panel(x, norms, rows[start:], stop - start)
        for place, keep, values, found in zip(places, kept, best, index, strict=True):
            first, last = np.searchsorted(place, [start, stop])
            if first == last:
                continue
            part = _cut(panel, place[first:last] - start, place[first:] - start)
            top = part.topk(min(keep, part.shape[1]), 1)
            _merge(values[first:last], found[first:last], top.values, top.indices + first)
            if last < len(place):
                values_down, rows_down = _column_tops(part[:, last - first :], min(keep, last - first))
                _merge(values[last:], found[last:], values_down.T, rows_down.T + first)
            del part
        del panel
    for sample, values, found in zip(samples, best, index, strict=True):
        yield _settle(x, torch.from_numpy(sample), values, found, k)


def _cut(matrix: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
    """Some rows and columns of a matrix: a view where they lie side by side."""
    for dim, chosen in enumerate((rows, columns)):
        chosen = _indices(chosen)
        if isinstance(chosen, slice):
            matrix = matrix.narrow(dim, chosen.start, chosen.stop - chosen.start)
        else:
            matrix = matrix.index_select(dim, chosen.to(matrix.device))
    return matrix


def _indices(rising: np.ndarray) -> slice | torch.Tensor:
    """Rising indices as a slice where they lie side by side."""
    first, last = int(rising[0]), int(rising[-1])
    return slice(first, last + 1) if last - first + 1 == len(rising) else torch.from_numpy(rising)


def product_type(stored: torch.dtype) -> torch.dtype:
    """In what features are multiplied: those stored in float16 in float32."""
    return torch.float32 if stored == torch.float16 else stored


def in_range(x: torch.Tensor) -> torch.Tensor:
    """Rows so long or short that their squares leave the range of their type, times a power of two of their own."""
    kind = product_type(x.dtype)
    largest = torch.stack([part.abs().amax(1) for part in x.split(SLICE, 1)]).amax(0).to(kind)
    far = 1e15 if kind == torch.float32 else 1e150
    outside = torch.isfinite(largest) & (largest > 0) & ((largest < 1 / far) | (largest > far))
    if not outside.any():
        return x
    power = torch.where(outside, -torch.frexp(largest).exponent, 0)
    first = power // 2  # in two steps: the power of the smallest numbers is out of range itself
    return torch.ldexp(torch.ldexp(x.to(kind), first[:, None]), (power - first)[:, None])


def row_norms(x: torch.Tensor) -> torch.Tensor:
    """Row lengths. Refuses rows that have no direction."""
    dtype = product_type(x.dtype)
    parts = [torch.linalg.vector_norm(part, dim=1, dtype=dtype) for part in x.split(SLICE, 1)]
    norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    if not torch.isfinite(norms).all():
        row = int((~torch.isfinite(norms)).nonzero()[0])
        came = x[row][~torch.isfinite(x[row])]
        stored = ", or store them in float32" if x.dtype == torch.float16 else ""
        raise ValueError(
            f"features must be finite; row {row} holds {came[0].item() if len(came) else 'numbers too large to square'}. "
            f"Check the model's weights and its input{stored}"
        )
    if not norms.all():
        raise ValueError(
            f"features row {int((norms == 0).nonzero()[0])} is all zeros, and a zero vector has no cosine similarity. "
            "Leave the sample out, tap the layer before its ReLU, or give dead='isolate'"
        )
    return norms


def _panel(x: torch.Tensor, norms: torch.Tensor, rows: np.ndarray, height: int) -> torch.Tensor:
    """Similarities of the first rows with all of them, (height, len(rows)); own ones -inf."""
    chosen = _indices(rows)
    panel = norms.new_zeros(height, len(rows))
    square = [*_triangle(0, height)]
    for part in x.split(SLICE, 1):
        part = part[chosen].to(norms.dtype)
        for upper, right in [*square, (slice(0, height), slice(height, None))]:
            panel[upper, right].addmm_(part[upper], part[right].T)
    for upper, right in square:
        if upper != right:
            panel[right, upper] = panel[upper, right].T
    norms = norms[chosen]
    panel /= norms[:height, None]  # after the product: exact sums of whole numbers stay exact, and x needs no copy
    panel /= norms
    panel[:, :height].fill_diagonal_(-torch.inf)
    return panel


def _column_tops(matrix: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each column and their rows, as ``topk(count, 0)``, without its walks down single columns.

    The largest lie in those groups of rows that have the largest maxima.
    """
    groups = len(matrix) // GROUP
    if groups <= 4 * count:
        return matrix.topk(count, 0)
    whole = GROUP * groups  # row i is in group i modulo `groups`; the last few are in none
    leading = matrix[:whole].unflatten(0, (GROUP, groups)).amax(0).topk(count, 0).indices
    rows = leading + torch.arange(0, whole, groups, device=matrix.device)[:, None, None]
    rest = torch.arange(whole, len(matrix), device=matrix.device)[:, None].expand(-1, matrix.shape[1])
    rows = torch.cat([rows.flatten(0, 1), rest])
    top = matrix.gather(0, rows).topk(count, 0)
    return top.values, rows.gather(0, top.indices)


def _triangle(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """The upper triangle of a square, diagonal included, in blocks as large as can be."""
    if stop - start <= LEAF:
        yield slice(start, stop), slice(start, stop)
        return
    middle = start + (stop - start + 31) // 32 * 16  # half of it, in sixteens: vectors are full
    yield slice(start, middle), slice(middle, stop)
    yield from _triangle(start, middle)
    yield from _triangle(middle, stop)


def _merge(best: torch.Tensor, index: torch.Tensor, values: torch.Tensor, columns: torch.Tensor) -> None:
    """Keep the largest of what rows have and what comes to them, in place."""
    top = torch.cat([best, values], 1).topk(best.shape[1], 1)
    best[:] = top.values
    index[:] = torch.cat([index, columns], 1).gather(1, top.indices)


def _settle(
    x: torch.Tensor, rows: torch.Tensor, values: torch.Tensor, index: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first k candidates in their true order: similarities in doubt are replaced by those of float64."""
    if x.device.type == "mps":  # has no float64
        x, values, index = x.cpu(), values.cpu(), index.cpu()
    rows = rows.to(x.device)
    n, kept, precision = *values.shape, values.dtype
    doubt, values = DOUBT[precision], values.double()
    close = values[:, :-1] - values[:, 1:] <= doubt
    # Where the last candidate is as near as the k-th, rows that were not kept may be too: ask all of them.
    crowded = (values[:, k - 1] - values[:, -1] <= doubt) & (kept < n - 1)
    row, place = ((F.pad(close, (0, 1)) | F.pad(close, (1, 0))) & ~crowded[:, None]).nonzero(as_tuple=True)
    for i, j in zip(row.split(PAIRS), place.split(PAIRS), strict=True):
        values[i, j] = _grains(_exact(x, rows[i], rows[index[i, j]]))
    step = max(1, PANEL_BYTES // (8 * x.shape[1]))  # rows in float64 at a time
    for i in crowded.nonzero()[:, 0].split(max(1, min(step, PANEL_BYTES // (8 * n)))) if crowded.any() else ():
        units = _units(x, rows[i])
        exact = torch.cat([units @ _units(x, others).T for others in rows.split(step)], 1)
        exact = _grains(exact).scatter_(1, i[:, None], -torch.inf)
        exact, order = exact.sort(dim=1, descending=True, stable=True)
        values[i], index[i] = exact[:, :kept], order[:, :kept]
    index, order = index.sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values[:, :k].to(precision), index.gather(1, order)[:, :k]


def _exact(x: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Similarities of pairs of rows, in float64."""
    products = torch.zeros(3, len(i), dtype=torch.float64, device=x.device)
    for part in x.split(SLICE, 1):
        a, b = part[i].double(), part[j].double()
        products += torch.stack([(a * b).sum(1), (a * a).sum(1), (b * b).sum(1)])
    return products[0] / products[1].sqrt() / products[2].sqrt()


def _units(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Some rows as unit vectors in float64."""
    return F.normalize(x[rows].double(), dim=1, eps=0)


def _grains(similarities: torch.Tensor) -> torch.Tensor:
    """Rounded to multiples of GRAIN."""
    return (similarities / GRAIN).round_() * GRAIN


def sketched(x: torch.Tensor, size: int, seed: int = 0) -> torch.Tensor:
    """Features projected at random onto ``size`` numbers that keep inner products on average.

    A count sketch (Charikar, Chen & Farach-Colton 2002) with buckets of equal size: the features, shuffled and with
    random signs, are dealt out to ``size`` sums. A similarity r becomes an estimate of r with a standard deviation of
    about (1 - r^2) / sqrt(size) where no few features outweigh the others.

    Args:
        x: (N, M) features.
        size: numbers to keep; with M <= size, x comes back as it is.

    >>> x = torch.rand(20, 3000)
    >>> tuple(sketched(x, 256).shape), sketched(x, 3000) is x
    ((20, 256), True)
    """
    size, width, x = whole_number("sketch", size, 1), x.shape[1], in_range(x)
    if width <= size:
        return x
    random = torch.Generator().manual_seed(check_seed(seed))
    order = torch.randperm(width, generator=random, device="cpu").to(x.device)
    signs = (2 * torch.randint(0, 2, (width,), generator=random, device="cpu") - 1).to(x.device, product_type(x.dtype))
    dealt = (F.pad(rows[:, order] * signs, (0, -width % size)) for rows in x.split(64))
    return torch.cat([rows.view(len(rows), -1, size).sum(1) for rows in dealt])


def descend(x: torch.Tensor, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities and indices, (N, k) each, of most of the k most similar other rows, by nearest-neighbour descent.

    Dong, Moses & Li 2011, as implemented by pynndescent: about N^1.14 comparisons instead of N^2.

    Raises:
        ImportError: if pynndescent is not installed.
    """
    threads = torch.get_num_threads()
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise ImportError('search="pynndescent" needs it: pip install pynndescent; or search="exact"') from None
    x = in_range(x.to(product_type(x.dtype)))
    row_norms(x)  # refuses rows that have no direction
    try:
        index, distance = NNDescent(x.cpu().numpy(), metric="cosine", n_neighbors=k + 1, random_state=seed).neighbor_graph
    finally:
        torch.set_num_threads(threads)  # numba sets OpenMP's number for the whole process
    itself = index == np.arange(len(x))[:, None]
    itself[~itself.any(1), -1] = True  # crowded out by copies of it: the last one goes instead
    index, similarity = index[~itself].reshape(-1, k), 1 - distance[~itself].reshape(-1, k)
    similarity[index < 0] = 0  # fewer found than asked for: no edge
    return torch.from_numpy(similarity).to(x.dtype), torch.from_numpy(index.clip(0).astype(np.int64))
