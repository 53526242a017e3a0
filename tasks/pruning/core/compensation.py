"""What stays makes up for removed heads and channels: least squares, block by block.

A block's groups act through the attention's output projection and its channels through the MLP's
last matrix. With W one of the two, a what enters it while all is there, R the columns that go and K
those that stay, the latter become W_K + D, where D minimises

    mean_t 2‖W_R a_R − D a_K‖² + λ‖D‖²,    D = W_R H_RK (H_KK + λI)⁻¹,    H = mean_t 2a aᵀ.

λ is ``damping`` times the mean of H's diagonal. By default it is ten times SparseGPT's: a smaller
one fitted the noise of 8 192 tokens (``tests/benchmarks/policy_gradient.md``). The sums are of one
pass of the block as it is, on what its compensated predecessors put out.

Shapes: ``O`` out-features, ``I`` in-features, of which ``K`` stay and ``R`` go.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor

from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.hessian import Hessian, damped_root
from tasks.pruning.core.methods import Progress
from tasks.pruning.core.structure import Kept, masked_block, structure_of


def compensate(
    decoder: Decoder,
    kept: Sequence[Kept],
    tokens_NL: Tensor,
    damping: float,
    into: MutableMapping[str, Tensor],
    *,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> int:
    """Put the weights of ``masked_weights`` into ``into``, those that stay compensated.

    Args:
        kept: of each block.
        tokens_NL: calibration windows.
        damping: λ in means of H's diagonal.

    Returns:
        How many Hessians needed more damping than that.

    Raises:
        ValueError: inputs of a layer are not finite.
    """
    structure = structure_of(decoder)
    home = next(decoder.model.parameters()).device
    todo, raised = iter(kept), 0

    def visit(at_work: BlockAtWork) -> dict[str, Tensor]:
        nonlocal raised
        mine = next(todo)
        replaced = masked_block(at_work.block, structure, mine)
        stays = {
            structure.attention_out: structure.query_features(mine.groups_G),
            structure.channel_out: mine.channels_C,
        }
        changed = {name: stays_I for name, stays_I in stays.items() if not stays_I.all()}
        sums = at_work.collect(_sum, changed) if changed else {}
        for name, stays_I in changed.items():
            weight_OI = at_work.block.get_parameter(f"{name}.weight").detach()
            try:
                found, used = fitted(weight_OI, sums.pop(name).hessian(), stays_I, damping)
            except ValueError as error:
                raise ValueError(f"{at_work.name}.{name}: {error}") from error
            replaced[f"{name}.weight"] = found
            raised += used > damping
        for name, weight in replaced.items():
            # A copy: on another device the block's own weights return home after the visit.
            into[f"{at_work.name}.{name}"] = weight.to(home)
        return replaced

    walk(decoder, tokens_NL, visit, device=device, progress=progress)
    return raised


def _sum(in_features: int, device: torch.device) -> Hessian:
    return Hessian(in_features, device, damping=0.0)


def fitted(
    weight_OI: Tensor, hessian_II: Tensor, stays_I: Tensor, damping: float
) -> tuple[Tensor, float]:
    """A weight without the columns that go, the others changed to make up for them.

    Args:
        hessian_II: H, float32.
        stays_I: True for the columns that stay.
        damping: in means of H's diagonal; raised where float32 needs more.

    Returns:
        The new weight, in the weight's dtype, and the damping.

    Raises:
        ValueError: H is not finite.
    """
    stays_I = stays_I.to(weight_OI.device)
    full_OI = weight_OI.float()
    made_OI = full_OI * stays_I
    mean = float(hessian_II.diagonal().mean())
    if mean != 0.0:
        missed_OK = full_OI[:, ~stays_I] @ hessian_II[~stays_I][:, stays_I]
        root_KK, damping = damped_root(lambda: hessian_II[stays_I][:, stays_I], damping, mean)
        made_OI[:, stays_I] += torch.cholesky_solve(missed_OK.T, root_KK).T
    return made_OI.to(weight_OI.dtype), damping
