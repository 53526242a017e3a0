"""Documents of a corpus: text, or a conversation that a tokenizer's template turns into text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from configs.errors import ConfigurationError

_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
_DATE = "".join(
    (
        "{%- macro strftime_now(format) -%}{{ format",
        *(f"|replace('%{sign}', '{_WRITTEN:%{sign}}')" for sign in "aAbBdHIjmMpSuUwWyY"),
        "}}{%- endmacro -%}",
    )
)
"""Stands before templates that write today's date: a sweep's texts are the same on any day."""
Chat = list[dict[str, Any]]
"""Messages in order, each with ``role`` and ``content``."""
Document = str | Chat


def as_text(document: Document) -> str:
    """What a corpus's digest is of: conversations in canonical JSON, for templates differ."""
    if isinstance(document, str):
        return document
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


def rendered(
    documents: Iterable[Document], tokenizer: Any, prefix: str, *, field: str, given: str
) -> list[str]:
    """Every document as text, conversations by the tokenizer's chat template.

    Args:
        prefix: what each window starts with anyway; a template's own is not said twice.
        field, given: of the corpus, for messages.

    Raises:
        ConfigurationError: the tokenizer has no template, or it refuses a conversation.
    """
    texts: list[str] = []
    for number, document in enumerate(documents, start=1):
        if isinstance(document, str):
            texts.append(document)
            continue
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigurationError(
                field,
                given,
                "its rows hold conversations (messages), and the model's tokenizer has no chat "
                "template to write them with",
                "Take a chat model, or text",
            )
        try:
            template = tokenizer.get_chat_template()
            dated = f"{_DATE}{template}" if "strftime_now" in template else template
            text = tokenizer.apply_chat_template(document, chat_template=dated, tokenize=False)
        except Exception as error:  # templates are programs and raise what they like
            allowed = f"the model's chat template refuses conversation {number}: {error}"
            raise ConfigurationError(field, given, allowed) from error
        texts.append(text.removeprefix(prefix))
    return texts


def is_chat(value: Any) -> bool:
    """Whether a field's value is a conversation."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)
    )


def checked_document(value: Any, place: str, field: str, column: str) -> Document:
    """``value`` if it is text that UTF-8 can hold, or a conversation.

    Raises:
        ConfigurationError: with ``place`` and the type that came.
    """
    if is_chat(value):
        return value
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise ConfigurationError(field, column, f"the field must hold text; {place} holds {kind}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        allowed = f"{place} holds half of a surrogate pair, which is no character"
        raise ConfigurationError(field, column, allowed) from error
    return value
