"""Tokens and windows: what is cut where, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ConfigurationError
from tasks.data.windows import (
    check_length,
    check_vocabulary,
    contiguous_windows,
    load_windows,
    prefix_tokens,
    save_windows,
    tokenise,
    windows_at,
)
from tasks.selection import positions

MakeTokenizer = Callable[..., Any]
BOS = 1


class TestTokenise:
    def test_no_special_tokens_and_no_warning(
        self,
        make_tokenizer: MakeTokenizer,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tokenizer = make_tokenizer("<s> $A </s>", model_max_length=3)
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        with caplog.at_level(logging.WARNING):
            tokens = tokenise(tokenizer, ["the quick brown fox jumps"]).ids_T
        assert tokens.tolist() == [4, 5, 6, 7, 8]
        assert tokens.dtype == torch.int64
        assert caplog.text == ""
        with caplog.at_level(logging.WARNING):
            make_tokenizer("$A", model_max_length=3)("the quick brown fox")
        assert "longer than the specified maximum" in caplog.text

    @pytest.mark.parametrize(
        ("template", "names", "expected"),
        [
            ("<s> $A", {"bos_token": "<s>"}, (1,)),
            ("<s> $A </s>", {"bos_token": "<s>", "eos_token": "</s>"}, (1,)),
            ("</s> $A", {"bos_token": "</s>"}, (2,)),  # OPT's
            ("$A", {"bos_token": "<s>"}, ()),
            ("$A </s>", {"bos_token": "<s>", "eos_token": "</s>"}, ()),
            ("[X] $A", {}, (3,)),  # whatever it is called, the model was trained behind it
            ("[X] <s> $A </s>", {"bos_token": "<s>"}, (3, 1)),
        ],
    )
    def test_what_the_tokenizer_puts_before_every_text(
        self,
        make_tokenizer: MakeTokenizer,
        template: str,
        names: dict[str, str],
        expected: tuple[int, ...],
    ) -> None:
        assert prefix_tokens(make_tokenizer(template, **names)) == expected

    @pytest.mark.parametrize("expected", [(), (1,), (3, 1)])
    def test_where_the_first_word_is_written_otherwise_behind_them(
        self, expected: tuple[int, ...]
    ) -> None:
        class Shifting:
            """Puts a space before a text that begins, and not behind other tokens."""

            all_special_ids = (1, 2, 3)

            def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, Any]:
                word = 8 if add_special_tokens else 9
                return {"input_ids": [*expected, word, 2] if add_special_tokens else [word]}

        assert prefix_tokens(Shifting()) == expected


class TestDocuments:
    def test_counted_by_where_windows_begin_and_end(self, make_tokenizer: MakeTokenizer) -> None:
        words = ["the quick brown", "fox", "jumps over the lazy", "dog the"]
        tokens = tokenise(make_tokenizer(), words, " ")
        assert len(tokens.ids_T) == 10
        assert tokens.documents([(0, 3), (3, 4)]) == {"documents": 2, "documents_cut": 0}
        assert tokens.documents([(0, 4), (4, 8)]) == {"documents": 3, "documents_cut": 0}
        assert tokens.documents([(0, 5), (5, 10)]) == {"documents": 4, "documents_cut": 1}
        assert tokens.documents([(1, 2)]) == {"documents": 1, "documents_cut": 1}
        assert tokens.documents([(4, 9)]) == {"documents": 2, "documents_cut": 1}

    def test_a_tokenizer_that_does_not_tell(self) -> None:
        def slow(text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": list(range(len(text)))}

        assert tokenise(slow, ["abc"]).documents([(0, 1)]) == {}


class TestContiguous:
    @given(
        tokens=st.integers(4, 60),
        length=st.integers(2, 10),
        prefix=st.sampled_from([(), (99,), (99, 98)]),
    )
    def test_all_full_windows_cover_the_corpus_in_order(
        self, tokens: int, length: int, prefix: tuple[int, ...]
    ) -> None:
        step = length - len(prefix)
        if not 0 < step <= tokens:
            return
        windows = contiguous_windows(torch.arange(tokens), length, None, prefix, field="f")
        assert windows.shape == (tokens // step, length)
        assert windows.dtype == torch.int32
        assert windows[:, len(prefix) :].flatten().tolist() == list(range(tokens // step * step))
        assert {tuple(row) for row in windows[:, : len(prefix)].tolist()} == {prefix}

    def test_count_takes_the_first(self) -> None:
        windows = contiguous_windows(torch.arange(20), 4, 2, (), field="f")
        assert windows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_too_short(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            contiguous_windows(torch.arange(1999), 200, 32, (BOS,), field="calibration.samples")
        message = str(caught.value)
        assert caught.value.field == "calibration.samples"
        assert caught.value.given == 32
        assert "1,999 tokens" in message
        assert "10 windows of 200 tokens (1 of them the tokenizer's prefix)" in message
        with pytest.raises(ConfigurationError, match="make 0 windows of 4 tokens"):
            contiguous_windows(torch.arange(3), 4, None, (), field="f")


def random_windows(
    tokens_T: torch.Tensor, length: int, count: int, seed: int, prefix: tuple[int, ...]
) -> torch.Tensor:
    step = length - len(prefix)
    offsets_N = positions.random(len(tokens_T), step, count, seed)
    return windows_at(tokens_T, offsets_N, step, prefix)


class TestRandom:
    @pytest.mark.parametrize("prefix", [(), (BOS,)])
    def test_each_window_is_a_stretch_of_the_corpus(self, prefix: tuple[int, ...]) -> None:
        windows = random_windows(torch.arange(100, 150), 8, 64, 0, prefix)
        assert windows.shape == (64, 8)
        assert windows.dtype == torch.int32
        body = windows[:, len(prefix) :]
        assert (body.diff(dim=1) == 1).all()
        assert body.min() >= 100
        assert body.max() < 150

    def test_every_offset_can_come_first_and_last_included(self) -> None:
        starts = random_windows(torch.arange(10), 4, 500, 0, ())[:, 0]
        assert set(starts.tolist()) == set(range(7))

    def test_seed_decides(self) -> None:
        first, again, other = (
            random_windows(torch.arange(1000), 8, 16, seed, ()) for seed in (3, 3, 4)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_the_global_generator_is_not_touched(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        random_windows(torch.arange(100), 8, 4, 0, ())
        assert torch.equal(torch.rand(1), expected)

    def test_one_window_is_enough_text(self) -> None:
        windows = random_windows(torch.arange(4), 4, 3, 0, ())
        assert windows.tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize(
    "config",
    [
        SimpleNamespace(max_position_embeddings=64),
        SimpleNamespace(
            get_text_config=lambda decoder: SimpleNamespace(max_position_embeddings=64)
        ),
    ],
)
def test_windows_must_fit_the_model(config: Any) -> None:
    check_length(config, 64, "calibration.sequence_length")
    with pytest.raises(ConfigurationError, match="at most 64 tokens") as caught:
        check_length(config, 65, "calibration.sequence_length")
    assert (caught.value.field, caught.value.given) == ("calibration.sequence_length", 65)


def test_gpt2_names_its_positions_otherwise() -> None:
    from transformers import BloomConfig, GPT2Config

    with pytest.raises(ConfigurationError, match="at most 32 tokens"):
        check_length(GPT2Config(n_positions=32), 33, "f")
    check_length(BloomConfig(), 1_000_000, "f")


def test_file_of_windows(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "windows.safetensors"
    windows = torch.arange(12).reshape(3, 4)
    save_windows(path, windows.T, {"corpus": "abc"})
    loaded = load_windows(path)
    assert loaded.dtype == torch.int32
    assert torch.equal(loaded, windows.T.to(torch.int32))
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"corpus": "abc"}
    (tmp_path / "new").touch()
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new", "windows.safetensors"]


@pytest.mark.parametrize(
    "name", ["max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length"]
)
def test_the_longest_window_under_whatever_name(name: str) -> None:
    config = SimpleNamespace(**{name: 32, "vocab_size": 7})
    check_length(config, 32, "calibration.sequence_length")
    with pytest.raises(ConfigurationError, match="at most 32 tokens"):
        check_length(config, 33, "calibration.sequence_length")


def test_tokens_beyond_the_embedding() -> None:
    class Tokenizer:
        def convert_ids_to_tokens(self, number: int) -> str:
            return f"word{number}"

    made = torch.tensor([[1, 2], [9, 3]], dtype=torch.int32)
    named = {"field": "models[0]", "given": "./model", "text": "calibration"}
    check_vocabulary(made, 10, Tokenizer(), **named)
    check_vocabulary(made, None, Tokenizer(), **named)
    with pytest.raises(ConfigurationError, match=r"token 9 \('word9'\).*embedding ends at 8"):
        check_vocabulary(made, 9, Tokenizer(), **named)
