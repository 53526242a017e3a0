"""k-means, matching pursuit, budgets and selections."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tasks.selection.coreset.kmeans import _moved, _nearest, kmeans
from tasks.selection.coreset.pursuit import pursue
from tasks.selection.coreset.quality import column_norm_error, mean_error, random_error
from tasks.selection.coreset.rows import rows_of
from tasks.selection.coreset.select import Choice, Selection, select

METHODS = ("tagcos", "omp", "kmeans", "stratified", "medoids")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(clusters: int = 5, each: int = 12, dimensions: int = 8) -> Tensor:
    """Rows around well separated centres, cluster by cluster."""
    generator = seeded(7)
    centres = 10 * torch.randn(clusters, dimensions, generator=generator)
    noise = 0.1 * torch.randn(clusters * each, dimensions, generator=generator)
    return centres.repeat_interleave(each, dim=0) + noise


def chosen(x: Tensor, count: int = 10, seed: int = 0, **changes: object) -> Selection:
    return select(x, Choice(count=count, **changes), seeded(seed))  # type: ignore[arg-type]


def test_kmeans_is_as_good_as_scikit_learns() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x = planted()
    found = kmeans(x, 5, seeded())
    theirs = cluster.KMeans(5, n_init=10, random_state=0).fit(x.double().numpy())
    assert found.inertia == pytest.approx(theirs.inertia_, rel=1e-6)


def test_kmeans_finds_planted_clusters_and_their_means() -> None:
    x = planted()
    found = kmeans(x, 5, seeded())
    labels = found.label_N.view(5, 12)
    assert (labels == labels[:, :1]).all()
    assert len(labels[:, 0].unique()) == 5
    means = x.double().view(5, 12, -1).mean(dim=1)
    torch.testing.assert_close(found.centre_KD[labels[:, 0]], means)


def test_kmeans_of_few_different_rows_makes_fewer_clusters() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(4, 1)
    found = kmeans(x, 5, seeded())
    assert len(found.centre_KD) == 2
    assert found.inertia == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("clusters", [0, 4])
def test_kmeans_with_impossible_numbers_is_refused(clusters: int) -> None:
    with pytest.raises(ValueError, match="clusters of 3 rows"):
        kmeans(torch.randn(3, 2), clusters, seeded())


def test_no_cluster_is_empty() -> None:
    x = torch.randn(40, 3, generator=seeded(1))
    for seed in range(10):
        found = kmeans(x, 17, seeded(seed))
        assert len(found.label_N.unique()) == 17


def test_pursuit_of_orthonormal_atoms_recovers_a_sparse_combination() -> None:
    basis = torch.linalg.qr(torch.randn(9, 9, generator=seeded())).Q
    goal = 0.5 * basis[3] + 2.0 * basis[7] + 1.0 * basis[1]
    picks = pursue(basis, goal, 3, ridge=0.0, repeats="exclude")
    assert picks.index == [7, 1, 3]
    assert picks.coefficient == pytest.approx([2.0, 1.0, 0.5], abs=1e-6)


@pytest.mark.parametrize("ridge", [0.1, 1.0])
def test_taken_atoms_keep_what_the_ridge_says_with_the_residual(ridge: float) -> None:
    atoms = torch.nn.functional.normalize(torch.rand(30, 20, generator=seeded()).double(), dim=1)
    goal = atoms.mean(dim=0)
    picks = pursue(atoms, goal, 6, ridge=ridge, repeats="exclude")
    x = torch.tensor(picks.coefficient, dtype=torch.float64)
    taken = atoms[picks.index]
    residual = goal - taken.T @ x
    assert (x > 0).all()
    torch.testing.assert_close(taken @ residual, ridge * x, rtol=1e-9, atol=1e-12)


def test_a_run_that_ends_is_followed_by_another_one_without_what_it_took() -> None:
    # The first run explains the goal with one atom; its copies are what the next ones find.
    atoms = torch.eye(4).repeat(3, 1)
    picks = pursue(atoms, atoms[2], 3, ridge=0.0, repeats="exclude")
    assert sorted(picks.index) == [2, 6, 10]
    assert picks.coefficient == pytest.approx([1.0, 1.0, 1.0])


def test_the_papers_first_atom_has_no_ridge() -> None:
    atoms = torch.eye(3) * 2
    assert pursue(atoms, atoms[1], 1, ridge=1.0, repeats="stop").coefficient == [1.0]
    assert pursue(atoms, atoms[1], 1, ridge=1.0, repeats="exclude").coefficient == [0.5]


@pytest.mark.parametrize("repeats", ["stop", "exclude"])
def test_what_points_away_from_the_goal_is_filled_up_and_nothing_turns_for_ever(
    repeats: str,
) -> None:
    atoms = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-2.0, 0.0]])
    picks = pursue(atoms, torch.tensor([1.0, 0.0]), 4, ridge=0.1, repeats=repeats)  # type: ignore[arg-type]
    assert picks.index[0] == 2
    assert sorted(picks.index) == [0, 1, 2, 3]
    assert pursue(atoms, torch.zeros(2), 2, ridge=0.1, repeats=repeats).index == [0, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 7, 30, 60])
def test_exactly_as_many_different_windows_as_asked_for(method: str, count: int) -> None:
    found = chosen(planted(), count, method=method)
    assert len(set(found.index)) == count
    assert found.index == sorted(found.index)
    assert len(found.weight) == len(found.cluster) == count


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_pool_does_not_matter(method: str) -> None:
    x = torch.randn(50, 6, generator=seeded(2))
    order = torch.randperm(50, generator=seeded(3))
    plain, shuffled = chosen(x, 9, method=method), chosen(x[order], 9, method=method)
    assert sorted(order[shuffled.index].tolist()) == plain.index


@pytest.mark.parametrize("method", ["tagcos", "kmeans", "stratified", "medoids"])
def test_planted_clusters_are_all_covered(method: str) -> None:
    found = chosen(planted(), 5, method=method, clusters=5)
    assert {row // 12 for row in found.index} == set(range(5))


def test_weights_stand_for_their_clusters() -> None:
    x = planted(2, 10)[:14]
    found = chosen(x, 4, clusters=2, weights="cluster")
    by_cluster = {row // 10: weight for row, weight in zip(found.index, found.weight, strict=True)}
    assert sum(found.weight) == pytest.approx(14)
    assert by_cluster[0] > 0
    pursued = chosen(x, 4, clusters=2, weights="pursuit")
    assert sum(pursued.weight) == pytest.approx(14)
    assert min(pursued.weight) >= 0
    assert chosen(x, 4, clusters=2).weight == [1.0] * 4


@pytest.mark.slow
def test_the_same_seed_selects_the_same_in_another_process() -> None:
    lines = (
        "import torch",
        "from tasks.selection.coreset.select import Choice, select",
        "x = torch.randn(60, 5, generator=torch.Generator().manual_seed(9))",
        "seeded = torch.Generator().manual_seed(5)",
        "print(select(x, Choice(count=12, method='stratified'), seeded).index)",
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    x = torch.randn(60, 5, generator=seeded(9))
    here = chosen(x, 12, seed=5, method="stratified").index
    assert done == [f"{here}\n"] * 2
    assert here != chosen(x, 12, seed=6, method="stratified").index


@pytest.mark.parametrize("count", [0, 61])
def test_a_budget_that_the_pool_cannot_meet_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of 60 windows"):
        chosen(planted(), count)


def test_more_clusters_than_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="61 clusters of 60 rows"):
        chosen(planted(), 10, clusters=61)


def test_errors_of_the_whole_pool_are_zero() -> None:
    x = torch.randn(20, 4, generator=seeded())
    everything = list(range(20))
    assert mean_error(x, everything, [1.0] * 20) == pytest.approx(0, abs=1e-7)
    assert random_error(x, 20) == 0
    assert column_norm_error(x.square(), everything, [2.0] * 20) == pytest.approx(0, abs=1e-12)


def test_the_closed_form_is_what_random_windows_have() -> None:
    x = 0.5 + torch.randn(30, 6, generator=seeded())
    generator = seeded(1)
    squares = []
    for _ in range(4000):
        index = torch.randperm(30, generator=generator)[:8].tolist()
        squares.append(mean_error(x, index, [1.0] * 8) ** 2)
    assert random_error(x, 8) == pytest.approx((sum(squares) / 4000) ** 0.5, rel=0.03)


def test_pursuit_comes_nearer_to_the_pool_than_random_windows() -> None:
    x = torch.nn.functional.normalize(0.3 + torch.randn(80, 16, generator=seeded()), dim=1)
    found = chosen(x, 16, method="omp")
    assert mean_error(x, found.index, found.weight) < 0.9 * random_error(x, 16)


def test_errors_follow_the_weights() -> None:
    x = torch.tensor([[1.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    assert mean_error(x, [0, 1], [2.0, 1.0]) == pytest.approx(0)
    assert mean_error(x, [0, 1], [1.0, 1.0]) == pytest.approx(0.25)
    assert column_norm_error(x.square(), [0, 1], [2.0, 1.0]) == pytest.approx(0)


@pytest.mark.parametrize("lonely", [False, True])
def test_a_step_of_kmeans_is_the_means_of_the_nearest_rows(lonely: bool) -> None:
    x_ND = torch.randn(5000, 900, generator=seeded())  # more than one block
    rows = rows_of(x_ND)
    centre_KD = rows.take([0, 1, 2, 3])
    if lonely:
        centre_KD[3] += 1e3
    labels_N = _nearest(rows, centre_KD)
    assert len(set(labels_N.tolist())) == 4
    expected_KD = torch.stack([x_ND[labels_N == k].double().mean(dim=0) for k in range(4)])
    torch.testing.assert_close(_moved(rows, centre_KD), expected_KD)


def test_a_selection_tells_how_far_its_clustering_is() -> None:
    told: list[tuple[int, int]] = []
    x_ND = torch.randn(200, 8, generator=seeded())
    choice = Choice(count=20, clusters=4)
    select(x_ND, choice, seeded(), lambda *parts: told.append(parts))
    assert told == [(start, 10) for start in range(1, 11)]
