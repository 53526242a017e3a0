"""Random signs that shorten gradients and keep their angles, a block of parameters at a time.

Rademacher projection (Johnson–Lindenstrauss): entries ±1/√D, so that inner products are kept in
expectation and cosines within a few times 1/√D. The matrix is never held whole: 0.5 M parameters
to 1 024 dimensions are 1.9 GB. Each block of signs comes from a generator of its own, named by the
seed and the block's number, so that it does not matter how many rows are projected at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 16_384
"""Parameters whose signs are held at once."""


def project(rows_NP: Tensor, dimensions: int, seed: int) -> Tensor:
    """Rows in fewer dimensions, ``N × D``, float32, on the rows' device."""
    found_ND = torch.zeros((len(rows_NP), dimensions), device=rows_NP.device)
    for number, start in enumerate(range(0, rows_NP.shape[1], BLOCK)):
        part_NB = rows_NP[:, start : start + BLOCK].to(torch.float32)
        found_ND += part_NB @ _signs(part_NB.shape[1], dimensions, seed, number).to(part_NB.device)
    return found_ND / math.sqrt(dimensions)


def _signs(parameters: int, dimensions: int, seed: int, block: int) -> Tensor:
    """±1, ``B × D``; drawn on the CPU, so that a seed means the same everywhere."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**63)
    words = torch.empty((parameters, math.ceil(dimensions / 8)), dtype=torch.uint8)
    words.random_(0, 256, generator=generator)
    bits = (words.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten(1)[:, :dimensions].to(torch.float32).mul_(2).sub_(1)
