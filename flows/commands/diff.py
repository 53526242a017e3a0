"""``secateur diff``: finds both results and says which inputs differ."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigurationError
from tasks.provenance.console import rendered
from tasks.provenance.references import Reference, parse
from tasks.provenance.result import Result
from tasks.provenance.sweeps import has_results, known_sweeps, read_cell
from tasks.provenance.verdict import compare_results
from tasks.store.home import home


def show_diff(
    a: str,
    b: str,
    metric: str | None,
    console: Console,
    *,
    home_b: str | None,
    as_json: bool,
    questions: int = 0,
) -> None:
    """Print how two results differ.

    Args:
        home_b: the home of B where it is another one.
        questions: how many questions to list that A answers right and B does not.

    Raises:
        ConfigurationError: for a reference that means nothing, or more than one result.
        TrackingUnavailableError: the tracking server does not answer.
    """
    other = Path(home_b).expanduser().absolute() if home_b else home()
    if not other.is_dir() and home_b:
        raise ConfigurationError("--home", home_b, "it must be a folder that was a SECATEUR_HOME")
    comparison = compare_results(
        resolve(parse(a, "A"), home()),
        resolve(parse(b, "B"), other),
        metric,
        questions=questions,
    )
    if as_json:
        # Not console.print: what a machine reads is not wrapped.
        console.file.write(json.dumps(comparison.as_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        console.print(rendered(comparison, console), highlight=False)


def resolve(reference: Reference, root: Path) -> Result:
    """The result that a reference means.

    Args:
        root: the home in which sweeps and runs are looked for.

    Raises:
        ConfigurationError: there is none, or more than one.
        TrackingUnavailableError: the tracking server does not answer.
    """
    if reference.run:
        from tasks.provenance.runs import read_logged

        return read_logged(reference, root)
    folder = reference.folder or root / "sweeps" / reference.sweep
    if not reference.reported and has_results(folder):
        return read_cell(reference, folder.absolute())
    if reference.folder:
        raise ConfigurationError(
            reference.field, reference.text, f"{folder} holds no results.json of a sweep"
        )
    return _of_paper(reference, root)


def _of_paper(reference: Reference, root: Path) -> Result:
    from tasks.provenance.papers import read_reported, reporting_presets, unknown_sweep

    preset = reporting_presets().get(reference.sweep)
    if preset is None:
        raise unknown_sweep(reference, known_sweeps(root), str(root))
    return read_reported(reference, preset)
