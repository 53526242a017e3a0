"""Two results compared: their figures, their inputs, and what can be said of it in a sentence."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.compared import ComparedAnswers, joined
from tasks.measures.registry import measures
from tasks.provenance.aspects import MEASURED_ON, MEASUREMENT
from tasks.provenance.differences import SPARSITY, Compared, Difference, compare
from tasks.provenance.inputs import (
    DENSE,
    ENVIRONMENT_PREFIX,
    EVALUATION,
    METHOD,
    Inputs,
    measurements,
    view,
)
from tasks.provenance.result import Result
from tasks.provenance.seeds import seeds_verdict

_OF_DENSE = "dense_"
SUMS_ALONE = 1e-5
"""Relative: what another order of sums does to a perplexity in float32 at most; it is tested."""
_DATES = tuple(f"{ENVIRONMENT_PREFIX}{date}" for date in ("evaluated_on", "pruned_on"))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """
    Attributes:
        metrics: the figure's name on each side; two where the corpora are named differently.
        figures: its values.
        dense: the same figure of the dense models, where both sides record it.
        verdict: what follows, in sentences.
        answers: where questions are kept: how many changed sides, and whether that is chance.
    """

    a: Result
    b: Result
    metrics: tuple[str, str]
    figures: tuple[float, float]
    dense: tuple[float, float] | None
    compared: Compared
    verdict: tuple[str, ...]
    answers: ComparedAnswers

    @property
    def ratio(self) -> float | None:
        return _ratio(self.figures)

    def as_json(self) -> dict[str, Any]:
        """For machines: everything that the table says, and no more rounded."""
        sides = {
            name: {
                "reference": side.reference,
                "title": side.title,
                "origin": side.origin,
                "metric": metric,
                "value": _plain(value),
            }
            for name, side, metric, value in zip(
                "ab", (self.a, self.b), self.metrics, self.figures, strict=True
            )
        }
        return {
            **sides,
            "ratio": self.ratio,
            "dense": [_plain(value) for value in self.dense] if self.dense else None,
            "differences": [asdict(entry) for entry in self.compared.differences],
            "same": list(self.compared.same),
            "unknown": [
                {"title": title, "not_recorded_by": side} for title, side in self.compared.unknown
            ],
            "verdict": list(self.verdict),
            "answers": self.answers.as_json(),
        }


def compare_results(a: Result, b: Result, metric: str | None, *, questions: int = 0) -> Comparison:
    """Compare two results by one figure.

    Args:
        metric: its column; None: the first measured one that both have.
        questions: how many to list that A has right and B has not.

    Raises:
        ConfigurationError: a side has no such figure, or no answers where questions are asked for.
    """
    metrics = _metrics(a, b, metric)
    figures = (a.metrics[metrics[0]], b.metrics[metrics[1]])
    compared = compare(_seen(a, metrics[0]), _seen(b, metrics[1]))
    dense = _dense(a, b, metrics)
    verdict = _verdict(compared, figures, dense, a.reported or b.reported)
    verdict += seeds_verdict(a, b, metrics)
    if not metrics[0].startswith(MEASURED_ON) and compared.differences:
        verdict += (f"The order is {MEASURED_ON}'s; {metrics[0]} may follow another one.",)
    return Comparison(
        a=a, b=b, metrics=metrics, figures=figures, dense=dense, compared=compared, verdict=verdict,
        answers=_answers(a, b, metrics, questions),
    )  # fmt: skip


def _answers(a: Result, b: Result, metrics: tuple[str, str], questions: int) -> ComparedAnswers:
    """Of the measures that keep answers; with so many of the broken questions.

    Raises:
        ConfigurationError: questions are to be listed and there are none.
    """
    told = {m.name: m.compare(a, b, metrics, wanted=questions > 0) for m in measures().values()}
    found = joined({measure: answers for measure, answers in told.items() if answers})
    compared = replace(found, broken=found.broken[:questions])
    if questions and not compared.tasks:
        reason = "; ".join(compared.unread) or "they have no task in common"
        allowed = f"there are no answers of both sides to compare: {reason}"
        hint = "Name cells of sweeps whose stores are on this machine"
        raise ConfigurationError("--questions", questions, allowed, hint)
    return compared


def _metrics(a: Result, b: Result, wanted: str | None) -> tuple[str, str]:
    if wanted is not None:
        for side in (a, b):
            if wanted not in side.metrics:
                known = ", ".join(side.metrics) or "none"
                allowed = f"{side.reference} has no such figure; it has: {known}"
                raise ConfigurationError("--metric", wanted, allowed)
        return wanted, wanted
    first, other = _leading(a), _leading(b)
    for side, own in ((a, first), (b, other)):
        if not own:
            known = ", ".join(side.metrics) or "none"
            allowed = f"{side.reference} has no measured figure; name another one: {known}"
            raise ConfigurationError("--metric", "", allowed)
    measure = first[0].partition("/")[0]
    common = [name for name in first if name in other and name.partition("/")[0] == measure]
    return (common[0], common[0]) if common else (first[0], other[0])


def _leading(side: Result) -> list[str]:
    """The first figure of each measurement that the result has."""
    columns = [made[0] for made in measurements(side.inputs).values()]
    return [name for name in side.metrics if name in columns]


def _seen(side: Result, metric: str) -> Inputs:
    """The inputs of one figure, with what was removed in fact."""
    found = view(side.inputs, metric)
    if SPARSITY in side.metrics and metric != SPARSITY and found[METHOD] != DENSE:
        found[SPARSITY] = repr(float(side.metrics[SPARSITY]))
    return found


def _dense(a: Result, b: Result, metrics: tuple[str, str]) -> tuple[float, float] | None:
    names = tuple(f"{_OF_DENSE}{metric}" for metric in metrics)
    if names[0] not in a.metrics or names[1] not in b.metrics:
        return None
    dense = (a.metrics[names[0]], b.metrics[names[1]])
    # Of two dense models the figure itself says it.
    return None if dense == (a.metrics[metrics[0]], b.metrics[metrics[1]]) else dense


def _ratio(figures: tuple[float, float]) -> float | None:
    a, b = figures
    return b / a if math.isfinite(a) and math.isfinite(b) and a else None


def _equal(figures: tuple[float, float]) -> bool:
    return figures[0] == figures[1] or all(math.isnan(value) for value in figures)


def _verdict(
    compared: Compared,
    figures: tuple[float, float],
    dense: tuple[float, float] | None,
    reported: bool,
) -> tuple[str, ...]:
    inputs, environment = compared.of("input"), compared.of("environment")
    if inputs:
        return tuple(_of_inputs(inputs, environment, dense))
    if reported:
        return ("Nothing that the preset states differs; what the paper leaves open may.",)
    known = ", as far as both sides record it" if compared.unknown else ""
    if environment:
        return tuple(_of_environment(environment, figures, known))
    if _equal(figures):
        return (f"Nothing differs{known}: the same inputs, environment and figure, bit for bit.",)
    return (
        f"Nothing that is recorded differs{known}, but the figures do, by {_apart(figures)}.",
        "The same configuration on the same machine is meant to give the same figure: this is a "
        "fault, or an input that is not recorded.",
    )


def _of_inputs(
    inputs: list[Difference],
    environment: list[Difference],
    dense: tuple[float, float] | None,
) -> list[str]:
    first = inputs[0]
    count = "One input differs" if len(inputs) == 1 else f"{len(inputs)} inputs differ"
    lines = [f"{count}; {'it is' if len(inputs) == 1 else 'look first at'} the {first.title}."]
    if dense and _equal(dense):
        lines.append("The dense models' figure is the same: pruning makes the difference.")
    elif dense and (ratio := _ratio(dense)) is not None:
        lines.append(
            f"The dense models' figures differ already, B's {_times(ratio)} A's: not all of the "
            "difference is pruning's."
        )
    if any(
        entry.group == MEASUREMENT and entry.key.startswith(f"{EVALUATION}/") for entry in inputs
    ):
        lines.append("They are not the same measurement, so their ratio ranks no method.")
    if [entry for entry in environment if entry.key not in _DATES]:
        lines.append("The environment differs too.")
    return lines


def _of_environment(
    environment: list[Difference], figures: tuple[float, float], known: str
) -> list[str]:
    told = [entry.title for entry in environment if entry.key not in _DATES]
    what = "the environment" if told else "the day"
    lines = [f"Nothing but {what} differs{known}{': ' + ', '.join(told) if told else ''}."]
    if _equal(figures):
        return [*lines, "The figure is the same, bit for bit."]
    lines.append(f"The figures differ by {_apart(figures)}.")
    if not told:
        lines.append(
            "The same configuration on the same machine is meant to give the same figure: this is "
            "a fault, or an input that is not recorded."
        )
    elif (ratio := _ratio(figures)) is not None and abs(ratio - 1) <= SUMS_ALONE:
        lines.append("That is within what another order of sums does in float32, 1e-5.")
    else:
        lines.append(
            "Another order of sums alone does at most 1e-5 in float32. Beyond it, a lower dtype or "
            "weights close to the cut that fell on its other side can account for it; no bound is "
            "known."
        )
    return lines


def _apart(figures: tuple[float, float]) -> str:
    ratio = _ratio(figures)
    return "no finite amount" if ratio is None else f"{abs(ratio - 1):.2g} of A's"


def _times(ratio: float) -> str:
    return f"{ratio:.4g} times"


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)
