"""Ridge regression for the columns that stay where heads and channels were removed.

A block's groups act through the attention's output projection, its channels through the MLP's last
matrix. W is the weight of one of the two and a its input in the unpruned block. Of its columns, R
go and K stay. The latter become W_K + D, where D minimises

    mean_t 2‖W_R a_R − D a_K‖² + λ‖D‖²,    D = W_R H_RK (H_KK + λI)⁻¹,    H = mean_t 2a aᵀ.

λ is ``damping`` times the mean of H's diagonal. By default it is ten times SparseGPT's, which is
better on text that was not seen (``tests/benchmarks/policy_gradient.md``). Where one column is
far larger than the others, λ follows it and little is made up for. H is from one pass of the block,
on what its compensated predecessors put out. Biases stay as they are.

Shapes: ``O`` out-features, ``I`` in-features, of which ``K`` stay and ``R`` go.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor

from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.clock import now
from tasks.pruning.core.hessian import Hessian, damped_root, require_finite
from tasks.pruning.core.methods import Progress
from tasks.pruning.core.notes import DAMPED_MORE
from tasks.pruning.core.structure import Kept, masked_block, structure_of

VERSION = 1
"""Raise it when results change, whatever method chose what stays."""


def compensate(
    decoder: Decoder,
    kept: Sequence[Kept],
    tokens_NL: Tensor,
    damping: float,
    into: MutableMapping[str, Tensor],
    *,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Put the weights of ``masked_weights`` into ``into``, with the remaining columns compensated.

    Args:
        kept: of each block.
        tokens_NL: calibration windows.
        damping: λ as a multiple of the mean of H's diagonal.

    Returns:
        Figures: ``calibration_seconds``, and how many Hessians needed more damping.

    Raises:
        ValueError: a layer's inputs or its new weights are not finite.
    """
    if len(kept) != len(decoder.blocks):
        raise ValueError(f"{len(kept)} choices for {len(decoder.blocks)} blocks")
    structure = structure_of(decoder)
    home = next(decoder.model.parameters()).device
    device = device or home
    todo, raised, solving = iter(kept), 0, 0.0
    start = now(device)

    def visit(at_work: BlockAtWork) -> dict[str, Tensor]:
        nonlocal raised, solving
        mine = next(todo)
        replaced = masked_block(at_work.block, structure, mine)
        stays = {
            structure.attention_out: structure.query_features(mine.groups_G),
            structure.channel_out: mine.channels_C,
        }
        changed = {name: stays_I for name, stays_I in stays.items() if not stays_I.all()}
        collected = at_work.collect(_hessian, changed) if changed else {}
        begun = now(device)
        for name, stays_I in changed.items():
            weight_OI = at_work.block.get_parameter(f"{name}.weight").detach()
            hessian_II = collected.pop(name).hessian()
            try:
                found, used = ridge_compensated(weight_OI, hessian_II, stays_I, damping)
            except ValueError as error:
                raise ValueError(f"{at_work.name}.{name}: {error}") from error
            replaced[f"{name}.weight"] = found
            raised += used > damping
        for name, weight in replaced.items():
            into[f"{at_work.name}.{name}"] = weight.to(home)
        solving += now(device) - begun
        return replaced

    walk(decoder, tokens_NL, visit, device=device, progress=progress)
    passing = now(device) - start - solving
    return {"calibration_seconds": passing, DAMPED_MORE: float(raised)}


def _hessian(in_features: int, device: torch.device) -> Hessian:
    return Hessian(in_features, device, damping=0.0)


def ridge_compensated(
    weight_OI: Tensor, hessian_II: Tensor, stays_I: Tensor, damping: float
) -> tuple[Tensor, float]:
    """The weight with zeros in the columns that go, and the remaining ones compensated.

    Args:
        hessian_II: H, float32.
        stays_I: True for the columns that stay.
        damping: λ as a multiple of the mean of H's diagonal; raised where float32 needs more.

    Returns:
        The new weight, in the dtype of ``weight_OI``, and the damping.

    Raises:
        ValueError: H or the new weight is not finite.
    """
    require_finite(hessian_II)
    stays_I = stays_I.to(weight_OI.device)
    full_OI = weight_OI.float()
    made_OI = full_OI * stays_I
    mean = float(hessian_II.diagonal().mean())
    if mean != 0.0:
        target_OK = full_OI[:, ~stays_I] @ hessian_II[~stays_I][:, stays_I]
        root_KK, damping = damped_root(lambda: hessian_II[stays_I][:, stays_I], damping, mean)
        made_OI[:, stays_I] += torch.cholesky_solve(target_OK.T, root_KK).T
    made_OI = made_OI.to(weight_OI.dtype)
    if not torch.isfinite(made_OI).all():
        raise ValueError("compensation made weights that are not finite")
    return made_OI, damping
