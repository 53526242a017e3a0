"""The one exception a user's mistake becomes: it names the field, what came and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_LONGEST = 200


class ConfigurationError(ValueError):
    """A sweep file, command line or source that cannot work.

    Raised before anything is computed; the command line turns it into exit status 2.

    Args:
        field: dotted path of the field, such as ``calibration.corpus.files[0]``.
        given: the value that came; ``...`` where there is none to show.
        allowed: what the field takes, as a phrase.
        hint: an optional last sentence: the nearest name, or the command that helps.
    """

    def __init__(self, field: str, given: Any, allowed: str, hint: str = "") -> None:
        self.field = field
        self.given = given
        self.allowed = allowed
        self.hint = hint
        shown = str(given) if isinstance(given, Path) else repr(given)
        if len(shown) > _LONGEST:
            shown = f"{shown[:_LONGEST]}…"
        message = f"{field}: {allowed}"
        if given is not ...:
            message = f"{field}: {shown} is not possible; {allowed}"
        super().__init__(f"{message}. {hint}" if hint else message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.field, self.given, self.allowed, self.hint))
