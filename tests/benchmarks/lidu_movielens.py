"""LiDu in the setting of its paper: matrix factorisation with samples of its factors.

    python tests/benchmarks/lidu_movielens.py [--interactions ml-100k.inter] [--seeds 3]

*Synthetic*: users and items with Gaussian factors and a few noisy ratings each, whose exact
posterior a Gibbs sampler draws from. *MovieLens-100K*: an ensemble of BPR models on interactions
with Bayesian-bootstrap weights, on a random split and on one by time. Each table gives Spearman
correlations of an estimate without labels with each user's NDCG@10, and the partial one given how
many ratings (synthetic) or test positives (MovieLens) the user has.

MovieLens is read from the installed package `recbole==1.2.1` (`pip install --no-deps`), or from
the file that is named; without either only the synthetic table is made. The ratings are GroupLens'
(research use, no redistribution). Results: lidu.md.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import print_environment
from torch import Tensor
from torch.nn import functional

from tasks.measures.uncertainty.lidu import Form, estimators, lidu
from tasks.measures.uncertainty.ranks import partial_spearman, spearman

K = 10
SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
SHOWN: tuple[tuple[str, Form, bool], ...] = (
    ("LiDu later_sum, independent", "later_sum", False),
    ("LiDu later_sum, paired", "later_sum", True),
    ("LiDu later, independent", "later", False),
    ("LiDu later, paired", "later", True),
    ("LiDu boundary, paired", "boundary", True),
    ("LiDu adjacent, paired", "adjacent", True),
)
SIGNS = {"std_top": -1, "std_all": -1, "entropy": -1, "maximum": 1, "mean_top": 1, "spread": 1,
         "overlap": 1, "margin": 1}  # fmt: skip
"""Of what is shown: more of it is taken for a better list (1), or for a worse one."""


@dataclass(frozen=True)
class Lists:
    """What users are shown.

    Attributes:
        scores: of each user, samples × candidates.
        quality: each user's NDCG@10 of the list by mean score.
        given: what the partial correlation holds fixed, by user.
        covariate: what is known of a user without any model: (its name, by user).
    """

    scores: list[Tensor]
    quality: list[float]
    given: list[float]
    covariate: tuple[str, list[float]]


def correlations(lists: Lists) -> Iterator[tuple[str, float, float]]:
    """(estimate, Spearman with quality, the partial one)."""
    rows: dict[str, list[float]] = {}
    for scores_TA in lists.scores:
        for name, form, paired in SHOWN:
            found = -lidu(scores_TA, K, form=form, paired=paired).values
            rows.setdefault(name, []).append(float(found))
        for name, value in estimators(scores_TA, K).items():
            rows.setdefault(name, []).append(SIGNS[name] * float(value))
    rows[lists.covariate[0]] = lists.covariate[1]
    for name, values in rows.items():
        raw = spearman(values, lists.quality)
        part = partial_spearman(values, lists.quality, lists.given)
        yield name, raw or 0.0, part or 0.0


def ndcg(scores_A: Tensor, gains_A: Tensor) -> float:
    """Of the first ten by score; 0 where nothing is gained by any order."""
    discount = 1 / torch.arange(2, K + 2, dtype=torch.float64).log2()
    order = scores_A.argsort(descending=True, stable=True)[:K]
    best = gains_A.sort(descending=True).values[:K].double()
    ideal = float(best @ discount[: len(best)])
    return float(gains_A[order].double() @ discount[: len(order)]) / ideal if ideal else 0.0


def synthetic(
    seed: int, *, users: int = 400, items: int = 300, width: int = 6, noise: float = 0.5,
    samples: int = 40, burn_in: int = 40, apart: int = 3,
) -> Lists:  # fmt: skip
    """Probabilistic matrix factorisation with known precisions, and its exact posterior."""
    draw = torch.Generator().manual_seed(seed)
    normal = {"generator": draw, "dtype": torch.float64}
    true_UD, true_ID = torch.randn(users, width, **normal), torch.randn(items, width, **normal)
    true_UI = true_UD @ true_ID.T
    counts = torch.rand(users, generator=draw, dtype=torch.float64)
    counts = (math.log(4) + counts * math.log(120 / 4)).exp().round().long()
    rated_UI = torch.rand(users, items, generator=draw).argsort(1).argsort(1) < counts[:, None]
    ratings_UI = true_UI + noise * torch.randn(users, items, **normal)
    precision, seen_UI = 1 / noise**2, rated_UI.double()

    def conditional(other_JD: Tensor, seen_NJ: Tensor, ratings_NJ: Tensor) -> Tensor:
        """A draw of the factors of one side, given the other's."""
        outer_JE = (other_JD[:, :, None] * other_JD[:, None]).flatten(1)
        inverse_NDD = precision * (seen_NJ @ outer_JE).view(-1, width, width)
        inverse_NDD += torch.eye(width, dtype=torch.float64)
        factor = torch.linalg.cholesky(inverse_NDD)
        target = precision * ((seen_NJ * ratings_NJ) @ other_JD)[..., None]
        mean = torch.cholesky_solve(target, factor)
        white = torch.randn(mean.shape, **normal)
        return (mean + torch.linalg.solve_triangular(factor.mT, white, upper=True))[..., 0]

    item_ID = torch.randn(items, width, **normal)
    kept: list[Tensor] = []
    for step in range(burn_in + apart * samples):
        user_UD = conditional(item_ID, seen_UI, ratings_UI)
        item_ID = conditional(user_UD, seen_UI.T, ratings_UI.T)
        if step >= burn_in and (step - burn_in) % apart == 0:
            kept.append(user_UD @ item_ID.T)
    scores_UTI = torch.stack(kept, dim=1)
    gains_UI = (true_UI - true_UI.median(1, keepdim=True).values).clamp(min=0)
    return Lists(
        list(scores_UTI),
        [ndcg(s.mean(0), g) for s, g in zip(scores_UTI, gains_UI, strict=True)],
        counts.double().tolist(),
        ("number of ratings", counts.double().tolist()),
    )


@dataclass(frozen=True)
class Split:
    """Pairs of user and item, both numbered from 0."""

    train_N2: Tensor
    test_N2: Tensor
    users: int
    items: int


def read_interactions(path: Path) -> Tensor:
    """User, item and time of the ratings of at least 4, users and items numbered anew.

    Raises:
        ValueError: the file is not MovieLens-100K as recbole 1.2.1 has it.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{path} is not ml-100k.inter of recbole 1.2.1")
    rows = [line.split("\t") for line in content.decode().splitlines()[1:]]
    liked = [(int(u), int(i), float(t)) for u, i, r, t in rows if float(r) >= 4]
    columns = list(zip(*liked, strict=True))
    numbered = [torch.tensor(c).unique(return_inverse=True)[1] for c in columns[:2]]
    return torch.stack([*numbered, torch.tensor(columns[2], dtype=torch.int64)], dim=1)


def split(liked_N3: Tensor, *, by_time: bool, seed: int = 0) -> Split:
    """Four fifths of each user's to learn from; the rest, or the latest ones, to be judged by."""
    draw = torch.Generator().manual_seed(seed)
    shuffled = liked_N3[torch.randperm(len(liked_N3), generator=draw)]
    if by_time:
        shuffled = shuffled[shuffled[:, 2].argsort(stable=True)]
    users, items = (int(liked_N3[:, side].max()) + 1 for side in (0, 1))
    train, test = [], []
    for user in range(users):
        mine = shuffled[shuffled[:, 0] == user, :2]
        first = math.ceil(0.8 * len(mine))
        train.append(mine[:first])
        test.append(mine[first:])
    return Split(torch.cat(train), torch.cat(test), users, items)


def fit(
    data: Split, seed: int, *, weighted: bool, width: int = 16, epochs: int = 20,
    rate: float = 0.05, decay: float = 0.01, batch: int = 8192, scale: float = 0.01,
    negatives: str = "unmet", bias: bool = True,
) -> Tensor:  # fmt: skip
    """One member: BPR; scores, users × items.

    Args:
        weighted: with an exponential weight for each interaction (the Bayesian bootstrap).
        negatives: uniform among what the user has not met (``unmet``) or among all items, of which
            those that he has met teach nothing (``dropped``) or count (``any``).
        bias: whether items have one.
        decay: times the mean over a batch of its embeddings' squared length.
        scale: of the factors at first.
    """
    draw = torch.Generator().manual_seed(seed)
    user_UD = (scale * torch.randn(data.users, width, generator=draw)).requires_grad_()
    item_ID = (scale * torch.randn(data.items, width, generator=draw)).requires_grad_()
    bias_I = torch.zeros(data.items, requires_grad=bias)
    weights_N = torch.ones(len(data.train_N2))
    if weighted:
        weights_N = -torch.rand(len(weights_N), generator=draw).clamp(min=1e-9).log()
    optimiser = torch.optim.Adam([user_UD, item_ID, *([bias_I] if bias else [])], lr=rate)
    seen_UI = torch.zeros(data.users, data.items, dtype=torch.bool)
    seen_UI[data.train_N2[:, 0], data.train_N2[:, 1]] = True
    for _ in range(epochs):
        for chosen in torch.randperm(len(weights_N), generator=draw).split(batch):
            users, liked = data.train_N2[chosen].T
            other = torch.randint(0, data.items, liked.shape, generator=draw)
            while negatives == "unmet" and (met := seen_UI[users, other]).any():
                other[met] = torch.randint(0, data.items, (int(met.sum()),), generator=draw)
            weight = weights_N[chosen]
            if negatives == "dropped":
                weight = weight * ~seen_UI[users, other]
            u, i, j = user_UD[users], item_ID[liked], item_ID[other]
            gap = (u * (i - j)).sum(1) + bias_I[liked] - bias_I[other]
            size = (u**2 + i**2 + j**2).sum(1) + bias_I[liked] ** 2 + bias_I[other] ** 2
            loss = (-functional.logsigmoid(gap) * weight + decay * size).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return (user_UD @ item_ID.T + bias_I).detach()


def movielens(data: Split, *, members: int = 8, **how: Any) -> tuple[Lists, float]:
    """The lists of all unseen items, and one member's own NDCG.

    Args:
        how: as :func:`fit` takes it.
    """
    scores_TUI = torch.stack([fit(data, seed, weighted=True, **how) for seed in range(members)])
    learned = torch.bincount(data.train_N2[:, 0], minlength=data.users)
    lists = Lists([], [], [], ("few training interactions", []))
    alone: list[float] = []
    for user in range(data.users):
        liked = data.test_N2[data.test_N2[:, 0] == user, 1]
        if not len(liked):
            continue
        unseen = torch.ones(data.items, dtype=torch.bool)
        unseen[data.train_N2[data.train_N2[:, 0] == user, 1]] = False
        gains = torch.zeros(data.items).index_fill(0, liked, 1.0)[unseen]
        scores_TA = scores_TUI[:, user, unseen]
        lists.scores.append(scores_TA)
        lists.quality.append(ndcg(scores_TA.mean(0), gains))
        lists.given.append(float(len(liked)))
        lists.covariate[1].append(-float(learned[user]))
        alone.append(ndcg(scores_TA[0], gains))
    return lists, math.fsum(alone) / len(alone)


def print_table(title: str, columns: Mapping[str, Lists]) -> None:
    """A row an estimate: Spearman, and in brackets the partial one."""
    told = [{n: (a, b) for n, a, b in correlations(x)} for x in columns.values()]
    print(f"| {title} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name in told[0]:
        cells = [f"{raw:+.3f} ({part:+.3f})" for raw, part in (found[name] for found in told)]
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


def installed() -> Path | None:
    """The file of the installed recbole, which is not imported."""
    spec = find_spec("recbole")
    places = (spec.submodule_search_locations or []) if spec else []
    files = [Path(place) / "dataset_example/ml-100k/ml-100k.inter" for place in places]
    return next((file for file in files if file.is_file()), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interactions", type=Path, default=installed(), help="ml-100k.inter")
    parser.add_argument("--seeds", type=int, default=3, help="of the synthetic data")
    how = parser.add_argument_group("how MovieLens's members are trained")
    how.add_argument("--negatives", choices=("unmet", "dropped", "any"), default="unmet")
    how.add_argument("--batch", type=int, default=8192)
    how.add_argument("--scale", type=float, default=0.01, help="of the factors at first")
    how.add_argument("--decay", type=float, default=0.01, help="L2")
    how.add_argument("--bias", action=argparse.BooleanOptionalAction, default=True)
    how.add_argument("--split", type=int, default=0, help="seed of what is held out")
    options = parser.parse_args()
    print_environment()
    start = time.process_time()
    drawn = {f"seed {seed}": synthetic(seed) for seed in range(options.seeds)}
    if drawn:
        print_table("synthetic, Spearman with NDCG@10 (partial given the ratings)", drawn)
        print(f"{time.process_time() - start:.0f} s of processor time\n")
    if options.interactions is None:
        print("MovieLens-100K is not here: install recbole==1.2.1 with --no-deps")
        return
    liked_N3 = read_interactions(options.interactions)
    columns: dict[str, Lists] = {}
    for name, by_time in (("random split", False), ("split by time", True)):
        start = time.process_time()
        lists, alone = movielens(
            split(liked_N3, by_time=by_time, seed=options.split),
            negatives=options.negatives,
            batch=options.batch,
            scale=options.scale,
            decay=options.decay,
            bias=options.bias,
        )
        mean = math.fsum(lists.quality) / len(lists.quality)
        columns[f"{name}, NDCG {mean:.4f} (one member {alone:.4f})"] = lists
        print(f"{name}: {len(lists.quality)} users, "
              f"{time.process_time() - start:.0f} s of processor time", flush=True)  # fmt: skip
    print()
    print_table("MovieLens-100K, Spearman with NDCG@10 (partial given the positives)", columns)


if __name__ == "__main__":
    main()
