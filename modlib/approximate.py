"""Neighbours that are nearly right, for more samples than the exact search has time for; by request only."""

import numpy as np
import torch
from torch.nn import functional as F

from modlib._checks import whole_number
from modlib.search import product_type, row_norms

ROWS = 64  # samples projected at a time


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
    size, width = whole_number("sketch", size, 1), x.shape[1]
    if width <= size:
        return x
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(width, generator=random).to(x.device)
    signs = (2 * torch.randint(0, 2, (width,), generator=random) - 1).to(x.device, product_type(x.dtype))
    dealt = (F.pad(rows[:, order] * signs, (0, -width % size)) for rows in x.split(ROWS))
    return torch.cat([rows.view(len(rows), -1, size).sum(1) for rows in dealt])


def descend(x: torch.Tensor, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities and indices, (N, k) each, of most of the k most similar other rows, by nearest-neighbour descent.

    Dong, Moses & Li 2011, as implemented by pynndescent: about N^1.14 comparisons instead of N^2.

    Raises:
        ImportError: if pynndescent is not installed.
    """
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise ImportError('search="pynndescent" needs it: pip install pynndescent; or search="exact"') from None
    x = x.to(product_type(x.dtype))
    row_norms(x)  # refuses rows that have no direction
    found = NNDescent(x.cpu().numpy(), metric="cosine", n_neighbors=k + 1, random_state=seed)
    index, distance = found.neighbor_graph
    itself = index == np.arange(len(x))[:, None]
    itself[~itself.any(1), -1] = True  # crowded out by copies of it: the last one goes instead
    index, similarity = index[~itself].reshape(-1, k), 1 - distance[~itself].reshape(-1, k)
    similarity[index < 0] = 0  # fewer found than asked for: no edge
    return torch.from_numpy(similarity).to(x.dtype), torch.from_numpy(index.clip(0).astype(np.int64))
