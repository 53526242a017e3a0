"""Matching pursuit with non-negative ridge coefficients, started again until the budget is used.

Towards a goal ``b``, atoms ``a_j``: while ‖r‖/‖b‖ ≥ 1e-4 take j = argmax⟨a_j, r⟩, solve
(AAᵀ + λI)x = Ab over what was taken, drop atoms with negative coefficients (the newest one ends
the run), r = b − Aᵀx. When a run ends before the budget is used, what it took is set aside and the
next one starts towards the same ``b``.

From the system, A r = λx on the taken atoms: with λ > 0 a taken atom keeps the inner product λx
with the residual, and the argmax may come back to it. The paper then ends the run.

``repeats="stop"`` is the paper's way: λ = ``ridge``, the first atom alone without it, and an atom
that comes back ends the run. ``repeats="exclude"`` is ours: λ = ``ridge`` times the mean ‖a‖², and
taken atoms are no candidates. In both, an atom that was dropped is none before the next run, where
the authors' code can turn for ever; and what no run will take, because nothing points towards the
goal, is filled up by inner product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.selection.coreset.rows import Rows, rows_of
from tasks.selection.registry import Repeats

_ENOUGH = 1e-4


@dataclass(frozen=True)
class Picks:
    """
    Attributes:
        index: rows of the atoms, in the order in which they were taken.
        coefficient: of each, not negative; 0 where it was filled up.
    """

    index: list[int]
    coefficient: list[float]


def pursue(
    given: Tensor | Rows, goal_D: Tensor, count: int, *, ridge: float, repeats: Repeats
) -> Picks:
    """Take exactly ``count`` atoms whose combination comes near ``goal_D``.

    Raises:
        ValueError: for more atoms than there are.
    """
    atoms, goal_D = rows_of(given), goal_D.to(torch.float64)
    if count > len(atoms):
        raise ValueError(f"{count} of {len(atoms)} atoms are to be taken")
    relative = float(atoms.squares().mean()) if repeats == "exclude" else 1.0
    run = _Run(atoms, goal_D, ridge * relative, repeats)
    left = set(range(len(atoms)))
    index: list[int] = []
    coefficient: list[float] = []
    while len(index) < count:
        taken, x = run(sorted(left), count - len(index))
        if not taken:
            break
        index += taken
        coefficient += x
        left -= set(taken)
    towards_N = atoms.times(goal_D)
    spare = sorted(left, key=lambda row: (-float(towards_N[row]), row))[: count - len(index)]
    return Picks(index + spare, coefficient + [0.0] * len(spare))


@dataclass(frozen=True)
class _Run:
    atoms: Rows
    goal_D: Tensor
    ridge: float
    repeats: Repeats

    def __call__(self, rows: Sequence[int], most: int) -> tuple[list[int], list[float]]:
        """At most ``most`` of ``rows``, and their coefficients."""
        atoms = self.atoms.only(rows)
        allowed_N = torch.ones(len(rows), dtype=torch.bool)
        length = float(self.goal_D.norm())
        taken: list[int] = []
        x = torch.zeros(0, dtype=torch.float64)
        residual_D = self.goal_D
        while len(taken) < most and allowed_N.any() and length:
            if float(residual_D.norm()) / length < _ENOUGH:
                break
            match_N = atoms.times(residual_D).masked_fill(~allowed_N, -torch.inf)
            newest = int(match_N.argmax())
            if newest in taken:
                break
            kept, x_kept = self._solved(atoms, [*taken, newest])
            for dropped in set(taken) - set(kept):
                allowed_N[dropped] = False
            if newest not in kept:
                break
            taken, x = kept, x_kept
            allowed_N[newest] = self.repeats == "stop"
            residual_D = self.goal_D - atoms.take(taken).T @ x
        return [rows[j] for j in taken], x.tolist()

    def _solved(self, atoms: Rows, taken: list[int]) -> tuple[list[int], Tensor]:
        """What stays of ``taken`` once no coefficient is negative, and the coefficients.

        It ends as well when the newest one is dropped, which then is not in what stays.
        """
        newest = taken[-1]
        while taken:
            chosen_MD = atoms.take(taken)
            alone = self.repeats == "stop" and len(taken) == 1
            gram_MM = chosen_MD @ chosen_MD.T
            gram_MM.diagonal().add_(0.0 if alone else self.ridge)
            x = torch.linalg.lstsq(gram_MM, (chosen_MD @ self.goal_D).unsqueeze(1)).solution[:, 0]
            worst = int(x.argmin())
            if float(x[worst]) >= 0:
                return taken, x
            taken = [atom for atom in taken if atom != taken[worst]]
            if newest not in taken:
                break
        return [], torch.zeros(0, dtype=torch.float64)
