"""AST's tokens a second against the passes that it must make, and against a straightforward loop.

    python tests/benchmarks/ast_speed.py --data FOLDER [--micro-batch 2]

The bare passes are the teacher's forward pass and the student's forward and backward pass, of
float32 weights (under autocast in bfloat16) and of cross-entropy alone: no masks, no distillation,
no update. Four forward passes of the dense model are what they would cost if a backward pass cost
two forward passes and nothing were cast. The straightforward loop masks in every forward pass
through autograd, keeps all logits of student and teacher, and updates with one expression after
another; its first losses must be AST's. Beside wall time stands the CPU time of all threads, which
other work on the machine disturbs less. Results: ast.md.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from ast_common import CALIBRATION_WINDOWS
from common import Bench, arguments, load, print_environment
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from tasks.models.architecture.head import split_head
from tasks.pruning.ast import schedules
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core import masks
from tasks.pruning.core.retraining import LocalEngine, Snapshot
from tasks.pruning.core.targets import SemiStructured


class Clock:
    """Wall and CPU seconds between ticks."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.start()

    def start(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def tick(self) -> None:
        now = time.perf_counter(), time.process_time()
        self.wall.append(now[0] - self._last[0])
        self.cpu.append(now[1] - self._last[1])
        self._last = now


class Ticking(LocalEngine):
    """Ticks after every step."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        super().__init__(bench.model)
        self._clock = clock

    def restore(self) -> None:
        self._clock.start()  # what came before was preparation

    def snapshot(self, step: int, take: Callable[[], Snapshot]) -> None:
        del step, take
        self._clock.tick()


def straightforward(
    bench: Bench, method: AdaptiveSparseTrainer, windows_NL: Tensor, clock: Clock
) -> list[float]:
    """The loop as one would first write it; its losses."""
    student = copy.deepcopy(bench.model).requires_grad_(True)
    parameters = dict(student.named_parameters())
    layers = {f"{name}.weight" for name in bench.decoder.layers()}
    pruned = {n: masks.lowest_of_groups(parameters[n].detach().abs(), 2, 4) for n in layers}
    moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in parameters.items()}
    order = schedules.WindowOrder(len(windows_NL), 0)
    alpha, soft, losses = method.alpha, method.temperature, []
    clock.start()
    for step in range(1, method.steps + 1):
        batch = windows_NL[order.batch(step, method.batch)].long()
        total = 0.0
        for ids in batch.split(method.micro_batch):
            weights = {
                n: p + (p.masked_fill(pruned[n], 0) - p).detach() if n in layers else p
                for n, p in parameters.items()
            }
            logits = functional_call(
                student, weights, (), {"input_ids": ids, "use_cache": False}
            ).logits[:, :-1].flatten(0, 1)  # fmt: skip
            with torch.no_grad():
                wanted = bench.model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
            kl = functional.kl_div(
                (logits / soft).log_softmax(-1), (wanted / soft).log_softmax(-1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
            ce = functional.cross_entropy(logits, ids[:, 1:].flatten())
            loss = ((1 - alpha) * ce + alpha * soft**2 * kl) * len(ids) / len(batch)
            loss.backward()
            total += float(loss.detach())
        losses.append(total)
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), method.clip)
        rate = schedules.learning_rate(step, method.steps, method.learning_rate)
        with torch.no_grad():
            for n, p in parameters.items():
                assert p.grad is not None
                m = 0.9 * moments[n][0] + 0.1 * p.grad
                u = m + method.decay_max * (pruned[n] * p) if n in layers else m
                v = 0.95 * moments[n][1] + 0.05 * (u if n in layers else p.grad) ** 2
                moments[n] = m, v
                p.mul_(1 - rate * (method.weight_decay if p.ndim > 1 else 0.0))
                p.sub_(rate / (1 - 0.9**step) * u / ((v / (1 - 0.95**step)).sqrt() + 1e-8))
                p.grad = None
        clock.tick()
    return losses


def bare_passes(
    bench: Bench, windows_NL: Tensor, micro_batch: int, steps: int, clock: Clock
) -> None:
    """The teacher's forward, the student's forward and backward pass over a batch, again and again.

    Args:
        windows_NL: one batch.
    """
    student = copy.deepcopy(bench.model).float().requires_grad_(True)
    engine = LocalEngine(bench.model)
    clock.start()
    for _ in range(steps):
        for part in windows_NL.split(micro_batch):
            ids = part.long()
            with torch.inference_mode():
                bench.model(input_ids=ids, use_cache=False)
            with engine.autocast():
                logits = student(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
                loss = functional.cross_entropy(logits, ids[:, 1:].flatten())
            loss.backward()
        student.zero_grad()
        clock.tick()


def forward(bench: Bench, ids: Tensor, micro_batch: int) -> None:
    """One forward pass of the dense model over a batch, logits and all."""
    with torch.inference_mode():
        for part in ids.split(micro_batch):
            bench.model(input_ids=part.long(), use_cache=False)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4, help="measured, after one to warm up")
    parser.set_defaults(samples=CALIBRATION_WINDOWS + 64)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    windows = bench.calibration[CALIBRATION_WINDOWS:]
    tokens = options.batch * windows.shape[1]
    method = AdaptiveSparseTrainer(
        steps=options.steps + 2,  # one warms up, after the last no snapshot is asked for
        batch=options.batch,
        micro_batch=options.micro_batch,
        decay="static",
        mask_interval=options.steps,
    )
    four, bare, ours, plain = Clock(), Clock(), Clock(), Clock()
    for _ in range(options.steps + 1):
        forward(bench, windows[: options.batch], options.micro_batch)
        four.tick()
    bare_passes(bench, windows[: options.batch], options.micro_batch, options.steps + 1, bare)
    result = method.retrain(
        bench.decoder,
        SemiStructured(2, 4),
        windows,
        seed=0,
        engine=Ticking(bench, ours),
        split=split_head,
    )
    first = straightforward(bench, method, windows, plain)[0]
    print(f"first loss: {result.history[0]['loss']:.4f}, straightforward {first:.4f}\n")
    print("| | wall s a step | tokens/s | CPU s a step | of the bare passes' tokens a CPU second |")
    print("|---|---|---|---|---|")
    rows = {}
    for name, clock, times in (
        ("4 forward passes", four, 4),
        ("bare passes", bare, 1),
        ("AST", ours, 1),
        ("straightforward", plain, 1),
    ):
        wall, cpu = (median(part[1 : options.steps + 1]) for part in (clock.wall, clock.cpu))
        rows[name] = times * wall, times * cpu
    for name, (wall, cpu) in rows.items():
        share = rows["bare passes"][1] / cpu
        print(f"| {name} | {wall:.2f} | {tokens / wall:.0f} | {cpu:.2f} | {share:.0%} |")


if __name__ == "__main__":
    main()
