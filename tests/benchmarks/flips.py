"""What judging a choice costs: whole passes, and those that begin at a flipped block.

    python tests/benchmarks/flips.py --data FOLDER [--dtype bfloat16]

Processor seconds of one thread for 8×128 tokens: the judgement that records, a whole one, and ones
from a quarter, half and three quarters of the blocks on, by how many sequences are passed at once.
All judge one choice, so all divergences must agree. Results: policy_gradient.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from common import arguments, load, print_environment

from tasks.pruning.core.methods import LearningInputs
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.flip_gradient import judge as judging
from tasks.pruning.flip_gradient.choice import Choice
from tasks.pruning.flip_gradient.prior import prior

LENGTH, SEQUENCES = 128, 8


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """(processor seconds, divergence)."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(samples=2, windows=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print_environment()
    bench = load(options)
    known = prior(
        bench.decoder,
        LearningInputs(tokens_NL=bench.calibration, loss=lambda *_: torch.zeros(())),
    )
    choice = Choice.by_prior(known, 0.2)
    windows = Sequences(bench.calibration, prefix=len(bench.prefix)).cut(LENGTH)[:SEQUENCES]
    blocks, vocabulary = len(bench.decoder.blocks), bench.model.config.get_text_config().vocab_size
    print("| at once | begin | whole | from a quarter | half | three quarters | divergences |")
    print("|---|---|---|---|---|---|---|")
    for together in (1, 2, 4, 8):
        judging._LOGIT_BYTES = 4 * vocabulary * LENGTH * together
        with judging.Judge(bench.decoder, windows) as judge:
            found = [timed(lambda: judge.begin(choice))]
            for since in (0, blocks // 4, blocks // 2, 3 * blocks // 4):
                found.append(timed(lambda since=since: judge(choice, since=since)))
        values = {f"{value:.6f}" for _, value in found}
        seconds = " | ".join(f"{taken:.2f}" for taken, _ in found)
        print(f"| {together} | {seconds} | {', '.join(sorted(values))} |", flush=True)


if __name__ == "__main__":
    main()
