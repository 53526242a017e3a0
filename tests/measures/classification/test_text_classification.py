"""Labelled texts: how they are read, encoded, learned and scored."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support import encoders

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.classification.records import LabelledData, LabelledText, resolve
from tasks.measures.classification.scoring import Score
from tasks.measures.classification.settings import ClassificationTask
from tasks.measures.classification.steps import TextClassificationTask
from tasks.measures.tuning.measure import sizes_of
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.records import counts_of, split
from tasks.measures.tuning.sharing import Lesson, Recipe
from tasks.measures.tuning.training import fine_tune_, logits_of, zeros_of
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model, load_tokenizer
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import parse_target
from tasks.training.engine import AccelerateEngine, accelerator_for

CPU = torch.device("cpu")


def lines(path: Path, *records: Any) -> str:
    told = (entry if isinstance(entry, str) else json.dumps(entry) for entry in records)
    path.write_text("\n".join(told), encoding="utf-8")
    return str(path)


def labelled(label: Any, text: str = "a text", **more: Any) -> dict[str, Any]:
    return {"text": text, "label": label, **more}


def resolved(train: str, test: str | None = None) -> LabelledData:
    task = ClassificationTask.model_validate({"data": {"train": train, "test": test}})
    return resolve(task, "here")


GOOD = [labelled("yes"), labelled("no", "another")]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("{", r"train\.jsonl:2.*Expecting"),
        ("[]", r"train\.jsonl:2.*JSON object"),
        ({"label": "a"}, r"train\.jsonl:2.*text is a string"),
        (labelled("a", "  "), r"train\.jsonl:2.*not empty"),
        (labelled(None), r"train\.jsonl:2.*label is a string or a whole number"),
        (labelled(True), r"train\.jsonl:2.*label is a string"),
        (labelled("a", id=7), r"train\.jsonl:2.*id 7 is labelled in line 1 too"),
        ('{"text": "\\ud800", "label": "a"}', r"train\.jsonl:2.*text is .*whole characters"),
        ('{"text": "x", "label": "\\ud83d"}', r"train\.jsonl:2.*label is .*whole characters"),
        ("[" * 100_000, r"train\.jsonl:2.*recursion"),
    ],
)
def test_a_bad_line_is_named(second: Any, told: str, tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", labelled("a", id=7), second)
    with pytest.raises(ConfigurationError, match=told):
        resolved(train)


def test_labels_of_another_encoding_are_refused(tmp_path: Path) -> None:
    """Read with replacements, é and è would be one class."""
    train = tmp_path / "train.jsonl"
    records = [json.dumps(labelled(x, f"{x} text"), ensure_ascii=False) for x in "éèn"]
    test = lines(tmp_path / "test.jsonl", labelled("é", "new"))
    train.write_bytes("\n".join(records).encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"UTF-8; byte 0xe9 at offset \d+"):
        resolved(str(train), test)
    train.write_text("\r".join(records), encoding="utf-8-sig", newline="")
    assert sorted(resolved(str(train), test).labels) == sorted("éèn")


def test_texts_that_are_learned_from_and_scored_are_refused_or_counted(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", *GOOD)
    same = lines(tmp_path / "same.jsonl", *GOOD)
    with pytest.raises(ConfigurationError, match=r"data\.test.*it holds what train holds"):
        resolved(train, test=same)
    test = lines(tmp_path / "test.jsonl", GOOD[0], labelled("no", "a third"))
    parts = resolved(train, test=test).read.parts
    counts = counts_of(parts, lambda entry: entry.text)
    assert counts == {"train": len(GOOD), "test": 2, "test whose text train holds too": 1}
    assert sizes_of(counts).endswith("2 test, 1 test whose text train holds too")


def test_an_id_of_null_is_none(tmp_path: Path) -> None:
    texts = [labelled(n % 2, str(n), id=None) for n in range(8)]
    assert resolved(lines(tmp_path / "t.jsonl", *texts)).labels == ["0", "1"]


def test_a_label_that_nothing_is_learned_of_is_named(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", *GOOD)
    test = lines(tmp_path / "test.jsonl", labelled("no"), "", labelled("maybe"))
    with pytest.raises(ConfigurationError, match=r"test\.jsonl:3.*'maybe' is none.*no, yes"):
        resolved(train, test)
    late = lines(tmp_path / "late.jsonl", *GOOD, labelled("no", "c"), labelled("maybe", "d"))
    with pytest.raises(ConfigurationError, match="'maybe' only in the last quarter"):
        resolved(late)
    with pytest.raises(ConfigurationError, match="at least two classes"):
        resolved(lines(tmp_path / "one.jsonl", *[labelled(1, str(n)) for n in range(9)]))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        resolved(str(tmp_path / "nowhere.jsonl"))


def test_equal_texts_come_to_one_side_and_numbers_are_labels(tmp_path: Path) -> None:
    texts = [LabelledText(text, "x") for text in "abcdabcd"]
    parts = split(texts, lambda entry: entry.text)
    assert [entry.text for entry in parts["train"]] == list("abcabc")
    assert [entry.text for entry in parts["test"]] == list("dd")
    data = resolved(lines(tmp_path / "t.jsonl", *[labelled(n % 2, str(n)) for n in range(8)]))
    assert data.labels == ["0", "1"]
    assert [len(data.read.parts[part]) for part in ("train", "test")] == [6, 2]
    same = lines(tmp_path / "other-name.jsonl", *[labelled(n % 2, str(n)) for n in range(8)])
    assert data.step.fingerprint == resolved(same).step.fingerprint


def test_figures_of_hand_made_answers() -> None:
    gold, chosen = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 0])
    score = Score(gold, chosen, ["a", "b", "c", "never"])
    told = score.figures()
    assert told["accuracy"] == pytest.approx(4 / 6)
    # F1 of a 2·2/(3 + 3), of b 2·2/(3 + 2), of c 0; nobody asked for the fourth.
    assert told["macro_f1"] == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    assert told["largest_class"] == 0.5
    assert told == score.figures(), "the bootstrap is seeded"
    low, high = told["accuracy_interval"]
    assert 0 <= low < told["accuracy"] < high <= 1
    assert score.as_csv().splitlines()[1:3] == [
        f"a,3,2,1,1,{2 / 3},{2 / 3},{2 / 3}",
        f"b,2,2,1,0,{2 / 3},1.0,0.8",
    ]


def test_the_bootstrap_s_error_is_the_binomial_s() -> None:
    gold = torch.zeros(200, dtype=torch.long)
    told = Score(gold, (torch.arange(200) % 4 == 0).long(), ["a", "b"]).figures()
    assert told["accuracy_stderr"] == pytest.approx((0.75 * 0.25 / 200) ** 0.5, rel=0.1)


def test_a_pruned_encoder_learns_and_its_zeros_stay(tmp_path: Path) -> None:
    folder, draw = encoders.write(tmp_path / "model"), random.Random(0)
    words = {"sun": ("hot", "dry"), "rain": ("wet", "cold")}
    records = [
        labelled(label, " ".join(draw.choices(words[label], k=draw.randint(2, 6))))
        for label in draw.choices(list(words), k=64)
    ]
    data = resolved(lines(tmp_path / "train.jsonl", *records))
    options = ClassificationTask.model_validate({"data": {"train": "unused"}})
    task = TextClassificationTask(options, data)
    model, tokenizer = (
        load_model(folder, torch.float32, CPU, Trust()),
        load_tokenizer(folder, Trust()),
    )
    layers = describe(model).layers()
    for layer in layers.values():
        layer.whole.masked_fill_(lowest(layer.whole.abs(), parse_target("2:4")), 0.0)
    before = {name: layer.whole.clone() for name, layer in layers.items()}
    network = TaskNetwork(model, task.columns, "last", torch.Generator().manual_seed(0))
    encoded = {part: task.encode(data.read.parts[part], tokenizer, 16) for part in data.read.parts}
    assert max(len(entry.ids) for entry in encoded["train"]) == 16, "long texts are cut"
    assert all(entry.ids[-1] == tokenizer.sep_token_id for entry in encoded["train"])
    whole = task.encode(data.read.parts["train"], tokenizer, 512)
    assert not any(entry.cut for entry in whole)
    assert [e.cut for e in encoded["train"]] == [len(entry.ids) > 16 for entry in whole]
    assert [entry.record for entry in whole] == list(range(len(whole)))
    recipe = Recipe(epochs=8, learning_rate=3e-3, batch_size=8, warmup=0.1, seed=0)
    lesson = Lesson(encoded=encoded["train"], objective=task.objective, recipe=recipe, padding=0)
    with accelerator_for(CPU, torch.float32) as accelerator:
        engine = AccelerateEngine(accelerator, None)
        history = fine_tune_(
            network, lesson, zeros_of(model), engine=engine, progress=lambda done, total: None
        )
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    for name, layer in layers.items():
        assert torch.equal(layer.whole == 0, before[name] == 0), name
    whole, single = (logits_of(network, encoded["test"], size, padding=0) for size in (16, 1))
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-5)
    (tmp_path / "out").mkdir()
    told = task.score(data.read.parts, encoded, {"test": whole}, tmp_path / "out")
    assert told["accuracy"] > 0.9
    assert sum(told["texts"].values()) == 64
    assert (tmp_path / "out" / "classes.csv").read_text().startswith("label,N,TP")
