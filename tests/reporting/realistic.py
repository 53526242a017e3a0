"""A large sweep's rows, every measure in them: what the plots and tables have to cope with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from tasks.pruning.core.targets import parse_target
from tasks.reporting.rows import Row

BADNESS = {
    "magnitude": 2.2, "wanda": 1.0, "sparsegpt": 0.85, "swiftprune": 1.05,
    "wanda_sp": 3.5, "policy_gradient": 3.0, "ast": 0.4,
}  # fmt: skip
SECONDS = {
    "magnitude": 0.6, "wanda": 9.0, "sparsegpt": 60.0, "swiftprune": 4.0,
    "wanda_sp": 8.0, "policy_gradient": 900.0, "ast": 2400.0,
}  # fmt: skip
STRUCTURED = ("wanda_sp", "policy_gradient")
FRACTIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
GROUPS = ("2:4", "4:8")
TASKS = ("boolq", "rte", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
PROCESSOR = "Intel(R) Xeon(R) Platinum 8481C, 2 threads"


def large_sweep(
    models: Sequence[str] = ("smollm2-135m",),
    methods: Sequence[str] = tuple(BADNESS),
    seeds: Sequence[int] = (0,),
    tasks: Sequence[str] = TASKS,
    hardware: str = PROCESSOR,
) -> list[Row]:
    """Dense models and cells with all columns; numbers are made up but have a sweep's shape."""
    generator = random.Random(0)
    rows: list[Row] = []
    for place, model in enumerate(models):
        dense = 28.1 - 9 * place
        rows.append(_measured(generator, dense, dense, 0.0, tasks, hardware, False) | {
            "model": model, "method": "dense", "target": "", "seed": None, "status": "completed",
            "sparsity": 0.0, "prune_seconds": 0.0, "calibration_seconds": 0.0,
            "parameters": 134_515_008, "nonzero_parameters": 134_515_008,
        })  # fmt: skip
        for method in methods:
            for target in _targets(method):
                for seed in seeds:
                    rows.append(
                        _cell(generator, model, dense, method, target, seed, tasks, hardware)
                    )
    return rows


def layers_of(rows: Sequence[Row], model: str) -> tuple[dict, dict]:
    """(sparsity, reconstruction error) of a 30-block model's layers, by cell label."""
    generator = random.Random(1)
    sparsity: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["model"] != model or row["method"] == "dense" or row["status"] != "completed":
            continue
        label, method = f"{row['method']} {row['target']}", str(row["method"])
        share = parse_target(str(row["target"])).sparsity
        kinds = [
            f"model.layers.{block}.{kind}_proj"
            for block in range(30)
            for kind in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o",
                         "mlp.gate", "mlp.up", "mlp.down")
        ]  # fmt: skip
        uneven = 0.2 if method == "policy_gradient" else 0.0
        sparsity[label] = {
            name: min(max(share + uneven * (generator.random() - 0.5), 0), 1) for name in kinds
        }
        errors[label] = {
            name: BADNESS[method] * share**2 * (0.5 + 0.02 * k / 7 + 0.1 * generator.random())
            for k, name in enumerate(kinds)
        }
    return sparsity, errors


def _targets(method: str) -> tuple[str, ...]:
    if method == "ast":
        return GROUPS
    return FRACTIONS[:5] if method in STRUCTURED else FRACTIONS + GROUPS


def _cell(
    generator: random.Random,
    model: str,
    dense: float,
    method: str,
    target: str,
    seed: int,
    tasks: Sequence[str],
    hardware: str,
) -> Row:
    share = parse_target(target).sparsity
    harm = BADNESS[method] * (1.0 if ":" not in target else 1.6)
    perplexity = dense * math.exp(harm * share**2 * 4) * generator.uniform(0.97, 1.03)
    if method == "magnitude" and target == "0.7":
        perplexity = math.inf
    cut = method in STRUCTURED
    row: Row = _measured(generator, dense, perplexity, share, tasks, hardware, cut) | {
        "model": model, "method": method, "target": target, "seed": seed, "status": "completed",
        "sparsity": share * generator.uniform(0.99, 1.01), "dense_perplexity/docs": dense,
        "prune_seconds": SECONDS[method] * generator.uniform(0.9, 1.1),
        "calibration_seconds": 0.0 if method == "magnitude" else 7.0,
        "learned": {"ast": "weights", "policy_gradient": "mask"}.get(method, ""),
        "training_tokens": {"ast": 3_000_000, "policy_gradient": 51_200}.get(method, 0),
        "reconstruction_error": min(harm * share**2, 1.4),
        "parameters": 134_515_008, "nonzero_parameters": round(134_515_008 * (1 - 0.79 * share)),
    }  # fmt: skip
    if method == "sparsegpt" and target == "0.6":
        row = {key: row[key] for key in ("model", "method", "target", "seed")} | {
            "status": "failed", "error": "RuntimeError: the Hessian of block 3 is not positive",
        }  # fmt: skip
    return row


def _measured(
    generator: random.Random,
    dense: float,
    perplexity: float,
    share: float,
    tasks: Sequence[str],
    hardware: str,
    cut: bool,
) -> Row:
    loss = math.log(min(perplexity, 1e6) / dense)
    row: Row = {
        "perplexity/docs": perplexity, "evaluate_seconds": 30.0,
        "peak_memory_bytes": round(1.2e9 * generator.uniform(1, 1.3)),
        "kl/docs": max(0.9 * loss, 0.0), "top1_agreement/docs": math.exp(-0.6 * max(loss, 0)),
    }  # fmt: skip
    accuracies = []
    for place, task in enumerate(tasks):
        accuracy = 0.3 + (0.1 + 0.04 * place) * math.exp(-loss) + generator.uniform(-0.01, 0.01)
        accuracies.append(accuracy)
        row[f"zero_shot/{task}/acc"] = accuracy
        row[f"zero_shot/{task}/acc_stderr"] = 0.02
    if accuracies:
        row["zero_shot/mean"] = sum(accuracies) / len(accuracies)
    faster = 1 / (1 - 0.7 * share) if cut else generator.uniform(0.97, 1.03)
    row |= {
        "speed/prefill_tokens_per_second": 900 * faster,
        "speed/decode_tokens_per_second": 21 * faster,
        "speed/latency_p50_ms": 47 / faster, "speed/latency_p95_ms": 61 / faster,
        "speed/peak_memory_bytes": round(6e8 * (1 - 0.7 * share * cut + 0.02 * share)),
        "speed/other_cores": 0.04,
        "speed/hardware": hardware,
        "bytes_on_disk": round(5.4e8 * (1 - 0.7 * share * cut)),
    }  # fmt: skip
    return row
