"""From features to a selection: how many of each cluster, which, and with what weight.

``tagcos`` is the paper's method: k-means, a budget a cluster in proportion to its size, matching
pursuit towards the cluster's centre. The others leave parts of it out, to show what each part does:

- ``omp``: the pursuit alone, all windows as one cluster;
- ``kmeans``: the clusters, and in each the windows nearest to its centre;
- ``stratified``: the clusters, and in each windows at random;
- ``medoids``: as many clusters as windows are selected, and of each the one nearest to its centre.

Deviation: the paper gives a cluster ⌊share·size⌋, so that small clusters get nothing and fewer are
selected than were asked for. Here budgets sum to what was asked for, and no cluster goes without
where there is one for each. Rows are brought into an order of their own first, so that the order of
the pool does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.selection.coreset.kmeans import Clusters, kmeans
from tasks.selection.coreset.pursuit import Picks, pursue
from tasks.selection.coreset.rows import Rows, rows_of
from tasks.selection.positions import shares
from tasks.selection.registry import CoresetMethod, Repeats, Weights

_MOST_CLUSTERS = 100


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a selection is made.

    Attributes:
        count: windows to select.
        clusters: None for one in four of ``count``, at most 100, as many as the paper's.
        weights: of the selected windows: 1 each; the windows of its cluster that each stands for;
            or its coefficient in the pursuit, normalised, times its cluster's size.
    """

    count: int
    method: CoresetMethod = "tagcos"
    clusters: int | None = None
    ridge: float = 0.1
    repeats: Repeats = "exclude"
    weights: Weights = "none"

    def cluster_count(self) -> int:
        """How many clusters the method makes."""
        if self.method == "omp":
            return 1
        if self.method == "medoids":
            return self.count
        return self.clusters or max(1, min(_MOST_CLUSTERS, self.count // 4))


@dataclass(frozen=True)
class Selection:
    """
    Attributes:
        index: rows that were selected, ascending.
        cluster: of each.
        weight: of each.
        clusters: how many there are.
    """

    index: list[int]
    cluster: list[int]
    weight: list[float]
    clusters: int


def select(
    x_ND: Tensor,
    choice: Choice,
    generator: torch.Generator,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Selection:
    """Choose ``choice.count`` rows, looking at a block of them at a time.

    Args:
        x_ND: in memory or in a mapped file.
        progress: called with (done, total) after each start of the clustering.

    Raises:
        ValueError: for more rows or clusters than there are.
    """
    if not 1 <= choice.count <= len(x_ND):
        raise ValueError(f"{choice.count} of {len(x_ND)} windows are to be selected")
    order = _own_order(x_ND)
    rows = rows_of(x_ND, order)
    found = kmeans(rows, choice.cluster_count(), generator, progress)
    sizes = torch.bincount(found.label_N).tolist()
    budgets = shares(sizes, choice.count, sizes)
    picked: list[tuple[int, int, float]] = []
    for cluster, (size, budget) in enumerate(zip(sizes, budgets, strict=True)):
        members = (found.label_N == cluster).nonzero().flatten()
        picks = _inside(rows.only(members), found, cluster, budget, choice, generator)
        weights = _weights(picks, size, choice)
        picked += [
            (int(order[members[row]]), cluster, weight)
            for row, weight in zip(picks.index, weights, strict=True)
        ]
    index, clusters, weight = map(list, zip(*sorted(picked), strict=True))
    return Selection(index, clusters, weight, len(sizes))


def _own_order(x_ND: Tensor) -> Tensor:
    """Rows sorted by their values, the first column first: rows that tie are the same.

    A column is looked at only of rows that all before it leave tied: seldom the second.
    """
    order = torch.arange(len(x_ND))
    group = torch.zeros(len(x_ND), dtype=torch.int64)  # of each place in the order, ascending
    for column in range(x_ND.shape[1]):
        _, group, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
        tied = (sizes[group] > 1).nonzero().flatten()
        if not len(tied):
            break
        value = x_ND[order[tied], column]
        by = value.argsort(stable=True)
        by = by[group[tied][by].argsort(stable=True)]
        order[tied], value = order[tied][by], value[by]
        # Where a group begins, now that the tied ones are sorted inside theirs.
        new = torch.ones(len(tied), dtype=torch.int64)
        new[1:] = (value[1:] != value[:-1]) | (group[tied][1:] != group[tied][:-1])
        marks = torch.ones(len(order), dtype=torch.int64)
        marks[1:] = group[1:] != group[:-1]
        marks[tied] = new
        group = marks.cumsum(0)
    return order


def _inside(
    rows: Rows,
    found: Clusters,
    cluster: int,
    budget: int,
    choice: Choice,
    generator: torch.Generator,
) -> Picks:
    """``budget`` of one cluster's rows."""
    if choice.method in {"tagcos", "omp"}:
        # The mean of its rows is the cluster's centre.
        return pursue(rows, rows.mean(), budget, ridge=choice.ridge, repeats=choice.repeats)
    if choice.method == "stratified":
        order = torch.randperm(len(rows), generator=generator)
    else:
        order = rows.distances(found.centre_KD[cluster]).argsort(stable=True)
    chosen = order[:budget].tolist()
    return Picks(chosen, [1.0] * len(chosen))


def _weights(picks: Picks, size: int, choice: Choice) -> list[float]:
    count = len(picks.index)
    total = sum(picks.coefficient)
    if choice.weights == "none":
        return [1.0] * count
    if choice.weights == "cluster" or not total:
        return [size / count] * count
    return [size * x / total for x in picks.coefficient]
