"""Completions: which rows have them, which tokens are theirs, which windows predict one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.corpora import Corpus
from configs.errors import ConfigurationError
from tasks.data.completions import places, spans_of, tokens_in
from tasks.data.corpora import passages, read_corpus
from tasks.data.cutting import Cut, cut_passages
from tasks.data.documents import Document, Pair, rendered
from tasks.data.texts import Windows
from tasks.data.windows import load_counted, load_windows, save_windows

MakeTokenizer = Callable[..., Any]
CHAT = [
    {"role": "user", "content": "the quick"},
    {"role": "assistant", "content": "brown fox"},
    {"role": "user", "content": "jumps"},
    {"role": "assistant", "content": "over"},
]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}.\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(base: Path, **settings: Any) -> list[Document]:
    corpus = Corpus.model_validate({"source": "files", "loss": "completion", **settings})
    return read_corpus(corpus, role="calibration", base=base, field="training.corpus")[1]


def cut(base: Path, tokenizer: Any, corpus: Any, *, length: int = 4, **changes: Any) -> Cut:
    made = Corpus.model_validate(corpus)
    facts, documents = read_corpus(made, role="calibration", base=base, field="training.corpus")
    settings: dict[str, Any] = {"count": None, "sampling": "contiguous", "seed": 0, **changes}
    windows = Windows(
        None,  # type: ignore[arg-type]
        "training",
        "training",
        made,
        "calibration",
        facts,
        length,
        loss=", ".join(made.losses),
        **settings,
    )
    return cut_passages(windows, passages(made, facts, documents), tokenizer, "chat.jsonl")


def test_rows_of_prompt_and_completion_are_read_with_and_without_their_loss(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "the ", "completion": "dog", "text": "else"}])
    assert read(tmp_path, files=["a.jsonl"]) == [Pair("the ", "dog")]
    # What is text stays text where every token counts.
    assert read(tmp_path, files=["a.jsonl"], loss="all") == ["else"]
    write(tmp_path / "b.jsonl", [{"prompt": "the ", "completion": "dog"}])
    pairs = read(tmp_path, files=["b.jsonl"], loss="all")
    assert pairs == [Pair("the ", "dog")]
    assert rendered(pairs, None, "", field="c", given="b.jsonl") == ["the dog"]
    (tmp_path / "c.csv").write_text("prompt,completion\nthe ,dog\n")
    assert read(tmp_path, files=["c.csv"]) == [Pair("the ", "dog")]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", '{"prompt": "a", "completion": " "}', ["line 1 of a.jsonl has an empty one"]),
        ("a.jsonl", '{"text": "a"}', ["line 1 of a.jsonl has the fields: text"]),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "a"}]}', ["line 1", "empty one"]),
        (
            "a.jsonl",
            '{"messages": [{"role": "assistant", "content": ""}]}',
            ["the assistant answers", "empty one"],
        ),
        ("a.txt", "Only prose.", ["a.txt is text without any", "prompt and completion"]),
        ("a.json", '["prose"]', ["row 1 of a.json is text without any"]),
    ],
)
def test_a_row_without_a_completion_is_refused(
    tmp_path: Path, name: str, content: str, parts: list[str]
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, files=[name])
    assert refused.value.field == "training.corpus.loss"
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_a_completion_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": None}])
    with pytest.raises(ConfigurationError, match=r"line 1 of a\.jsonl holds null"):
        read(tmp_path, files=["a.jsonl"])


def test_only_rows_have_completions() -> None:
    with pytest.raises(ValidationError, match="loss belongs to source files or hub"):
        Corpus.model_validate({"loss": "completion"})


def test_answers_of_a_conversation_are_found_with_what_ends_them(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(bos_token="<s>")
    tokenizer.chat_template = "<s>" + TEMPLATE
    documents: list[Document] = [CHAT, Pair("lazy ", "dog"), CHAT[:2]]
    texts = rendered(documents, tokenizer, "<s>", field="c", given="g")
    found = spans_of(documents, texts, "--", tokenizer, "<s>", field="c", given="g")
    joined = "--".join(texts)
    assert [joined[first:last] for first, last in found] == [
        "brown fox.\n",
        "over.\n",
        "dog",
        "brown fox.\n",
    ]


def test_a_template_that_rewrites_what_came_before_is_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages|length }}" + TEMPLATE
    texts = rendered([CHAT], tokenizer, "", field="c", given="g")
    with pytest.raises(ConfigurationError, match=r"conversation 1.*message 2 otherwise"):
        spans_of([CHAT], texts, "", tokenizer, "", field="c", given="g")


def test_a_conversation_that_begins_with_an_answer_is_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    """What a template writes before it, a system's prompt, must not count."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "[system] be kind.\n" + TEMPLATE
    chats = [CHAT[1:]]
    texts = rendered(chats, tokenizer, "", field="c", given="g")
    with pytest.raises(ConfigurationError, match=r"conversation 1.*begins with one"):
        spans_of(chats, texts, "", tokenizer, "", field="c", given="g")


@given(st.lists(st.integers(1, 4), max_size=12), st.data())
def test_tokens_hold_a_character_of_a_span(lengths: list[int], data: st.DataObject) -> None:
    ends = torch.tensor(lengths, dtype=torch.int64).cumsum(0).tolist()
    offsets = list(zip([0, *ends], ends, strict=False))
    total = ends[-1] if ends else 0
    inside = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    edges = [i for i in range(total + 1) if (i and inside[i - 1]) != (i < total and inside[i])]
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    expected = [any(inside[first:last]) for first, last in offsets]
    assert tokens_in(spans, offsets).tolist() == expected


@given(st.lists(st.booleans(), max_size=24), st.integers(1, 6), st.booleans(), st.booleans())
def test_places_are_where_a_window_predicts_what_counts(
    counted: list[bool], step: int, anywhere: bool, prefixed: bool
) -> None:
    every, predicted = 1 if anywhere else step, 0 if prefixed else 1
    found = places(torch.tensor(counted, dtype=torch.bool), step, every=every, predicted=predicted)
    assert found.tolist() == [
        first
        for first in range(0, len(counted) - step + 1, every)
        if any(counted[first + predicted : first + step])
    ]


PAIRS = [
    {"prompt": "the quick brown fox jumps ", "completion": "over"},
    {"prompt": "the quick the quick the quick ", "completion": "lazy dog"},
] * 6


@pytest.mark.parametrize("sampling", ["contiguous", "random", "spread"])
@pytest.mark.parametrize("template", ["$A", "<s> $A"])
def test_every_window_predicts_a_completion(
    tmp_path: Path, make_tokenizer: MakeTokenizer, sampling: str, template: str
) -> None:
    write(tmp_path / "chat.jsonl", PAIRS)
    names = {"bos_token": "<s>"} if template != "$A" else {}
    tokenizer = make_tokenizer(template, **names)
    corpus = {"source": "files", "files": ["chat.jsonl"], "loss": "completion"}
    made = cut(tmp_path, tokenizer, corpus, count=8, sampling=sampling)
    assert made.counted_NL is not None
    assert made.counted_NL[:, 1:].any(dim=1).all()
    answers = {tokenizer.convert_tokens_to_ids(word) for word in ("over", "lazy", "dog")}
    expected = [[token in answers for token in window] for window in made.windows_NL.tolist()]
    assert made.counted_NL.tolist() == expected
    if sampling != "random":
        assert made.offsets == sorted(set(made.offsets))


def test_windows_without_a_completion_are_left_out(
    tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
    write(tmp_path / "chat.jsonl", PAIRS)
    tokenizer = make_tokenizer()
    corpus = {"source": "files", "files": ["chat.jsonl"]}
    every = cut(tmp_path, tokenizer, corpus)
    some = cut(tmp_path, tokenizer, corpus | {"loss": "completion"})
    assert every.counted_NL is None
    assert 0 < len(some.windows_NL) < len(every.windows_NL)
    with pytest.raises(
        ConfigurationError, match=rf"{len(some.windows_NL)} windows.* in which a com"
    ):
        cut(tmp_path, tokenizer, corpus | {"loss": "completion"}, count=500)


def test_of_a_mixture_each_text_counts_as_it_says(
    tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
    write(tmp_path / "chat.jsonl", PAIRS)
    (tmp_path / "prose.txt").write_text("the lazy dog " * 40)
    parts = [
        {"source": "files", "files": ["chat.jsonl"], "loss": "completion"},
        {"source": "files", "files": ["prose.txt"]},
    ]
    made = cut(tmp_path, make_tokenizer(), parts, count=8)
    assert made.by_source() == {"chat.jsonl": 4, "prose.txt": 4}
    assert made.counted_NL is not None
    prose = torch.tensor([source == "prose.txt" for source in made.sources])
    assert made.counted_NL[prose].all()
    assert not made.counted_NL[~prose].all(dim=1).any()


@pytest.mark.parametrize("count", [None, 12])
def test_windows_of_a_mixture_keep_its_shares_in_every_stretch(
    count: int | None, tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
    """Many windows are of one text: without a number of windows all of them were taken."""
    (tmp_path / "short.txt").write_text("the lazy dog " * 60)
    (tmp_path / "long.txt").write_text("jumps over the " * 600)
    parts = [
        {"source": "files", "files": ["short.txt"], "share": 3},
        {"source": "files", "files": ["long.txt"], "share": 1},
    ]
    made = cut(tmp_path, make_tokenizer(), parts, count=count)
    found = made.by_source()
    assert found["short.txt"] == 3 * found["long.txt"]
    assert count is None or sum(found.values()) == count
    assert count is not None or found["short.txt"] > 9
    for stretch in (made.sources[:4], made.sources[-4:]):
        assert stretch.count("short.txt") == 3
    text = {"short.txt": "lazy", "long.txt": "over"}
    for window, source in zip(made.windows_NL.tolist(), made.sources, strict=True):
        assert make_tokenizer().convert_tokens_to_ids(text[source]) in window


@pytest.mark.parametrize(
    ("count", "given"), [(None, "training.samples: part 2"), (40, "training.samples: 40 is not")]
)
def test_a_part_that_is_too_short_is_named(
    count: int | None, given: str, tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
    (tmp_path / "long.txt").write_text("jumps over the " * 600)
    (tmp_path / "short.txt").write_text("the dog")
    parts = [{"source": "files", "files": [f"{name}.txt"]} for name in ("long", "short")]
    with pytest.raises(ConfigurationError) as refused:
        cut(tmp_path, make_tokenizer(), parts, count=count, length=8)
    assert str(refused.value).startswith(given)
    assert "part 2 of the corpus has" in str(refused.value)
    assert "make 0 windows of 8 tokens" in str(refused.value)


def test_a_tokenizer_that_does_not_say_where_its_tokens_lie_is_refused(
    tmp_path: Path, make_tokenizer: MakeTokenizer
) -> None:
    write(tmp_path / "chat.jsonl", PAIRS)
    fast = make_tokenizer()

    class Slow(SimpleNamespace):
        def __call__(self, text: str, **settings: Any) -> dict[str, Any]:
            return dict(fast(text, **settings))

    slow = Slow(all_special_ids=[], decode=fast.decode, get_vocab=fast.get_vocab)
    corpus = {"source": "files", "files": ["chat.jsonl"], "loss": "completion"}
    with pytest.raises(ConfigurationError, match="does not say where") as refused:
        cut(tmp_path, slow, corpus)
    assert refused.value.field == "training.corpus.loss"


def test_what_counts_is_kept_beside_the_windows(tmp_path: Path) -> None:
    windows_NL = torch.arange(12, dtype=torch.int32).view(3, 4)
    save_windows(tmp_path / "a", windows_NL, {}, windows_NL > 5)
    counted_NL = load_counted(tmp_path / "a")
    assert counted_NL is not None
    assert torch.equal(counted_NL, windows_NL > 5)
    assert torch.equal(load_windows(tmp_path / "a"), windows_NL)
    save_windows(tmp_path / "b", windows_NL, {})
    assert load_counted(tmp_path / "b") is None
