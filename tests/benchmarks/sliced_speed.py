"""Tokens a second of SmolLM2 with heads and channels cut out, against the dense model.

    python tests/benchmarks/sliced_speed.py --data FOLDER

Which heads and channels go is random (speed does not depend on which), the highest scores of all
blocks together, so that blocks end with different widths as in a real run. `0.3 by 32` rounds each
block's channels to a multiple of 32. Models alternate within each repetition, in an order that
turns, and a ratio is the median over the repetitions of that within one: a machine shared with
other jobs disturbs them alike. Where that is not enough, `--clock cpu --threads 1` counts the
processor's seconds instead of the wall's. Prefill is measured three ways: as `generate` does it
(logits of the last token only), with the logits of every token as for perplexity, and without the
LM head, which is not pruned. Results: sliced_speed.md.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import arguments, load, print_environment
from torch import Tensor
from transformers import PreTrainedModel
from weight_bytes import bytes_on_disk

from tasks.models.architecture.decoder import describe
from tasks.models.saved.compact import compact_
from tasks.models.saved.sliced import save_compact
from tasks.pruning.core.structure import Kept, masked_weights, structure_of

SPARSITIES = (0.1, 0.2, 0.3)
STEPS = 16
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


def highest(scores_LN: Tensor, keep: float) -> Tensor:
    """The share ``keep`` of all scores, the highest, and at least one in each block."""
    flags_LN = torch.zeros_like(scores_LN, dtype=torch.bool)
    flags_LN[torch.arange(len(scores_LN)), scores_LN.argmax(dim=1)] = True
    rest = scores_LN.masked_fill(flags_LN, float("inf")).flatten()
    flags_LN.view(-1)[rest.topk(round(keep * rest.numel())).indices] = True
    return flags_LN


def random_kept(model: PreTrainedModel, sparsity: float, multiple: int = 1) -> tuple[Kept, ...]:
    """Random heads and channels, channels rounded to ``multiple`` in each block."""
    decoder = describe(model)
    structure, generator = structure_of(decoder), torch.Generator().manual_seed(0)
    blocks, keep = len(decoder.blocks), 1 - sparsity
    groups_LG = highest(torch.rand(blocks, structure.groups, generator=generator), keep)
    scores_LC = torch.rand(blocks, structure.channels, generator=generator)
    channels_LC = highest(scores_LC, keep)
    for flags_C, scores_C in zip(channels_LC, scores_LC, strict=True):
        count = max(1, round(int(flags_C.sum()) / multiple)) * multiple
        flags_C.fill_(False)
        flags_C[scores_C.topk(count).indices] = True
    return tuple(Kept(*pair) for pair in zip(groups_LG, channels_LC, strict=True))


def saved_bytes(model: PreTrainedModel, kept: tuple[Kept, ...]) -> int:
    """Of the weight files that ``save_compact`` writes, in the model's dtype."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        save_compact(model, kept, out, out, dtype=model.dtype, metadata={})
        return bytes_on_disk(out)


def check(model: PreTrainedModel, smaller: PreTrainedModel, kept: tuple[Kept, ...]) -> float:
    """Largest difference of logits from the masked model's, of the largest logit."""
    original = {name: value.clone() for name, value in model.state_dict().items()}
    ids_BL = torch.arange(64)[None]
    given = smaller(ids_BL).logits
    model.load_state_dict(dict(masked_weights(describe(model), kept)), strict=False)
    wanted = model(ids_BL).logits
    model.load_state_dict(original)
    return float((given - wanted).abs().max() / wanted.abs().max())


def decode_seconds(model: PreTrainedModel, ids_BL: Tensor, clock: Clock) -> float:
    """Of ``STEPS`` single tokens after a prompt, with the cache."""
    cache = model(ids_BL[:, :64], use_cache=True, logits_to_keep=1).past_key_values
    token = ids_BL[:, :1]
    start = clock()
    for _ in range(STEPS):
        token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(dim=-1)
    return clock() - start


def works(model: PreTrainedModel, ids_BL: Tensor, clock: Clock) -> dict[str, Callable[[], float]]:
    """Name → measures it, in tokens a second."""

    def rate(work: Callable[[], object]) -> float:
        start = clock()
        work()
        return ids_BL.numel() / (clock() - start)

    return {
        "prefill": lambda: rate(lambda: model(ids_BL, logits_to_keep=1)),
        "all logits": lambda: rate(lambda: model(ids_BL, use_cache=False)),
        "no head": lambda: rate(lambda: model.get_decoder()(ids_BL, use_cache=False)),
        "decode": lambda: STEPS / decode_seconds(model, ids_BL, clock),
    }


def turned(names: list[str], turn: int) -> list[str]:
    turn %= len(names)
    return names[turn:] + names[:turn]


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_environment()
    bench = load(options)
    dense, ids_BL = bench.model, bench.test[:1].long()
    models = {"dense": dense}
    print("model        parameters   bytes on disk   largest difference of logits from the masked")
    nothing = random_kept(dense, 0.0)
    print(f"{'dense':<11}{dense.num_parameters():>12}{saved_bytes(dense, nothing):>16}")
    rows = [(f"{sparsity}", sparsity, 1) for sparsity in SPARSITIES] + [("0.3 by 32", 0.3, 32)]
    for name, sparsity, multiple in rows:
        kept = random_kept(dense, sparsity, multiple)
        models[name] = compact_(copy.deepcopy(dense), kept)
        size, difference = saved_bytes(dense, kept), check(dense, models[name], kept)
        print(f"{name:<11}{models[name].num_parameters():>12}{size:>16}{difference:>12.1e}")
    measures = {name: works(model, ids_BL, CLOCKS[options.clock]) for name, model in models.items()}
    columns = list(measures["dense"])
    figures = {name: {column: list[float]() for column in columns} for name in models}
    for repetition in range(options.repetitions + 1):
        for column in columns:
            for name in turned(list(models), repetition):
                value = measures[name][column]()
                if repetition:  # the first warms up
                    figures[name][column].append(value)
    print(
        f"\ntokens a second of the {options.clock}, {ids_BL.shape[1]} tokens, batch 1: "
        f"median of {options.repetitions} (times dense: median of the ratios, ratio of the best)"
    )
    print("model      " + "".join(column.rjust(22) for column in columns))
    for name, of_model in figures.items():
        line = f"{name:<11}"
        for column in columns:
            values, base = of_model[column], figures["dense"][column]
            ratio = statistics.median(v / d for v, d in zip(values, base, strict=True))
            best = max(values) / max(base)
            line += f"{statistics.median(values):.1f} ({ratio:.2f}, {best:.2f})".rjust(22)
        print(line)


if __name__ == "__main__":
    main()
