"""Numbers and text as tables, plots and pages show them. Exact figures: ``results.json``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from tasks.measures.figures import Figure, Value

DIVERGED = "diverged"


def shown(figure: Figure, value: Value) -> str:
    """A value as its figure asks; empty for None."""
    if isinstance(value, str) or value is None:
        return value or ""
    return _FORMATS[figure.format](float(value))


def with_error(figure: Figure, value: Value, error: float | None) -> str:
    """A value and its standard error, if it has one: with as many digits as its first one needs."""
    text = shown(figure, value)
    if not text or error is None:
        return text
    told = shown(figure, error)
    if figure.format == "precise" and isinstance(value, int | float) and math.isfinite(error):
        told = f"{error:.{_decimals(float(value))}f}"
    if error > 0 and not any(digit in told for digit in "123456789"):
        told = f"{scaled(figure, error):.1g}"
    return f"{text} ± {told}"


def scaled(figure: Figure, value: float) -> float:
    """As an axis shows it: a share in percent, bytes in MiB."""
    return value * {"percent": 100.0, "bytes": 2.0**-20}.get(figure.format, 1.0)


def with_unit(label: str, unit: str) -> str:
    """A label and the unit in brackets, if it has one."""
    return f"{label} ({unit})" if unit else label


def format_precise(value: float) -> str:
    """Four digits or so: 0.876, 28.12, 1481, 3.2e+07; ``diverged`` for infinity."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return DIVERGED
    return f"{value:.{_decimals(value)}f}" if value < 1e6 else f"{value:.1e}"


def _decimals(value: float) -> int:
    """Of a precise figure: a share of 1, such as F1, needs a third."""
    return 3 if abs(value) <= 1 else 2 if abs(value) < 1000 else 0


def format_ratio(value: float | None) -> str:
    """A multiple, without the sign for times."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e6 else f"{value:.1e}"


def format_seconds(value: float) -> str:
    """Seconds: 0, 0.041, 0.60, 5.20, 40.0, 1234."""
    size = abs(value)
    digits = 3 if size < 0.1 else 2 if size < 10 else 1 if size < 1000 else 0
    return f"{value:.{digits}f}" if size else "0"


def format_count(value: float) -> str:
    """A whole number in three digits: 512, 51.2k, 3M."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.0f}"


def format_number(value: float) -> str:
    """Three digits or so, never an exponent below a million: 0.00123, 0.520, 12.3, 1234."""
    if not math.isfinite(value):
        return format_precise(value)
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


def format_percent(fraction: float) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * fraction:.1f}"


_FORMATS: dict[str, Callable[[float], str]] = {
    "number": format_number,
    "precise": format_precise,
    "percent": format_percent,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "count": format_count,
    "rate": format_number,
    "text": format_number,
}


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Each model's name with as many trailing parts of its path as tell it from the others.

    ``org/a/final`` and ``org/b/final`` are ``a/final`` and ``b/final``; a model alone is its last
    part.
    """
    parts = {model: model.rstrip("/").split("/") for model in dict.fromkeys(models)}
    names: dict[str, str] = {}
    for model, own in parts.items():
        others = [other for name, other in parts.items() if name != model]
        fewest = next(
            (n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others)),
            len(own),
        )
        names[model] = "/".join(own[-fewest:]) or model
    return names


def short_name(model: str) -> str:
    """A model's name without its folder or organisation."""
    return short_names([model])[model]


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
