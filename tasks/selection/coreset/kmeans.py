"""k-means with k-means++ starts, several of them, the best one kept.

The paper clusters with scikit-learn's defaults and no seed. Ours is seeded, and a cluster that
runs empty takes the row that lies farthest from its centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


def kmeans(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Clusters:
    """Cluster rows by Euclidean distance.

    Of rows with fewer distinct values than ``clusters`` each value is one cluster.

    Raises:
        ValueError: for more clusters than rows.
    """
    if not 1 <= clusters <= len(x_ND):
        raise ValueError(f"{clusters} clusters of {len(x_ND)} rows: at least 1, at most the rows")
    x_ND = x_ND.to(torch.float64)
    centred_ND = x_ND - x_ND.mean(dim=0)  # distances come from products: small numbers are exact
    clusters = min(clusters, len(torch.unique(centred_ND, dim=0)))
    starts = 1 if clusters in {1, len(x_ND)} else _STARTS
    found = [_once(centred_ND, clusters, generator) for _ in range(starts)]
    best = min(found, key=lambda result: result.inertia)
    return Clusters(best.label_N, best.centre_KD + x_ND.mean(dim=0), best.inertia)


def squared_distances(x_ND: Tensor, centre_KD: Tensor) -> Tensor:
    """``N × K``, not negative."""
    products_NK = x_ND @ centre_KD.T
    squares_N1, squares_K = x_ND.square().sum(1, keepdim=True), centre_KD.square().sum(1)
    return (squares_N1 - 2 * products_NK + squares_K).clamp_min_(0)


def _once(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Clusters:
    centre_KD = _plus_plus(x_ND, clusters, generator)
    enough = _TOLERANCE * float(x_ND.var(dim=0, correction=0).mean())
    for _ in range(_ITERATIONS):
        distance_NK = squared_distances(x_ND, centre_KD)
        label_N = _without_empty(distance_NK)
        moved_KD = _means(x_ND, label_N, clusters)
        shift = float((moved_KD - centre_KD).square().sum())
        centre_KD = moved_KD
        if shift <= enough:
            break
    distance_NK = squared_distances(x_ND, centre_KD)
    label_N = _without_empty(distance_NK)
    centre_KD = _means(x_ND, label_N, clusters)
    inertia = float((x_ND - centre_KD[label_N]).square().sum())
    return Clusters(label_N, centre_KD, inertia)


def _plus_plus(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Rows drawn with probability in proportion to the squared distance to those drawn before."""
    first = int(torch.randint(len(x_ND), (1,), generator=generator))
    chosen = [first]
    nearest_N = squared_distances(x_ND, x_ND[[first]])[:, 0]
    for _ in range(clusters - 1):
        nearest_N[chosen] = 0
        if not float(nearest_N.sum()):  # rounding hid what little is left
            nearest_N = torch.ones(len(x_ND), dtype=x_ND.dtype)
            nearest_N[chosen] = 0
        drawn = int(torch.multinomial(nearest_N.cpu(), 1, generator=generator))
        chosen.append(drawn)
        nearest_N = torch.minimum(nearest_N, squared_distances(x_ND, x_ND[[drawn]])[:, 0])
    return x_ND[chosen]


def _without_empty(distance_NK: Tensor) -> Tensor:
    """Each row's nearest centre; a centre that is nobody's gets the row farthest from its own."""
    nearest_N, label_N = distance_NK.min(dim=1)
    sizes = torch.bincount(label_N, minlength=distance_NK.shape[1])
    for cluster in (sizes == 0).nonzero().flatten().tolist():
        alone_N = sizes[label_N] == 1
        row = int(nearest_N.masked_fill(alone_N, -1).argmax())
        sizes[label_N[row]] -= 1
        sizes[cluster] = 1
        label_N[row], nearest_N[row] = cluster, 0
    return label_N


def _means(x_ND: Tensor, label_N: Tensor, clusters: int) -> Tensor:
    sums_KD = torch.zeros((clusters, x_ND.shape[1]), dtype=x_ND.dtype, device=x_ND.device)
    sums_KD.index_add_(0, label_N, x_ND)
    return sums_KD / torch.bincount(label_N, minlength=clusters).unsqueeze(1)
