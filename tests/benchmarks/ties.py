"""How much the choice among equal weights matters: magnitude pruning to 2:4, three tie rules.

    python tests/benchmarks/ties.py --data FOLDER

SmolLM2's weights come from a 4-bit file, so equal magnitudes within a group of four are common.
Results: setting_r.md.
"""

from __future__ import annotations

import torch
from common import arguments, load, print_environment
from torch import Tensor

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core import masks


def first_go(scores: Tensor) -> Tensor:
    """Of equal scores the one with the lower index is pruned."""
    lowest = scores.view(-1, 4).sort(dim=1, stable=True).indices[:, :2]
    mask = torch.zeros(scores.numel() // 4, 4, dtype=torch.bool)
    return mask.scatter_(1, lowest, True).view_as(scores)


RULES = {
    "torch.topk, as in Wanda's code": lambda scores: masks.lowest_of_groups(scores, 2, 4),
    "lower index goes": first_go,
    "higher index goes": lambda scores: first_go(scores.flip(1)).flip(1),
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    layers = bench.decoder.layers()
    tied = groups = 0
    for layer in layers.values():
        ordered = layer.weight_OI.abs().reshape(-1, 4).sort(dim=1).values
        tied += int((ordered[:, 1] == ordered[:, 2]).sum())
        groups += len(ordered)
    print(f"{tied / groups:.1%} of the groups have equal magnitudes on both sides of the cut")
    for name, rule in RULES.items():
        pruned = {
            f"{key}.weight": layer.weight_OI.masked_fill(rule(layer.weight_OI.abs()), 0)
            for key, layer in layers.items()
        }
        bench.model.load_state_dict(pruned, strict=False)
        value = perplexity(bench.model, bench.test, batch_size=8).perplexity
        bench.model.load_state_dict(original)
        print(f"{name:<32} {value:.1f}", flush=True)


if __name__ == "__main__":
    main()
