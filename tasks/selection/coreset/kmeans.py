"""k-means with k-means++ starts, several of them, the best one kept.

The paper clusters with scikit-learn's defaults and no seed. Ours is seeded, and a cluster that
runs empty takes the row that lies farthest from its centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.selection.coreset.rows import Rows, rows_of, squared_distances, sum_of

_STARTS = 10
_ITERATIONS = 300
_TOLERANCE = 1e-4
"""Of the rows' mean variance: a smaller move of the centres ends a start."""


@dataclass(frozen=True)
class Clusters:
    """
    Attributes:
        label_N: each row's cluster, int64.
        centre_KD: means of the clusters.
        inertia: sum of the squared distances to the centres.
    """

    label_N: Tensor
    centre_KD: Tensor
    inertia: float


def kmeans(
    given: Tensor | Rows,
    clusters: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Clusters:
    """Cluster rows by Euclidean distance.

    Of rows with fewer distinct values than ``clusters`` each value is one cluster.

    Args:
        progress: called with (starts done, starts in all).

    Raises:
        ValueError: for more clusters than rows.
    """
    rows = rows_of(given)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"{clusters} clusters of {len(rows)} rows: at least 1, at most the rows")
    mean_D = rows.mean()
    centred = rows.less(mean_D)  # distances come from products: small numbers are exact
    clusters = _distinct(centred, clusters)
    starts = 1 if clusters in {1, len(rows)} else _STARTS
    found = []
    for start in range(starts):
        found.append(_once(centred, clusters, generator))
        progress(start + 1, starts)
    best = min(found, key=lambda result: result.inertia)
    return Clusters(best.label_N, best.centre_KD + mean_D, best.inertia)


def _distinct(rows: Rows, most: int) -> int:
    """How many different rows there are, up to ``most``."""
    seen_XD = rows.take([0])
    for _, block_BD in rows.blocks():
        seen_XD = torch.unique(torch.cat([seen_XD, block_BD]), dim=0)
        if len(seen_XD) >= most:
            return most
    return len(seen_XD)


def _once(rows: Rows, clusters: int, generator: torch.Generator) -> Clusters:
    centre_KD = _plus_plus(rows, clusters, generator)
    mean_D = rows.mean()
    varying = sum_of((block_BD - mean_D).square().sum(dim=0) for _, block_BD in rows.blocks())
    enough = _TOLERANCE * float((varying / len(rows)).mean())
    for _ in range(_ITERATIONS):
        moved_KD = _moved(rows, centre_KD)
        shift = float((moved_KD - centre_KD).square().sum())
        centre_KD = moved_KD
        if shift <= enough:
            break
    label_N = _nearest(rows, centre_KD)
    centre_KD = _means(rows, label_N, clusters)
    inertia = sum(
        float((block_BD - centre_KD[label_N[part]]).square().sum())
        for part, block_BD in rows.blocks()
    )
    return Clusters(label_N, centre_KD, inertia)


def _plus_plus(rows: Rows, clusters: int, generator: torch.Generator) -> Tensor:
    """Rows drawn with probability in proportion to the squared distance to those drawn before."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    chosen = [first]
    nearest_N = rows.distances(rows.take([first])[0])
    for _ in range(clusters - 1):
        nearest_N[chosen] = 0
        if not float(nearest_N.sum()):  # rounding hid what little is left
            nearest_N = torch.ones(len(rows), dtype=nearest_N.dtype)
            nearest_N[chosen] = 0
        drawn = int(torch.multinomial(nearest_N.cpu(), 1, generator=generator))
        chosen.append(drawn)
        nearest_N = torch.minimum(nearest_N, rows.distances(rows.take([drawn])[0]))
    return rows.take(chosen)


def _moved(rows: Rows, centre_KD: Tensor) -> Tensor:
    """The means of the rows that are nearest to each centre, in one pass over the rows."""
    sums_KD = torch.zeros_like(centre_KD)
    sizes_K = torch.zeros(len(centre_KD), dtype=torch.int64, device=centre_KD.device)
    for _, block_BD in rows.blocks():
        label_B = squared_distances(block_BD, centre_KD).min(dim=1).indices
        sums_KD.index_add_(0, label_B, block_BD)
        sizes_K += torch.bincount(label_B, minlength=len(centre_KD))
    if not int(sizes_K.min()):  # seldom: whose row a lonely centre gets, all rows tell
        return _means(rows, _nearest(rows, centre_KD), len(centre_KD))
    return sums_KD / sizes_K.unsqueeze(1)


def _nearest(rows: Rows, centre_KD: Tensor) -> Tensor:
    """Each row's nearest centre; a centre that is nobody's gets the row farthest from its own."""
    found = [squared_distances(block_BD, centre_KD).min(dim=1) for _, block_BD in rows.blocks()]
    nearest_N, label_N = (torch.cat(parts) for parts in zip(*found, strict=True))
    sizes = torch.bincount(label_N, minlength=len(centre_KD))
    for cluster in (sizes == 0).nonzero().flatten().tolist():
        alone_N = sizes[label_N] == 1
        row = int(nearest_N.masked_fill(alone_N, -1).argmax())
        sizes[label_N[row]] -= 1
        sizes[cluster] = 1
        label_N[row], nearest_N[row] = cluster, 0
    return label_N


def _means(rows: Rows, label_N: Tensor, clusters: int) -> Tensor:
    sums_KD: Tensor | None = None
    for part, block_BD in rows.blocks():
        if sums_KD is None:
            sums_KD = block_BD.new_zeros((clusters, block_BD.shape[1]))
        sums_KD.index_add_(0, label_N[part], block_BD)
    assert sums_KD is not None
    return sums_KD / torch.bincount(label_N, minlength=clusters).unsqueeze(1)
