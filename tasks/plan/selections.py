"""What is told of chosen windows beside a row's figures: how well they stand for their pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from configs.schema import SweepConfig
from configs.yaml_file import validate
from tasks.compression.checkpoint import Recipe
from tasks.compression.coresets import ChosenWindows
from tasks.data.texts import Windows
from tasks.plan.plan import Plan
from tasks.store.context import Context
from tasks.store.steps import walk
from tasks.store.store import Artifact

COLUMNS = {"calibration": "coreset", "training": "training_coreset"}
"""Field of a sweep → what its coreset's columns begin with."""


def chosen_of(recipe: Recipe, context: Context) -> Iterator[tuple[ChosenWindows, Artifact]]:
    """The coresets that a cell's method looks at, as far as they are in the store."""
    for step in walk(recipe.needs().values()):
        if isinstance(step.about, ChosenWindows) and (found := context.find(step)):
            yield step.about, found


def coreset_alone(config: SweepConfig, *, budgeted: bool) -> SweepConfig:
    """The sweep that chooses calibration windows by their gradients, as far as that goes.

    Args:
        budgeted: how many are chosen is said elsewhere, and not by ``calibration.samples``.

    Raises:
        ConfigurationError: the pool does not hold the samples.
    """
    fields = config.model_dump(mode="json", include={"name", "models", "dtype", "trust"})
    calibration = config.calibration.model_dump(mode="json") | {"sampling": "coreset"}
    if budgeted:
        calibration["samples"] = 1
    # Some method has to ask for them, and a sweep has to measure something: nothing of it is run,
    # and its windows fit any model.
    asking = {"calibration": calibration, "methods": ["wanda"], "targets": ["0.5"]}
    least = {"perplexity": [{"name": "text", "windows": 1, "sequence_length": 16}]}
    return validate({**fields, **asking, "seeds": [config.seeds[0]], "evaluation": least})


def quality_of(recipe: Recipe, context: Context) -> dict[str, float]:
    """Column → errors of the windows that a cell's method looked at, and what choosing took."""
    return {
        f"{COLUMNS[chosen.pool.field]}/{name}": value
        for chosen, found in chosen_of(recipe, context)
        for name, value in {**found.facts["quality"], "seconds": found.facts["seconds"]}.items()
    }


def compositions_of(plan: Plan, context: Context) -> dict[str, dict[str, dict[str, int]]]:
    """Field of the sweep file → how its windows were chosen, and how many → source → of it.

    Only fields whose windows come from several sources; a coreset's pool stands beside it. Of the
    first model: what another tokenizer cuts hardly differs.
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    for cell in plan.cells:
        if cell.model != plan.cells[0].model:
            continue
        steps = list(walk(cell.recipe.needs().values()))
        pools = {s.about.pool.step for s in steps if isinstance(s.about, ChosenWindows)}
        for step in steps:
            about = step.about
            if isinstance(about, ChosenWindows):
                field, label = about.pool.field, _seeded("coreset", about.seed)
            elif isinstance(about, Windows):
                kind = "pool" if step in pools else about.sampling
                field, label = about.field, _seeded(kind, about.seed)
            else:
                continue
            artifact = context.find(step) if field in COLUMNS else None
            if artifact and (sources := artifact.facts["sources"]):
                # A method that looks at fewer has them chosen anew from some texts.
                mine = found.setdefault(field, {})
                mine[f"{label}: {sum(sources.values())}"] = sources
    return {
        field: dict(sorted(mine.items()))
        for field, mine in found.items()
        if len({source for counts in mine.values() for source in counts}) > 1
    }


def _seeded(kind: str, seed: int | None) -> str:
    return kind if seed is None else f"{kind}, seed {seed}"


def notes_of(recipes: Iterable[Recipe], context: Context) -> list[str]:
    """What a reader has to know of the coresets, one sentence each."""
    notes: dict[str, None] = {}
    for recipe in recipes:
        for chosen, found in chosen_of(recipe, context):
            notes |= dict.fromkeys(sentences(chosen, found.facts))
    return list(notes)


def sentences(chosen: ChosenWindows, facts: Mapping[str, Any]) -> Iterator[str]:
    """What is told of one coreset.

    Args:
        facts: of its artifact.
    """
    quality, sources = facts["quality"], facts["sources"]
    mine, random, spread = (quality[f"gradient_error{of}"] for of in ("", "_random", "_spread"))
    purpose, seeded = chosen.pool.name, f"with seed {chosen.seed}"
    name = f"The {purpose} coreset of {facts['windows']} of {facts['pool']} windows {seeded}"
    if mine >= random:
        yield (
            f"{name} is no better than random windows: its gradient error is {mine:.3g}, "
            f"theirs {random:.3g} in expectation."
        )
    elif mine >= spread:
        yield (
            f"{name} is no better than windows that are spread evenly, which cost nothing: "
            f"its gradient error is {mine:.3g}, theirs {spread:.3g}."
        )
    if len(sources) == 1:
        yield f"The pool of the {purpose} coreset {seeded} has one source alone."
    else:
        picks = ", ".join(f"{count} of {source}" for source, count in sources.items())
        yield f"{name} holds {picks}."
