"""What every registered measure promises, those of installed packages included."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from configs import evaluation as evaluation_module
from configs.frozen import Frozen
from configs.overrides import apply
from configs.trust import Trust
from tasks.data import texts
from tasks.data.texts import Texts
from tasks.measures import registry
from tasks.measures.base import Measure, Member, Subject
from tasks.measures.figures import Figure, Value
from tasks.measures.registry import measures
from tasks.measures.zero_shot.results import Metric, TaskResult
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model
from tasks.models.saved.save import save_checkpoint
from tasks.models.sources import random_model
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import parse_target
from tasks.store.context import Context
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact, Store

QUESTION = """\
task: question
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "Which? {{question}}"
doc_to_target: answer
doc_to_choice: [red, green, blue]
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
ALWAYS = {"perplexity", "size"}
"""Measured in every sweep: no field switches them off."""


class SpreadSettings(Frozen):
    """Whether models are compared with each other."""

    spread: bool = True
    """Compare all models of the sweep."""


class Spread(Measure):
    """Looks at several models together."""

    name = "spread"
    summary = "how far the sweep's models are apart in their share of zeros"
    scope = "sweep"
    writes = ("spread",)
    Settings = SpreadSettings

    def sweep_steps(self, subjects: Sequence[Subject]) -> Mapping[str, Step]:
        if not all(subject.evaluation.spread for subject in subjects):
            return {}
        counts = {s.label: measures()["size"].steps(s)["size"] for s in subjects}
        return {"all": Step(name="spread", inputs={}, needs=counts, produce=self._produce)}

    def _produce(self, work: Work) -> Facts:
        facts = [work.need(role).facts for role in work.step.needs]
        shares = [entry["nonzero_parameters"] / entry["parameters"] for entry in facts]
        return {"spread": max(shares) - min(shares)}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        return {"spread": found["all"].facts["spread"]}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        figure = Figure(column="spread", label="spread of zeros", heading="spread", group="sweep",
                        better="", format="percent")  # fmt: skip
        return [figure] if "spread" in columns else []


@dataclass
class Sweep:
    """A dense model and a pruned one, with everything that is measured of them in one store."""

    context: Context
    subjects: tuple[Subject, Subject]

    def found(self, name: str) -> list[dict[str, Artifact]]:
        """The measure's artifacts of each subject, or of all together."""
        measure = measures()[name]
        if measure.scope == "sweep":
            asked = [measure.sweep_steps(self.subjects)]
        else:
            asked = [measure.steps(subject) for subject in self.subjects]
        return [{n: self.context.make(step) for n, step in steps.items()} for steps in asked]

    def rows(self, name: str) -> list[dict[str, Value]]:
        measure = measures()[name]
        return [dict(measure.columns(found)) if found else {} for found in self.found(name)]


@pytest.fixture(scope="module", autouse=True)
def with_spread() -> Iterator[None]:
    """One more measure, as a package brings it, of several cells together."""
    entry = SimpleNamespace(name="spread", load=lambda: Spread)
    with pytest.MonkeyPatch.context() as patch:
        known = registry.entry_points
        patch.setattr(registry, "entry_points", lambda group: [*known(group=group), entry])
        measures.cache_clear()
        patch.setattr(evaluation_module, "Evaluation", evaluation_module._evaluation())
        yield
    measures.cache_clear()


NAMES = [*measures(), "spread"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and a zero-shot task."""
    folder, draw = tmp_path_factory.mktemp("files"), random.Random(0)
    for name in ("docs.txt", "tales.txt"):
        (folder / name).write_text(" ".join(draw.choices(("red", "fox", "a", "tree."), k=200)))
    asked = [{"question": draw.choice("abcdef") * 3, "answer": draw.randrange(3)} for _ in range(9)]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (folder / "question.yaml").write_text(QUESTION)
    labelled = [{"text": draw.choice("abcdef") * 5, "label": n % 2} for n in range(24)]
    (folder / "labelled.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    words = [[draw.choice("abc") * 3 for _ in range(draw.randint(2, 9))] for _ in range(24)]
    named = [{"tokens": w, "labels": ["B-A" if "a" in t else "O" for t in w]} for w in words]
    (folder / "sentences.jsonl").write_text("\n".join(map(json.dumps, named)))
    return folder


def asked_of(files: Path, **changes: Any) -> Any:
    """An ``evaluation`` in which every measure is asked, in a few small windows."""
    switches = {
        name: True
        for measure in measures().values()
        for name, entry in measure.Settings.model_fields.items()
        if entry.annotation is bool
    }
    corpora = [
        {
            "name": name,
            "corpus": {"source": "files", "files": [str(files / f"{name}.txt")]},
            "sequence_length": 24,
            "windows": 5,
        }
        for name in ("docs", "tales")
    ]
    few = {"prompt_tokens": 9, "new_tokens": 3, "warmup": 0, "repetitions": 2}
    zero_shot = {"tasks": ["question"], "include_path": str(files)}
    slots = [{"name": "tweets", "data": {"tweets": 20}, "epochs": 1, "batch_size": 8}]
    classes = {"data": {"train": str(files / "labelled.jsonl")}, "epochs": 2, "batch_size": 8}
    spans = {**classes, "data": {"train": str(files / "sentences.jsonl")}, "max_tokens": 24}
    settings = {"perplexity": corpora, "speed_options": few, "zero_shot": zero_shot, "processes": 1,
                "uncertainty": {"samples": 3}, "slot_filling": slots,
                "text_classification": [classes], "token_classification": [spans]}  # fmt: skip
    return evaluation_module.Evaluation.model_validate({**switches, **settings, **changes})


def random_weights(work: Work) -> Facts:
    """A random model of bytes, with tokens that begin and end a text."""
    random_model.write(work.out)
    tokenizer = random_model.tokenizer()
    tokenizer.add_special_tokens({"bos_token": "Ā", "eos_token": "Ā"})
    tokenizer.save_pretrained(work.out)
    return {}


def halved(work: Work) -> Facts:
    """A checkpoint of magnitude pruning, without the machinery of a sweep."""
    source = work.need("model").path
    dense = load_model(source, torch.float32, torch.device("cpu"), Trust())
    half = parse_target("0.5")
    weights = {
        f"{name}.weight": layer.stored.masked_fill(lowest(layer.stored.abs(), half), 0)
        for name, layer in describe(dense).layers().items()
    }
    save_checkpoint(dense, source, weights, work.out, dtype=torch.float32, metadata={})
    return {}


def member(weights: Step, place: int) -> Member:
    """The dense model with noise of its own."""

    @contextmanager
    def noisy(work: Work) -> Iterator[Any]:
        source = work.need("model").path
        model = load_model(source, torch.float32, torch.device("cpu"), Trust())
        draw = torch.Generator().manual_seed(place)
        for layer in describe(model).layers().values():
            layer.stored.add_(0.02 * torch.randn(layer.stored.shape, generator=draw))
        yield model, 0.0

    return Member(inputs={"part": place}, needs={"model": weights}, model=noisy)


def sweep_in(folder: Path, evaluation: Any) -> Sweep:
    context = Context(Store(folder))
    weights = Step(name="model", inputs={}, produce=random_weights)
    resolved = {m.name: m.resolve(evaluation, context.trust) for m in measures().values()}
    common = {
        "dtype": "float32",
        "evaluation": evaluation,
        "resolved": resolved,
        "windows": Texts(weights).windows,
    }
    dense = Subject(label="tiny dense", weights=weights, dense=None, **common)
    pruned = Step(name="checkpoint", inputs={}, needs={"model": weights}, produce=halved)
    common["members"] = lambda asked: tuple(member(weights, n) for n in range(asked.members))
    return Sweep(context, (dense, Subject(label="halved", weights=pruned, dense=dense, **common)))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Sweep:
    return sweep_in(tmp_path_factory.mktemp("store"), asked_of(files))


def require_same(name: str, sweep: Sweep, other: Sweep, tolerance: float) -> None:
    if not measures()[name].repeatable:
        pytest.skip("it tells time and memory")
    for row, again in zip(sweep.rows(name), other.rows(name), strict=True):
        texts = {column: value for column, value in row.items() if isinstance(value, str)}
        assert texts.items() <= again.items()
        numbers = {column: value for column, value in row.items() if column not in texts}
        others = {column: value for column, value in again.items() if column not in texts}
        assert numbers == pytest.approx(others, rel=tolerance, abs=tolerance)


def figures_of(name: str, row: Mapping[str, Value]) -> list[Figure]:
    return list(measures()[name].figures([*row, "of no measure", "other/docs"]))


@pytest.mark.parametrize("name", NAMES)
def test_writes_what_it_says_and_no_more(name: str, sweep: Sweep) -> None:
    rows = sweep.rows(name)
    patterns = [
        re.sub(r"<\w+>", "[^/]+", re.escape(text).replace(r"\<", "<").replace(r"\>", ">"))
        for text in measures()[name].writes
    ]
    assert any(rows), "nothing was measured"
    for column in {column for row in rows for column in row}:
        assert any(re.fullmatch(pattern, column) for pattern in patterns), column


@pytest.mark.parametrize("name", NAMES)
def test_every_column_has_one_complete_figure(name: str, sweep: Sweep) -> None:
    for row in sweep.rows(name):
        figures = figures_of(name, row)
        told = [f.column for f in figures] + [f.error for f in figures if f.error]
        assert sorted(told) == sorted(row)
        for figure in figures:
            assert figure.label
            assert figure.heading
            assert figure.group
            text = isinstance(row[figure.column], str)
            assert text == (figure.format == "text"), figure.column
            assert not figure.comparable or figure.comparable in row
            assert not (figure.headline or figure.role == "quality") or figure.better


def test_no_column_is_of_two_measures(sweep: Sweep) -> None:
    columns = [c for n in NAMES for c in dict.fromkeys(c for row in sweep.rows(n) for c in row)]
    assert len(columns) == len(set(columns))
    headlines = [f.column for f in registry.figures_of(columns) if f.headline]
    assert headlines == [
        "perplexity/docs",
        "perplexity/tales",
        "zero_shot/mean",
        "slot_f1/tweets",
        "accuracy/texts",
        "span_f1/entities",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_is_by_definition_is_what_the_dense_model_has(name: str, sweep: Sweep) -> None:
    for figure in figures_of(name, sweep.rows(name)[-1]):
        dense = figure.value(sweep.rows(name)[0])
        assert figure.dense is None or dense in (None, figure.dense) or name == "spread"


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_made_once(name: str, sweep: Sweep) -> None:
    assert any(sweep.found(name))
    for found in sweep.found(name):
        assert all(artifact.reused for artifact in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_facts_read_back_as_they_were(name: str, sweep: Sweep) -> None:
    """What a store holds says the same as what was just computed."""
    first, again = sweep.rows(name), sweep.rows(name)
    assert first == again
    for found in sweep.found(name):
        for artifact in found.values():
            assert artifact.facts["step_seconds"] > 0
            json.dumps(dict(artifact.facts), allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_same_figures_in_another_store(name: str, sweep: Sweep, again: Sweep) -> None:
    require_same(name, sweep, again, 0)


@pytest.mark.parametrize("name", NAMES)
def test_does_not_depend_on_the_batch_size(name: str, sweep: Sweep, batches: Sweep) -> None:
    require_same(name, sweep, batches, 1e-5)


@pytest.mark.parametrize(("name", "role"), [("perplexity", "docs"), ("zero_shot", "question")])
def test_the_batch_size_is_recorded(name: str, role: str, sweep: Sweep, batches: Sweep) -> None:
    for made in (sweep, batches):
        wanted = made.subjects[0].evaluation.batch_size
        assert {found[role].facts["batch_size"] for found in made.found(name)} == {wanted}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_does_not_depend_on_the_processes(name: str, sweep: Sweep, processes: Sweep) -> None:
    require_same(name, sweep, processes, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slot_filling", "text_classification", "token_classification"])
def test_a_tuning_is_shared_by_as_many_as_the_sweep_says(name: str, processes: Sweep) -> None:
    for subject in processes.subjects:
        for step in measures()[name].steps(subject).values():
            assert processes.context.make(step.needs["tuned"]).facts["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["perplexity", "zero_shot"])
def test_gpus_without_a_part_of_their_own_are_no_error(
    name: str, tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many processes as GPUs, which nobody named: two of one document, or of one window."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (tmp_path / "question.yaml").write_text(QUESTION)
    (tmp_path / "questions.jsonl").write_text('{"question": "aaa", "answer": 1}')
    few = {"zero_shot": {"tasks": ["question"], "include_path": str(tmp_path)}, "processes": None}
    corpora = [{**asked_of(files).perplexity[0].model_dump(), "windows": 1}]
    sweep = sweep_in(tmp_path / "store", asked_of(files, perplexity=corpora, **few))
    (step, *_) = measures()[name].steps(sweep.subjects[0]).values()
    facts = sweep.context.make(step).facts
    assert facts["processes"] == (2 if name == "zero_shot" else 1)
    assert facts["peak_memory_bytes"] > 1 << 20


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Sweep:
    return sweep_in(tmp_path_factory.mktemp("again"), asked_of(files))


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Sweep:
    return sweep_in(tmp_path_factory.mktemp("batches"), asked_of(files, batch_size=3))


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Sweep:
    return sweep_in(tmp_path_factory.mktemp("processes"), asked_of(files, processes=2))


def test_how_it_is_computed_names_no_other_step(sweep: Sweep, batches: Sweep) -> None:
    for name in set(NAMES) - {"spread"}:
        for subject, other in zip(sweep.subjects, batches.subjects, strict=True):
            assert measures()[name].steps(subject) == measures()[name].steps(other)


def test_a_measure_that_nobody_asked_has_no_step(sweep: Sweep, files: Path, tmp_path: Path) -> None:
    off = {
        name: False
        for measure in measures().values()
        for name, entry in measure.Settings.model_fields.items()
        if entry.annotation is bool
    }
    quiet = sweep_in(
        tmp_path,
        asked_of(
            files,
            **off,
            zero_shot={},
            uncertainty=None,
            slot_filling=[],
            text_classification=[],
            token_classification=[],
        ),
    )
    asked = {name for name in NAMES if any(measures()[name].steps(s) for s in quiet.subjects)}
    assert asked == ALWAYS
    assert not measures()["spread"].sweep_steps(quiet.subjects)
    dense, pruned = (measures()["perplexity"].steps(s)["docs"] for s in quiet.subjects)
    assert dense.needs.keys() == pruned.needs.keys() == {"weights", "tokens"}
    assert dense != measures()["perplexity"].steps(sweep.subjects[0])["docs"], "it keeps no states"


def test_a_corpus_is_read_once(files: Path, tmp_path: Path) -> None:
    planned = sweep_in(tmp_path, asked_of(files, zero_shot={}, uncertainty=None))
    with pytest.MonkeyPatch.context() as patch:
        reads: list[object] = []
        plain = texts.read_corpus
        patch.setattr(texts, "read_corpus", lambda *a, **k: reads.append(a) or plain(*a, **k))
        for subject in planned.subjects * 2:
            assert measures()["perplexity"].steps(subject)
    assert len(reads) == 2


def test_notes_and_texts_are_told(sweep: Sweep) -> None:
    rows = [row for name in NAMES for row in sweep.rows(name)]
    for measure in measures().values():
        assert all(note.endswith(".") for note in measure.notes(rows))
        assert not measure.notes([{"method": "dense"}])
    found = sweep.found("perplexity")[0]
    told = measures()["perplexity"].described(sweep.subjects[0], found)
    assert list(told) == ["perplexity on docs", "perplexity on tales"]
    assert (
        "5 windows of 24 tokens, 115 predicted tokens, no BOS; documents: 1, cut by windows: 1; "
        "SHA-256" in told["perplexity on docs"]
    )


def test_layers_agree_with_their_mean(sweep: Sweep) -> None:
    measure, found = measures()["reconstruction"], sweep.found("reconstruction")[1]
    errors = measure.layers(found)["reconstruction_error"].values()
    assert sweep.rows("reconstruction")[1]["reconstruction_error"] == pytest.approx(
        sum(errors) / len(errors)
    )
    assert len(errors) == 21


def test_only_likelihoods_that_were_rounded_are_made_again(sweep: Sweep) -> None:
    def inputs(dtype: str) -> Mapping[str, Any]:
        subject = replace(sweep.subjects[0], dtype=dtype)
        return measures()["zero_shot"].steps(subject)["question"].inputs

    assert inputs("float32").keys() == {"dtype", "task", "limit", "num_fewshot"}
    assert inputs("bfloat16").keys() - inputs("float32").keys() == {"softmax"}


def test_cut_documents_and_data_without_a_fingerprint_are_told(sweep: Sweep) -> None:
    measure, found = measures()["zero_shot"], sweep.found("zero_shot")[0]
    assert (
        "longer than the model takes: 0"
        in measure.described(sweep.subjects[0], found)["zero-shot question"]
    )
    assert not any("documents_cut" in column for column in measure.columns(found))
    (task,) = sweep.subjects[0].resolved["zero_shot"]
    unseen = replace(task, identity={**task.identity, "data": {"source": "code"}})
    subject = replace(sweep.subjects[0], resolved={"zero_shot": (unseen,)})
    assert "no fingerprint holds" in measure.described(subject, found)["zero-shot question"]
    asked = found["question"]
    cut = replace(asked, facts={**asked.facts, "documents_cut": 3})
    row = {"model": "small", **measure.columns({"question": cut})}
    assert row["zero_shot/question/documents_cut"] == 3
    assert any("question: 3 of its documents" in note for note in measure.notes([row, row]))
    assert len(measure.notes([row, row])) == 3


def test_what_is_learned_to_be_measured_is_told_step_by_step(sweep: Sweep) -> None:
    found = [(measures()[n], artifacts) for n in NAMES for artifacts in sweep.found(n)]
    told = [step for measure, artifacts in found for step in measure.history(artifacts)]
    losses = {name: value for step in told for name, value in step.items() if name != "step"}
    assert losses.keys() == {
        "slot_filling/tweets/loss",
        "text_classification/texts/loss",
        "token_classification/entities/loss",
    }
    assert all(value > 0 for value in losses.values())
    assert [step["step"] for step in told] == [1] * 2 + [1, 2] * 4, "epochs of each subject"


def test_the_mean_waits_for_every_task(sweep: Sweep) -> None:
    measure = measures()["zero_shot"]
    found = sweep.found("zero_shot")[0]
    question = {"question": found["question"]}
    assert "zero_shot/mean" not in measure.columns(question)
    assert (
        measure.columns(found)["zero_shot/mean"] == measure.columns(found)["zero_shot/question/acc"]
    )


def _judged(sweep: Sweep, **results: TaskResult) -> dict[str, Artifact]:
    """Artifacts of tasks with these results, and of their mean."""
    found = sweep.found("zero_shot")[0]
    tasks = {
        name: replace(found["question"], facts={**found["question"].facts, "result": r.as_json()})
        for name, r in results.items()
    }
    step = measures()["zero_shot"].steps(sweep.subjects[0])["mean of all tasks"]
    work = SimpleNamespace(step=replace(step, needs=dict.fromkeys(tasks)), need=tasks.get)
    assert step.produce is not None
    mean = replace(found["question"], facts=dict(step.produce(cast("Work", work))))
    return {**tasks, "mean of all tasks": mean}


def test_a_perplexity_is_no_part_of_a_mean_of_accuracies(sweep: Sweep) -> None:
    def result(**values: float | None) -> TaskResult:
        metrics = {name: Metric(value, 0.03, None) for name, value in values.items()}
        return TaskResult(metrics, 9, 9, 0, "1")

    measure = measures()["zero_shot"]
    a, b = result(acc=0.4, acc_norm=0.9), result(exact_match=0.8)
    wiki = result(word_perplexity=5000.0, byte_perplexity=9.0)
    row = measure.columns(_judged(sweep, a=a, b=b, wiki=wiki))
    assert row["zero_shot/mean"] == pytest.approx(0.6)
    assert row["zero_shot/mean_stderr"] == pytest.approx(math.hypot(0.03, 0.03) / 2)
    assert measure.figures(list(row))[0].label == "mean of 2 zero-shot tasks"
    (said,) = [note for note in measure.notes([row]) if "not in the mean" in note]
    assert said.startswith("wiki is not in the mean: word_perplexity")
    assert "zero_shot/mean" not in measure.columns(_judged(sweep, wiki=wiki))
    row = measure.columns(_judged(sweep, a=a, b=b, squad=result(f1=23.4)))
    assert row["zero_shot/mean"] == pytest.approx(0.6), "nor are per cent"
    (figure,) = [f for f in measure.figures(list(row)) if f.column == "zero_shot/squad/f1_raw"]
    assert (figure.format, figure.unit, figure.better) == ("number", "", "higher")
    assert any(note.startswith("squad is not in the mean: f1_raw") for note in measure.notes([row]))
    nothing = _judged(sweep, a=a, b=result(exact_match=None))
    assert "zero_shot/mean" not in measure.columns(nothing), "of fewer tasks than a neighbour's"


def test_a_group_is_one_figure_and_counts_once(tmp_path: Path, files: Path) -> None:
    rows = (files / "questions.jsonl").read_text().splitlines()
    for name, count in (("a", 9), ("b", 4), ("c", 5)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows[:count]))
        task = QUESTION.replace("task: question", f"task: {name}").replace("questions.", f"{name}.")
        (tmp_path / f"{name}.yaml").write_text(task)
    (tmp_path / "pair.yaml").write_text(
        "group: pair\ntask: [a, b]\naggregate_metric_list: [{metric: acc}]\n"
    )

    def asked(*tasks: str) -> Sweep:
        zero_shot = {"tasks": tasks, "include_path": str(tmp_path)}
        return sweep_in(tmp_path / "store", asked_of(files, zero_shot=zero_shot))

    measure, sweep = measures()["zero_shot"], asked("pair", "c")
    found = sweep.found("zero_shot")[0]
    row = dict(measure.columns(found))
    a, b, c = (row[f"zero_shot/{name}/acc"] for name in ("pair/a", "pair/b", "c"))
    assert row["zero_shot/pair/acc"] == pytest.approx((9 * a + 4 * b) / 13)
    assert row["zero_shot/mean"] == pytest.approx((row["zero_shot/pair/acc"] + c) / 2)
    assert row["zero_shot/pair/acc"] != pytest.approx((a + b) / 2)
    assert {column.rpartition("/")[0] for column in row} == {
        *("zero_shot", "zero_shot/pair", "zero_shot/pair/a", "zero_shot/pair/b", "zero_shot/c")
    }
    figures = {figure.column: figure for figure in measure.figures(list(row))}
    assert sorted([*figures, *(f.error for f in figures.values() if f.error)]) == sorted(row)
    assert figures["zero_shot/mean"].label == "mean of 2 zero-shot tasks"
    assert figures["zero_shot/pair/acc"].group == figures["zero_shot/c/acc"].group
    assert figures["zero_shot/pair/a/acc"].group == "tasks of pair"
    assert figures["zero_shot/pair/a/acc"].label == "a acc"
    assert any(note.startswith("pair counts once in the mean") for note in measure.notes([row]))
    said = measure.described(sweep.subjects[0], found)["zero-shot pair"]
    assert said == "a group of 2 tasks: acc of 2 of them; 13 documents"
    alone = asked("a", "b", "c").found("zero_shot")[0]
    for name, place in (("a", "pair/a"), ("b", "pair/b"), ("c", "c")):
        assert alone[name].path == found[place].path
    assert measure.columns(alone)["zero_shot/mean"] == pytest.approx((a + b + c) / 3)

    def kept(artifacts: Mapping[str, Any]) -> Any:
        places = {f"zero_shot/{name}": artifact.path for name, artifact in artifacts.items()}
        return SimpleNamespace(reference="mine", artifacts=places)

    def compared(column: str, other: Mapping[str, Any] = found) -> set[str]:
        columns = (f"zero_shot/{column}",) * 2
        answers = measure.compare(kept(found), kept(other), columns, wanted=False)
        assert answers is not None
        assert not answers.unread
        return set(answers.tasks)

    assert compared("pair/acc") == {"a", "b", "all tasks"}
    assert compared("mean") == compared("mean", alone) == {"a", "b", "c", "all tasks"}
    assert compared("pair/a/acc") == {"pair/a"}


@pytest.mark.parametrize("name", NAMES)
def test_what_encoders_lack_is_switched_off_by_the_setting_that_is_told(
    name: str, files: Path
) -> None:
    evaluation, measure = asked_of(files), measures()[name]
    if setting := measure.asks_of_encoders(evaluation):
        raw = {"evaluation": evaluation.model_dump(mode="json")}
        changed = apply(raw, setting, None)["evaluation"]
        left = evaluation_module.Evaluation.model_validate(changed)
        assert measure.asks_of_encoders(left) == ""


def test_two_measures_of_one_name_are_refused() -> None:
    class Twin(Spread):
        """Another class of the same name."""

    with pytest.raises(ValueError, match="two measures are called 'spread'"):
        registry._add(measures(), Twin)
