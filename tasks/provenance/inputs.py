"""What a row's figures were made from: its tree of steps, kept beside the results and logged.

``inputs.json`` in a sweep's folder holds the steps behind each row as their manifests record them,
so that ``secateur diff`` compares rows without the store, the models, the corpora or the sweep
file, on any machine. MLflow holds the same tree as params of the row's run, one an input:
``model``, ``pruning/method``, ``calibration/length``, ``<measure>/<name>/tokens/corpus``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.provenance.aspects import FACTS
from tasks.store.files import write_atomically
from tasks.store.manifest import read_manifest
from tasks.store.steps import MEMBER, Step, fingerprint, walk

if TYPE_CHECKING:
    from tasks.plan.plan import Cell, ModelPlan
    from tasks.store.context import Context

Inputs = dict[str, str]
"""Path of an input, roles first, such as ``calibration/length`` → its value as text."""
Record = Mapping[str, Any]
"""One step: ``step``, ``version``, ``inputs``, ``needs``, ``words``, ``facts``."""

INPUTS_NAME = "inputs.json"
VERSION = 2
NONE, DENSE = "none", "dense"
METHOD, NEEDS, DIGEST, FIGURES = "pruning/method", "/needs", "/digest", "/figures"
_PLACES = {"model": "model", "statistics": "statistics", "checkpoint": "pruning",
           "pruned": "pruning"}  # fmt: skip
"""Kind of step → how its inputs' paths begin, wherever in a tree it stands."""
_PURPOSES = {"statistics/tokens": "calibration", "pruning/calibration": "calibration",
             "pruning/training": "training",
             "calibration/gradients/pool": "calibration/pool",
             "training/gradients/pool": "training/pool"}  # fmt: skip
"""Place and role → what a text is for, whichever step looks at it."""
_REFERENCE = "reference"
"""What a figure is compared with: the same measurement, of the dense model. Nor is it told of
members that they were pruned as the cell was."""
EVALUATION = "evaluation"
ENVIRONMENT_PREFIX, PRUNED_PREFIX = "environment/", "prune_environment/"
_LONG = 200
"""Characters from which on a value is told by its digest."""


class OtherVersionError(ValueError):
    """The file was written by another version of secateur."""


def write_inputs(
    planned: Iterable[ModelPlan | Cell],
    rows: Iterable[Mapping[str, Any]],
    context: Context,
    folder: Path,
) -> None:
    """Write ``inputs.json``: row fingerprint → goals and columns, and every step behind them.

    Args:
        rows: of the results; skipped ones have no inputs.
    """
    wanted = {str(row["fingerprint"]) for row in rows if row.get("fingerprint")}
    chosen = [row for row in planned if row.fingerprint in wanted]
    goals = {row.fingerprint: _goals(row) for row in chosen}
    entries = {
        row.fingerprint: {
            "goals": {role: step.place for role, step in goals[row.fingerprint].items()},
            "columns": _columns(row, context),
        }
        for row in chosen
    }
    steps = _records([step for named in goals.values() for step in named.values()], context)
    text = json.dumps(
        {"version": VERSION, "rows": entries, "steps": steps}, indent=1, ensure_ascii=False
    )
    write_atomically(folder / INPUTS_NAME, text.encode())


def read_inputs(folder: Path, row: str) -> Inputs:
    """The inputs of one row of a sweep's folder.

    Raises:
        OtherVersionError: the file is of another version.
        OSError, ValueError, KeyError, TypeError: it cannot be read, or has no such row.
    """
    found = json.loads((folder / INPUTS_NAME).read_text(encoding="utf-8"))
    if found["version"] != VERSION:
        raise OtherVersionError(str(found["version"]))
    entry = found["rows"][row]
    return flattened(entry["goals"], entry["columns"], found["steps"])


def read_places(folder: Path, row: str) -> dict[str, str]:
    """Role of each measurement of a row → its place in the store that it was written to.

    Raises:
        OSError, ValueError, KeyError, TypeError: it cannot be read, or has no such row.
    """
    found = json.loads((folder / INPUTS_NAME).read_text(encoding="utf-8"))
    return dict(found["rows"][row]["goals"])


def params_of(planned: ModelPlan | Cell, context: Context) -> Inputs:
    """The inputs of one row as they are logged; its artifacts need not all be there."""
    goals = _goals(planned)
    places = {role: step.place for role, step in goals.items()}
    return flattened(places, _columns(planned, context), _records(goals.values(), context))


def _goals(planned: ModelPlan | Cell) -> dict[str, Step]:
    """Role → step: the weights, a cell's facts, and each measurement once."""
    goals = {"weights": planned.subject.weights}
    for measure, named in planned.measured.items():
        goals |= {f"{measure}/{n}": step for n, step in named.items() if step not in goals.values()}
    pruned: Step | None = getattr(planned, "pruned", None)
    # Last: its facts outlive the checkpoint's, and what is said twice is said as it says it.
    return goals | ({"pruned": pruned} if pruned is not None else {})


def _columns(planned: ModelPlan | Cell, context: Context) -> dict[str, str]:
    """Column → role of the measurement that it comes from."""
    from tasks.measures.registry import measures  # not where results are merely compared

    roles = {step: role for role, step in reversed(_goals(planned).items())}
    columns: dict[str, str] = {}
    for measure, named in planned.measured.items():
        for name, step in named.items():
            if artifact := context.find(step):
                made = measures()[measure].columns({name: artifact})
                columns |= {column: roles[step] for column in made if column not in columns}
    return columns


def _records(goals: Iterable[Step], context: Context) -> dict[str, Record]:
    """Place → record, of every step behind the goals."""
    return {step.place: _record(step, context) for step in walk(goals)}


def _record(step: Step, context: Context) -> Record:
    found = None if step.outside is not None else context.find(step)
    facts: dict[str, Any] = {}
    if found is not None:
        manifest = read_manifest(found.path)
        facts = {n: v for n, v in found.facts.items() if n in FACTS and v is not None}
        facts.pop("sources", None)  # counts, told below
        facts |= _of_selection(found.facts)
        facts |= {"environment": found.facts.get("environment", {}), "written": manifest["written"]}
        if "vocabulary" in found.facts:
            prefix = ", ".join(map(str, found.facts["prefix"]))
            facts["bos"] = f"token {prefix}" if prefix else NONE
            files = sorted((name, entry["sha256"]) for name, entry in manifest["files"].items())
            facts["content"] = fingerprint({"files": json.dumps(files)})
        if "layer_sparsity" in found.facts:
            facts["layers"] = _layers(found.facts["layer_sparsity"])
            kinds = found.facts["exempt_weights"]
            facts["exempt"] = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or NONE
            left = found.facts.get("excluded_layers", 0)
            facts["excluded"] = (
                f"{left} layers, {found.facts['excluded_weights']} weights" if left else NONE
            )
    return {
        "step": step.name,
        "version": step.version,
        "inputs": dict(step.inputs),
        "needs": {role: need.place for role, need in step.needs.items()},
        "words": {name: word for name, word in step.words.items() if word},
        "facts": facts,
    }


def _of_selection(facts: Mapping[str, Any]) -> dict[str, str]:
    """Where windows are from, of texts of several sources, and how well chosen ones do."""
    told = {}
    for name in ("sources", "pool_sources"):
        counts = facts.get(name, {})
        if len(counts) > 1:
            told[name] = ", ".join(f"{count} of {source}" for source, count in counts.items())
    return told | {n: f"{v:.6g}" for n, v in facts.get("quality", {}).items() if n in FACTS}


def _layers(by_layer: Mapping[str, float]) -> str:
    """How many layers sparsity was counted over, and what their kinds are called."""
    # The number of an expert names no kind.
    parts = (name.split(".") for name in by_layer)
    kinds = dict.fromkeys([part for part in name if not part.isdigit()][-1] for name in parts)
    return f"{len(by_layer)} ({', '.join(kinds)})"


def flattened(
    goals: Mapping[str, str], columns: Mapping[str, str], steps: Mapping[str, Record]
) -> Inputs:
    """A row's tree of steps as one path an input.

    Beside the inputs, ``<path>/needs`` names the paths that a step's needs begin with, and
    ``<path>/figures`` the columns that come from a measurement.

    Args:
        goals: role → place.
        columns: column → role.
        steps: place → record.
    """
    found: Inputs = {}
    for role, place in goals.items():
        found |= _below(_PLACES.get(steps[place]["step"], role), place, steps)
        if "/" in role:  # a measurement
            found[role + FIGURES] = ", ".join(
                c for c, made_by in columns.items() if made_by == role
            )
    if found.setdefault(METHOD, DENSE) != DENSE:
        found.setdefault("pruning/exclude", NONE)  # what excludes nothing has no such input
    return found


def _below(path: str, place: str, steps: Mapping[str, Record]) -> Inputs:
    record = steps[place]
    found: Inputs = {}
    needed: dict[str, None] = {}
    told, references = {record["step"]}, dict[str, str]()
    for role, need in record["needs"].items():
        whose = role.partition("/")[0]
        if whose == _REFERENCE:
            references[role] = need
        elif whose != MEMBER:
            kind, behind = steps[need]["step"], f"{path}/{role}"
            if kind != record["step"]:
                behind = _PLACES.get(kind, _PURPOSES.get(behind, behind))
            found |= _below(behind, need, steps)
            needed |= {} if behind == path else {behind: None}
            told.add(kind)
    for role, need in references.items():
        # The dense model itself is told elsewhere; what it was asked, where this model was not.
        if steps[need]["step"] not in told:
            found |= dict(_entries(f"{path}/{role}", {**steps[need], "facts": {}}))
    found |= dict(_entries(path, record))
    if needed:
        found[path + NEEDS] = ", ".join(needed)
    return found


def _entries(path: str, record: Record) -> Iterator[tuple[str, str]]:
    words, inputs, facts = record["words"], record["inputs"], record["facts"]
    # A step that only passes on what another made has no version of its own.
    if inputs.keys() - {"code"}:
        yield f"{path}/version", str(record["version"])
    for name, value in inputs.items():
        key = path if name == path else f"{path}/{name}"
        if name in words:
            yield key, str(words[name])
            yield key + DIGEST, text_of(value)
        elif isinstance(value, Mapping):
            yield from ((f"{key}/{part}", text_of(v)) for part, v in value.items())
        else:
            yield key, text_of(value)
    for name, word in words.items():
        if name not in inputs:
            yield f"{path}/{name}", str(word)
    for name, value in facts.items():
        if name in FACTS:
            yield f"{path}/{FACTS[name]}", text_of(value)
    if "environment" in facts:
        yield f"{path}/environment", json.dumps(facts["environment"], sort_keys=True)
        yield f"{path}/written", str(facts["written"])


def text_of(value: Any) -> str:
    """A value as inputs hold it; a long one as its digest."""
    if value is None:
        return NONE
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONG else fingerprint({"long": text})


def measurements(inputs: Inputs) -> dict[str, list[str]]:
    """Path of each measurement → the columns that come from it."""
    return {
        key.removesuffix(FIGURES): value.split(", ")
        for key, value in inputs.items()
        if key.endswith(FIGURES)
    }


def view(inputs: Inputs, column: str) -> Inputs:
    """The inputs of one figure: those of its own measurement, below ``evaluation``.

    A dtype that all steps share is one input; environments, kept as JSON, become one key each.
    """
    measured = measurements(inputs)
    own = next((path for path, columns in measured.items() if column in columns), "")
    found: Inputs = {}
    for key, value in inputs.items():
        path = next((path for path in measured if key.startswith(f"{path}/")), "")
        if path and path == own:
            renamed = value.replace(f"{own}/", f"{EVALUATION}/") if key.endswith(NEEDS) else value
            found[f"{EVALUATION}/{key.removeprefix(f'{own}/')}"] = renamed
        elif not path:
            found[key] = value
    found.pop(EVALUATION + FIGURES, None)
    dtype = found.get(f"{EVALUATION}/dtype") or found.get("pruning/dtype")
    if dtype:
        shared = [k for k, v in found.items() if k.endswith("/dtype") and v == dtype]
        found = {"dtype": dtype} | {k: v for k, v in found.items() if k not in shared}
    # Seconds of pruning, say, were measured where it was pruned.
    pruned = PRUNED_PREFIX if own else ENVIRONMENT_PREFIX
    for path, prefix, date in (("pruning", pruned, "pruned_on"),
                               (EVALUATION, ENVIRONMENT_PREFIX, "evaluated_on")):  # fmt: skip
        environment = json.loads(found.pop(f"{path}/environment", "{}"))
        found |= {f"{prefix}{name}": text_of(value) for name, value in environment.items()}
        if written := found.pop(f"{path}/written", ""):
            found[f"{ENVIRONMENT_PREFIX}{date}"] = written
    if f"{ENVIRONMENT_PREFIX}torch" in found:
        for name in ("gpus", "cuda"):  # recorded only where there are any
            found.setdefault(f"{ENVIRONMENT_PREFIX}{name}", NONE)
    return {
        key: value for key, value in found.items() if not key.endswith(("/environment", "/written"))
    }
