"""Numbers and text as the tables show them. The exact figures are in ``results.json``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from tasks.measures.figures import Figure, Row

MIB = 2**20
DIVERGED = "diverged"


def format_perplexity(value: float | None) -> str:
    """Four digits or so: 28.12, 1481, 3.2e+07; ``diverged`` for infinity."""
    if value is None:
        return ""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return DIVERGED
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}" if value < 1e6 else f"{value:.1e}"


def format_ratio(value: float | None) -> str:
    """A multiple, without the sign for times."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e6 else f"{value:.1e}"


def format_seconds(value: float | None) -> str:
    """Seconds: 0, 0.041, 0.60, 5.20, 40.0, 1234."""
    if value is None:
        return ""
    size = abs(value)
    digits = 3 if size < 0.1 else 2 if size < 10 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}" if size else "0"


def format_count(value: float) -> str:
    """A whole number in three digits: 512, 51.2k, 3M."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.0f}"


def format_figure(value: float) -> str:
    """Three digits or so, never an exponent below a million: 0.00123, 0.520, 12.3, 1234."""
    if not math.isfinite(value):
        return format_perplexity(value)
    if abs(value) < 100:
        return f"{value:#.3g}".rstrip(".") if value else "0"
    return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.2g}"


def format_bytes(value: float) -> str:
    """Binary units in three digits: 512 B, 21.5 MiB, 1.2 GiB."""
    for unit, suffix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= unit:
            size = value / unit
            return f"{size:.3g} {suffix}" if size < 100 else f"{size:.0f} {suffix}"
    return f"{value:.0f} B"


def format_percent(fraction: float | None) -> str:
    """A fraction in percent, without the sign."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


_FORMATS: dict[str, Callable[[float], str]] = {
    "number": format_figure,
    "perplexity": format_perplexity,
    "percent": format_percent,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "count": format_count,
    "rate": format_figure,
}


def shown(figure: Figure, row: Row, *, with_error: bool = False) -> str:
    """A row's figure as a table shows it; empty where it was not measured.

    Args:
        with_error: add its standard error where it has one.
    """
    if figure.format == "text":
        return str(row.get(figure.column) or "")
    value, error = figure.value(row), figure.standard_error(row)
    if value is None:
        return ""
    text = DIVERGED if math.isinf(value) else _FORMATS[figure.format](value)
    if with_error and error is not None and math.isfinite(value):
        return f"{text} ± {_FORMATS[figure.format](error)}"
    return text


def unit(figure: Figure) -> str:
    """The unit that stands above a table's column; bytes bear theirs themselves."""
    return "" if figure.format == "bytes" else figure.unit


def on_axis(figure: Figure, value: float) -> float:
    """The value in the unit of the figure's axis."""
    return (
        value * 100
        if figure.format == "percent"
        else value / MIB
        if figure.format == "bytes"
        else value
    )


def axis_label(figure: Figure) -> str:
    """The figure's name with its unit."""
    return f"{figure.label} ({figure.unit})" if figure.unit else figure.label


def one_line(text: str, width: int) -> str:
    """The text on one line, cut to ``width`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def escape_markdown(text: str) -> str:
    """The text so that Markdown shows it as it is, also inside a table cell."""
    # An underscore inside a word is no emphasis on GitHub; names stay readable in the raw text.
    special = r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))"
    flat = re.sub(special, r"\\\1", text.replace("&", "&amp;"))
    flat = flat.replace("<", "&lt;").replace(">", "&gt;")
    return "<br>".join(line.strip() for line in flat.splitlines() if line.strip())


def markdown_table(
    header: Sequence[str], lines: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
    """A table of cells in Markdown; the first ``text_columns`` align left, the others right."""
    rule = ["---" if place < text_columns else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
