"""Documents of a corpus: text, a prompt with its completion, or a conversation.

A conversation is turned into text by the tokenizer's template.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
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
MESSAGES, PROMPT, COMPLETION = "messages", "prompt", "completion"
"""Fields of rows that hold no text: a conversation, or two texts."""
INSTEAD = (MESSAGES, PROMPT, COMPLETION)


@dataclass(frozen=True)
class Pair:
    """A prompt and what follows it, with nothing between them."""

    prompt: str
    completion: str


Document = str | Chat | Pair


def as_text(document: Document) -> str:
    """What a corpus's digest is of: conversations in canonical JSON, for templates differ."""
    if isinstance(document, str):
        return document
    plain = asdict(document) if isinstance(document, Pair) else document
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)


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
        if isinstance(document, Pair):
            texts.append(document.prompt + document.completion)
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
            text = by_template(document, tokenizer)
        except Exception as error:  # templates are programs and raise what they like
            allowed = f"the model's chat template refuses conversation {number}: {error}"
            raise ConfigurationError(field, given, allowed) from error
        texts.append(text.removeprefix(prefix))
    return texts


def by_template(chat: Chat, tokenizer: Any, *, opens: bool = False) -> str:
    """A conversation as the tokenizer's template writes it.

    Args:
        opens: whether what an answer begins with stands at the end.
    """
    template = tokenizer.get_chat_template()
    dated = f"{_DATE}{template}" if "strftime_now" in template else template
    return tokenizer.apply_chat_template(
        chat, chat_template=dated, tokenize=False, add_generation_prompt=opens
    )


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


def document_of(
    row: Mapping[str, Any], place: str, *, field: str, column: str, loss: str
) -> Document:
    """A row's document.

    Args:
        field: dotted path of the corpus, for messages.
        column: the field that holds the text or the conversation; without it, a conversation in
            ``messages``, or ``prompt`` and ``completion``.
        loss: ``completion`` takes rows that have one alone, and passes over text beside it.

    Raises:
        ConfigurationError: with ``place`` and the fields that are there.
    """
    answers = loss == "completion"
    if column in row and not (answers and isinstance(row[column], str)):
        found = checked_document(row[column], place, f"{field}.column", column)
    elif is_chat(row.get(MESSAGES)):
        found = row[MESSAGES]
    elif {PROMPT, COMPLETION} <= row.keys():
        texts = (
            checked_document(row[name], place, f"{field}.column", name)
            for name in (PROMPT, COMPLETION)
        )
        found = Pair(*map(str, texts))
    else:
        present = ", ".join(map(str, row)) or "none"
        if answers:
            raise no_completion(field, f"{place} has the fields: {present}")
        raise ConfigurationError(f"{field}.column", column, f"{place} has the fields: {present}")
    if answers and not answered(found):
        raise no_completion(field, f"{place} has an empty one")
    return found


def no_completion(field: str, reason: str) -> ConfigurationError:
    """What is raised where only completions count and there is none."""
    return ConfigurationError(
        f"{field}.loss",
        COMPLETION,
        f"each row needs a completion: {PROMPT} and {COMPLETION}, or {MESSAGES} that the "
        f"assistant answers; {reason}",
        "Set loss: all to count every token",
    )


def answered(document: Document) -> bool:
    """Whether anything in a document is a completion."""
    if isinstance(document, Pair):
        return bool(document.completion.strip())
    return not isinstance(document, str) and any(map(is_answer, document))


def is_answer(message: Mapping[str, Any]) -> bool:
    """Whether a message is one of the assistant, and not an empty one."""
    said = str(message.get("content") or "").strip()
    return message["role"] == "assistant" and bool(said or message.get("tool_calls"))
