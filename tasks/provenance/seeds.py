"""Whether two results differ by more than their seeds do."""

from __future__ import annotations

import math
import statistics

from tasks.provenance.result import Result

_BEYOND = 2.0
"""Standard errors; with three seeds a difference of this size is still chance once in five."""
_MANY = 4


def seeds_verdict(a: Result, b: Result, metrics: tuple[str, str]) -> tuple[str, ...]:
    """A sentence on the difference over the seeds that both sweeps ran; nothing for fewer than two.

    Seeds are paired: the same seed draws the same windows on both sides. Where no seed changes
    either result there is nothing to say.
    """
    both = [seed for seed in a.seeds if seed in b.seeds]
    pairs = [(a.seeds[seed].get(metrics[0]), b.seeds[seed].get(metrics[1])) for seed in both]
    apart = [y - x for x, y in pairs if x is not None and y is not None]
    told = ", ".join(both)
    if len(apart) < len(both) or len(apart) < 2 or a.seeds == b.seeds:
        return ()
    if not all(map(math.isfinite, apart)):
        return (f"Over the seeds {told} no mean can be told: a model diverged.",)
    if all(len({pair[side] for pair in pairs}) == 1 for side in (0, 1)):
        return ()
    mean = statistics.fmean(apart)
    error = statistics.stdev(apart) / math.sqrt(len(apart))
    if abs(mean) > _BEYOND * error:
        verdict = "beyond two standard errors, a difference"
    else:
        verdict = "within two standard errors, so no difference"
    few = "" if len(apart) > _MANY else f", as far as {len(apart)} seeds can tell"
    return (
        f"Over the seeds {told}, B − A is {mean:+.4g} ± {error:.2g} (mean ± standard error): "
        f"{verdict}{few}.",
    )
