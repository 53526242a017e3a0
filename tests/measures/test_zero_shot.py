"""Tasks by name, the checks before anything runs, and figures against likelihoods by hand."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets.config
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.zero_shot import evaluate, leaves
from tasks.measures.zero_shot.evaluate import ZeroShotError, zero_shot
from tasks.measures.zero_shot.groups import group_result
from tasks.measures.zero_shot.measure import Tasks as ZeroShot
from tasks.measures.zero_shot.questions import main_metric
from tasks.measures.zero_shot.quiet import DEFAULT_SEEDS, contained
from tasks.measures.zero_shot.rank import ZeroShotJob, zero_shot_in_processes
from tasks.measures.zero_shot.results import Metric, TaskResult, result_of
from tasks.measures.zero_shot.tasks import ResolvedTask, resolve_tasks
from tasks.models.architecture.decoder import describe
from tasks.models.errors import SourceUnavailableError
from tasks.models.saved.branches import save_branches
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import save_checkpoint
from tasks.models.sources import random_model
from tasks.processes.call import CallError
from tasks.pruning.core.structure import Kept, masked_weights, structure_of

pytestmark = pytest.mark.usefixtures("offline")

COMMIT = "c" * 40
WORDS = ("red", "green", "blue", "fox", "dog", "sun", "moon", "tree", "stone", "river")
DOCUMENTS = 23
CHOICES = """\
output_type: multiple_choice
dataset_path: json
test_split: test
training_split: train
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
dataset_kwargs: {data_files: {test: pairs.jsonl, train: train.jsonl}}
"""
QUESTION = """\
include: _base
task: question
doc_to_text: "Which? {{question}}"
doc_to_target: answer
doc_to_choice: "{{choices}}"
"""
MINIMAL = """\
include: _base
task: minimal
tag: pairs
num_fewshot: 0
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{[good, bad]}}"
"""
CONTINUATION = """\
task: continuation
tag: pairs
dataset_path: json
output_type: loglikelihood
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{good}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
dataset_kwargs: {data_files: {test: pairs.jsonl}}
"""
ROLLING = """\
task: rolling
tag: others
dataset_path: json
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{good}}"
metric_list: [{metric: byte_perplexity}]
metadata: {version: 1.0}
dataset_kwargs: {data_files: {test: pairs.jsonl}}
"""
WRITING = """\
task: writing
tag: others
dataset_path: json
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{question[:1]}}"
generation_kwargs: {until: ["red"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - name: first
    filter: [{function: regex, regex_pattern: "^(.)"}, {function: take_first}]
metadata: {version: 1.0}
dataset_kwargs: {data_files: {test: pairs.jsonl}}
"""
GROUP = """\
group: everything
num_fewshot: 0
task:
  - question
  - group: inner
    task: [minimal, {task: continuation, task_alias: next}]
"""
PROBE = """\
include: _base
task: probe
doc_to_text: "{{question}}"
doc_to_target: answer
doc_to_choice: "{{choices}}"
"""
WEIGHTED = """\
group: weighted
num_fewshot: 0
task:
  - question
  - group: inner
    task: [short, continuation]
    aggregate_metric_list: [{metric: acc_norm}]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false, filter_list: none}
"""
PERCENT = """\
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask


class Percent(ConfigurableTask):
    def __init__(self, config=None):
        super().__init__(config={k: v for k, v in config.items() if k != "class"})

    def process_results(self, doc, results):
        return {"f1": ("said", "right"), "acc_bytes": 1.0}

    def aggregation(self):
        return {"f1": lambda items: 0.5, "acc_bytes": mean}


def in_percent(doc, results):
    in_percent.asked = getattr(in_percent, "asked", 0) + 1
    return {"exact_match": 2.0 if in_percent.asked == 1 else -1.0, "acc_bytes": 1.0}


def as_share(doc, results):
    return {"exact_match": 0.5, "acc_bytes": 1.0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Task files and data, as a user would write them."""
    path = tmp_path / "tasks"
    path.mkdir()
    draw = random.Random(0)

    def row() -> dict[str, Any]:
        choices = [" " + " ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(3)]
        return {
            "question": " ".join(draw.choices(WORDS, k=draw.randint(2, 9))),
            "choices": choices,
            "answer": draw.randrange(3),
            "good": " ".join(draw.choices(WORDS, k=5)),
            "bad": " ".join(draw.choices(WORDS, k=5)),
        }

    for name, count in (("pairs", DOCUMENTS), ("train", 8)):
        rows = [json.dumps(row()) for _ in range(count)]
        (path / f"{name}.jsonl").write_text("\n".join(rows))
    for name, text in (
        ("_base", CHOICES),
        ("question.yaml", QUESTION),
        ("minimal.yaml", MINIMAL),
        ("continuation.yaml", CONTINUATION),
        ("rolling.yaml", ROLLING),
        ("writing.yaml", WRITING),
        ("group.yaml", GROUP),
    ):
        (path / name).write_text(text)
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of bytes, with tokens that begin and end a text."""
    out = tmp_path_factory.mktemp("model")
    random_model.write(out)
    tokenizer = random_model.tokenizer()
    tokenizer.add_special_tokens({"bos_token": "Ā", "eos_token": "Ā"})
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Any:
    return load_pruned(model_folder)


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


def resolve(folder: Path, *names: str, trust: Trust | None = None, **settings: Any) -> Any:
    config = ZeroShot(tasks=names, include_path=str(folder), **settings)
    return resolve_tasks(config, trust=trust)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    """By hand: one sequence at a time, a softmax in float64."""
    start = tokenizer(context)["input_ids"] if context else [tokenizer.bos_token_id]
    rest = tokenizer(context + continuation)["input_ids"][len(start) if context else 0 :]
    logits = model(torch.tensor([start + rest])).logits[0].double().log_softmax(-1)
    places = range(len(start) - 1, len(start) + len(rest) - 1)
    return sum(float(logits[p, token]) for p, token in zip(places, rest, strict=True))


class TestFigures:
    def test_multiple_choice_is_what_likelihoods_say(
        self, folder: Path, model: Any, tokenizer: Any
    ) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "question"), batch_size=3)["question"]
        right = right_norm = 0
        for row in rows(folder):
            prompt = f"Which? {row['question']}"
            # The task's own space stands before a choice that begins with one.
            scores = [likelihood(model, tokenizer, prompt, " " + c) for c in row["choices"]]
            norms = [s / len(c) for s, c in zip(scores, row["choices"], strict=True)]
            right += scores.index(max(scores)) == row["answer"]
            right_norm += norms.index(max(norms)) == row["answer"]
        share = right / DOCUMENTS
        assert 0 < right < DOCUMENTS
        assert found.value == found.metrics["acc"].value == pytest.approx(share)
        assert found.metrics["acc_norm"].value == pytest.approx(right_norm / DOCUMENTS)
        assert found.stderr == pytest.approx(math.sqrt(share * (1 - share) / (DOCUMENTS - 1)))
        assert found.metrics["acc"].higher_is_better is True
        assert (found.documents, found.documents_in_all) == (DOCUMENTS, DOCUMENTS)
        assert (found.num_fewshot, found.version, found.main) == (0, "2.0", "acc")

    def test_minimal_pairs_and_continuations(
        self, folder: Path, model: Any, tokenizer: Any
    ) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "pairs"), batch_size=5)
        assert list(found) == ["continuation", "minimal"]
        texts = rows(folder)
        good = [likelihood(model, tokenizer, "", row["good"]) for row in texts]
        bad = [likelihood(model, tokenizer, "", row["bad"]) for row in texts]
        wins = sum(g > b for g, b in zip(good, bad, strict=True))
        assert found["minimal"].value == pytest.approx(wins / DOCUMENTS)
        # A task of one continuation gets no space of the harness's before it.
        after = [likelihood(model, tokenizer, r["question"], r["good"]) for r in texts]
        perplexity = found["continuation"].metrics["perplexity"]
        assert perplexity.value == pytest.approx(math.exp(-sum(after) / DOCUMENTS), rel=1e-4)
        assert perplexity.higher_is_better is False
        assert found["continuation"].main == "acc"

    def test_whole_texts_and_written_answers(
        self, folder: Path, model: Any, tokenizer: Any
    ) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "others"), batch_size=4)
        texts = [row["good"] for row in rows(folder)]
        nats = -sum(likelihood(model, tokenizer, "", text) for text in texts)
        wanted = math.exp(nats / sum(len(text.encode()) for text in texts))
        measured = found["rolling"].metrics["byte_perplexity"]
        assert measured.value == pytest.approx(wanted, rel=1e-4)
        assert measured.stderr is None
        right = 0
        for row in rows(folder):
            ids = torch.tensor([tokenizer(row["question"])["input_ids"]])
            next_ = tokenizer.decode(model(ids).logits[0, -1].argmax())
            right += next_ == row["question"][0]
        assert found["writing"].main == "exact_match,first"
        assert found["writing"].value == pytest.approx(right / DOCUMENTS)

    def test_a_whole_text_has_one_bos_before_it(
        self, folder: Path, model: Any, tokenizer: Any
    ) -> None:
        """Of a tokenizer that puts one there itself, as Llama's and Gemma's do."""
        from tokenizers.processors import TemplateProcessing

        bos = tokenizer.bos_token
        adding = copy.deepcopy(tokenizer)
        adding.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
        assert adding("red")["input_ids"] == [
            tokenizer.bos_token_id,
            *tokenizer("red")["input_ids"],
        ]
        tasks = resolve(folder, "rolling", "continuation")
        found = zero_shot(model, adding, tasks, batch_size=4)
        plain = zero_shot(model, tokenizer, tasks, batch_size=4)
        assert found["rolling"].metrics == plain["rolling"].metrics
        wanted = [likelihood(model, adding, row["question"], row["good"]) for row in rows(folder)]
        kept = [entry.loglikelihoods[0] for entry in found["continuation"].questions]
        assert kept == pytest.approx(wanted, abs=1e-4), "and a context keeps its own"

    def test_likelihoods_are_not_rounded_to_the_dtype(
        self, folder: Path, model_folder: Path, tokenizer: Any
    ) -> None:
        rounded = load_pruned(model_folder, torch.bfloat16)
        found = zero_shot(rounded, tokenizer, resolve(folder, "question"), batch_size=1)["question"]
        for row, kept in zip(rows(folder), found.questions, strict=True):
            prompt = f"Which? {row['question']}"
            wanted = [likelihood(rounded, tokenizer, prompt, " " + c) for c in row["choices"]]
            assert kept.loglikelihoods == pytest.approx(wanted, rel=5e-4)

    def test_a_group_s_figures_are_the_harness_s(
        self, folder: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lm_eval.evaluator import evaluate as harness
        from lm_eval.tasks import TaskManager

        from tasks.measures.zero_shot.model import SharedModel

        (folder / "short.yaml").write_text(
            QUESTION.replace("task: question", "task: short")
            + "dataset_kwargs: {data_files: {test: train.jsonl, train: train.jsonl}}\n"
        )
        (folder / "weighted.yaml").write_text(WEIGHTED)
        tasks = resolve(folder, "weighted")
        results = zero_shot(model, tokenizer, tasks, batch_size=4)
        (aggregates,) = tasks[0].groups.values()
        found = group_result("weighted", aggregates, results)
        monkeypatch.chdir(folder)  # where the harness looks for data
        with contained(DEFAULT_SEEDS):
            loaded = TaskManager(include_defaults=False, include_path=str(folder)).load("weighted")
            language_model = SharedModel(model, tokenizer, batch_size=4)
            told: Any = harness(lm=language_model, task_dict=loaded, log_samples=False)
        wanted = told["results"]["weighted"]
        assert found.metrics.keys() == {"acc", "acc_norm"}
        for name, figure in found.metrics.items():
            assert figure.value == wanted[f"{name},none"]
            assert figure.stderr == wanted[f"{name}_stderr,none"]
        right = [(r.metrics["acc"].value or 0) * r.documents for r in results.values()]
        assert [r.documents for r in results.values()] == [DOCUMENTS, 8, DOCUMENTS]
        assert found.value == pytest.approx(sum(right) / (2 * DOCUMENTS + 8))
        assert found.documents == 2 * DOCUMENTS + 8

    def test_a_group_of_metrics_that_no_task_has(self) -> None:
        one = TaskResult({"acc": Metric(0.5, 0.1, None)}, 4, 4, 0, "1")
        with pytest.raises(ValueError, match="group g aggregates f1, and none of its tasks"):
            group_result("g", [{"metric": "f1"}], {"a": one})
        percent = TaskResult({"f1_raw": Metric(0.4, None, None)}, 4, 4, 0, "1")
        found = group_result("g", [{"metric": "f1"}], {"a": percent})
        assert found.metrics == {"f1_raw": Metric(0.4, None, None)}
        lost = TaskResult({"acc": Metric(None, None, None)}, 4, 4, 0, "1")
        assert group_result("g", [{"metric": "acc"}], {"a": one, "b": lost}).value is None

    @pytest.mark.parametrize(
        ("more", "names"),
        [
            ("class: !function utils.Percent", ["f1_raw", "acc_bytes"]),
            ("process_results: !function utils.in_percent", ["exact_match_raw", "acc_bytes"]),
            ("process_results: !function utils.as_share", ["exact_match", "acc_bytes"]),
        ],
    )
    def test_what_may_be_in_per_cent_is_not_called_a_share(
        self, folder: Path, model: Any, tokenizer: Any, more: str, names: list[str]
    ) -> None:
        """As SQuAD 2.0's F1, of which a small one looks like a share."""
        metrics = "metric_list: [{metric: exact_match}, {metric: acc_bytes}]"
        data = f"dataset_kwargs: {{data_files: {{test: {folder / 'pairs.jsonl'}}}}}"
        (folder / "percent.yaml").write_text(
            f"include: continuation.yaml\ntask: percent\n{metrics}\n{data}\n{more}\n"
        )
        (folder / "utils.py").write_text(PERCENT)
        tasks = resolve(folder, "percent", trust=Trust(remote_code=True))
        found = zero_shot(model, tokenizer, tasks, limit=2)["percent"]
        assert list(found.metrics) == names
        assert ("scale" in tasks[0].identity) == more.startswith("class")
        assert found.value == 0.5
        assert TaskResult.from_json(found.as_json()) == found

    def test_limit_and_batches(self, folder: Path, model: Any, tokenizer: Any) -> None:
        tasks = resolve(folder, "minimal")
        results = [
            zero_shot(model, tokenizer, tasks, limit=7, batch_size=size) for size in (1, 4, 32)
        ]
        assert results[0] == results[1] == results[2]
        texts = rows(folder)[:7]
        wins = sum(
            likelihood(model, tokenizer, "", r["good"]) > likelihood(model, tokenizer, "", r["bad"])
            for r in texts
        )
        assert results[0]["minimal"].value == pytest.approx(wins / 7)
        assert (results[0]["minimal"].documents, results[0]["minimal"].documents_in_all) == (7, 23)

    def test_examples_come_before_the_question(
        self, folder: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tasks.measures.zero_shot.model import SharedModel

        contexts: list[str] = []
        original = SharedModel.loglikelihood

        def spy(self: Any, requests: Any, **settings: Any) -> Any:
            contexts.extend(request.args[0] for request in requests)
            return original(self, requests, **settings)

        monkeypatch.setattr(SharedModel, "loglikelihood", spy)
        found = zero_shot(model, tokenizer, resolve(folder, "question"), num_fewshot=2, limit=4)
        assert found["question"].num_fewshot == 2
        assert all(context.count("Which?") == 3 for context in contexts)
        first = contexts.copy()
        contexts.clear()
        zero_shot(model, tokenizer, resolve(folder, "question"), num_fewshot=2, limit=4)
        assert contexts == first
        contexts.clear()
        zero_shot(model, tokenizer, resolve(folder, "question"), num_fewshot=2, limit=4, seed=5)
        assert contexts != first

    def test_tasks_that_are_known_answer_alike(
        self, folder: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Loaded once, with the examples drawn anew; other examples are other tasks."""
        known: dict[str, Any] = {}
        tasks = resolve(folder, "question")
        asked = [(2, None), (2, None), (2, 5), (None, None)]

        def answers(**more: Any) -> list[Any]:
            found = [zero_shot(model, tokenizer, tasks, num_fewshot=n, seed=seed, limit=4, **more)
                     for n, seed in asked]  # fmt: skip
            return [(entry["question"].questions, entry["question"].metrics) for entry in found]

        fresh = answers()
        loads: list[str] = []
        load = evaluate._load
        monkeypatch.setattr(evaluate, "_load", lambda task: loads.append(task.name) or load(task))
        again = answers(known=known)
        assert again == fresh
        assert again[0] == again[1] != again[2]
        assert loads == ["question"] * 2

    def test_progress_and_random_state(self, folder: Path, model: Any, tokenizer: Any) -> None:
        seen: list[tuple[int, int]] = []
        random.seed(3)
        torch.manual_seed(3)
        state, torch_state = random.getstate(), torch.random.get_rng_state()
        tasks = resolve(folder, "minimal")
        zero_shot(model, tokenizer, tasks, limit=5, progress=lambda *step: seen.append(step))
        assert seen[-1] == (10, 10)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert random.getstate() == state
        assert torch.equal(torch.random.get_rng_state(), torch_state)
        assert tokenizer.pad_token is None

    def test_nan_is_an_error(self, folder: Path, model_folder: Path, tokenizer: Any) -> None:
        broken = load_pruned(model_folder)
        broken.model.norm.weight.fill_(math.nan)
        with pytest.raises(FloatingPointError, match="NaN"):
            zero_shot(broken, tokenizer, resolve(folder, "minimal"))

    def test_a_token_beyond_the_embedding_is_named(
        self, folder: Path, model_folder: Path, tokenizer: Any
    ) -> None:
        small = load_pruned(model_folder)
        small.resize_token_embeddings(60)
        with pytest.raises(ValueError, match=r"makes token \d+ \('.'\).*embedding ends at 59"):
            zero_shot(small, tokenizer, resolve(folder, "minimal"))

    def test_a_tokenizer_without_a_first_token(self, folder: Path, model: Any) -> None:
        with pytest.raises(ValueError, match="neither a BOS nor an EOS"):
            zero_shot(model, random_model.tokenizer(), resolve(folder, "minimal"))

    def test_results_survive_json(self, folder: Path, model: Any, tokenizer: Any) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "question"), limit=3)["question"]
        assert TaskResult.from_json(json.loads(json.dumps(found.as_json()))) == found

    def test_sliced_models(
        self, folder: Path, model: Any, model_folder: Path, tokenizer: Any, tmp_path: Path
    ) -> None:
        decoder = describe(model)
        structure = structure_of(decoder)
        generator = torch.Generator().manual_seed(0)
        kept = tuple(
            Kept(
                torch.arange(structure.groups).ne(index % structure.groups),
                torch.rand(structure.channels, generator=generator) > 0.4,
            )
            for index in range(len(decoder.blocks))
        )
        out = tmp_path / "pruned"
        replaced = dict(masked_weights(decoder, kept))
        metadata = {"kept": kept_to_json(kept)}
        save_checkpoint(model, model_folder, replaced, out, dtype=torch.float32, metadata=metadata)
        tasks = resolve(folder, "question", "minimal")
        full, small = load_pruned(out, sliced=False), load_pruned(out)
        assert sum(p.numel() for p in small.parameters()) < sum(
            p.numel() for p in full.parameters()
        )
        wanted = zero_shot(full, tokenizer, tasks)
        assert zero_shot(small, tokenizer, tasks) == wanted
        assert wanted != zero_shot(model, tokenizer, tasks)

    def test_branched_models(
        self, folder: Path, model: Any, model_folder: Path, tokenizer: Any, tmp_path: Path
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        branches, folded = {}, {}
        for name, layer in describe(model).layers().items():
            rows_, columns = layer.weight_OI.shape
            x_RI = torch.randn(2, columns, generator=generator)
            s_OR = 0.1 * torch.randn(rows_, 2, generator=generator)
            branches |= {f"{name}.slorb_x": x_RI, f"{name}.slorb_s": s_OR}
            folded[f"{name}.weight"] = layer.as_stored(layer.weight_OI + s_OR @ x_RI)
        plain: dict[str, Any] = {"dtype": torch.float32, "metadata": {}}
        save_checkpoint(model, model_folder, {}, tmp_path / "branched", **plain)
        save_branches(tmp_path / "branched", branches)
        save_checkpoint(model, model_folder, folded, tmp_path / "folded", **plain)
        tasks = resolve(folder, "question", "minimal")
        found, wanted = (
            zero_shot(load_pruned(tmp_path / name), tokenizer, tasks)
            for name in ("branched", "folded")
        )
        assert found == wanted
        assert found != zero_shot(model, tokenizer, tasks)


class TestQuestions:
    """What is kept of each."""

    def test_options_are_scored_as_by_hand(
        self,
        folder: Path,
        model: Any,
        tokenizer: Any,
    ) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "question"), batch_size=3)["question"]
        assert [entry.document for entry in found.questions] == list(range(DOCUMENTS))
        for row, kept in zip(rows(folder), found.questions, strict=True):
            prompt = f"Which? {row['question']}"
            wanted = [likelihood(model, tokenizer, prompt, " " + c) for c in row["choices"]]
            assert kept.loglikelihoods == pytest.approx(wanted, abs=1e-4)
            assert kept.gold == (row["answer"],)
            assert kept.bytes == kept.characters == tuple(map(len, row["choices"]))
            assert kept.context == prompt
            assert kept.options == tuple(" " + choice for choice in row["choices"])

    @pytest.mark.parametrize("task", ["question", "minimal"])
    def test_they_add_up_to_the_harness_s_figures(
        self,
        folder: Path,
        model: Any,
        tokenizer: Any,
        task: str,
    ) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, task), limit=11)[task]
        right = [entry.answer in entry.gold for entry in found.questions]
        norm = [entry.answer_norm in entry.gold for entry in found.questions]
        assert [entry.metrics["acc"] for entry in found.questions] == right
        assert sum(right) / 11 == found.metrics["acc"].value
        assert sum(norm) / 11 == found.metrics["acc_norm"].value
        assert main_metric(found.questions) == "acc"

    def test_keeping_them_changes_no_bit(
        self,
        folder: Path,
        model: Any,
        tokenizer: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tasks = resolve(folder, "question", "pairs", "others")
        kept = zero_shot(model, tokenizer, tasks, limit=6)
        monkeypatch.setattr(evaluate, "record_metrics_", lambda task: [])
        monkeypatch.setattr(evaluate, "questions_of", lambda task, told, cut: ())
        assert zero_shot(model, tokenizer, tasks, limit=6) == kept
        assert all(result.questions for result in kept.values())

    def test_what_other_tasks_keep(self, folder: Path, model: Any, tokenizer: Any) -> None:
        found = zero_shot(model, tokenizer, resolve(folder, "pairs", "others"), limit=5)
        one = found["continuation"].questions[0]
        assert len(one.loglikelihoods) == len(one.options) == 1
        assert one.gold == ()
        assert main_metric(found["continuation"].questions) == "acc"
        assert found["rolling"].questions[0].loglikelihoods == ()
        assert main_metric(found["rolling"].questions) is None
        assert main_metric(found["writing"].questions) == "exact_match"

    def test_options_in_the_question(self, folder: Path, model: Any, tokenizer: Any) -> None:
        """As in WinoGrande: what differs comes first, and one continuation follows."""
        (folder / "swapped.yaml").write_text(
            "include: _base\ntask: swapped\ndoc_to_text: answer\n"
            'doc_to_target: "{{good}}"\ndoc_to_choice: "{{choices}}"\n'
        )
        found = zero_shot(model, tokenizer, resolve(folder, "swapped"), limit=7)["swapped"]
        for row, kept in zip(rows(folder), found.questions, strict=False):
            assert kept.gold == (row["answer"],)
            assert kept.context == ""
            assert kept.options[1] == f"{row['choices'][1]} {row['good']}"
        share = sum(entry.answer in entry.gold for entry in found.questions) / 7
        assert share == found.value

    @pytest.mark.parametrize("task", ["question", "continuation", "rolling", "writing"])
    def test_what_the_model_cannot_take_whole_is_counted(
        self, folder: Path, model_folder: Path, tokenizer: Any, task: str
    ) -> None:
        def needed(row: dict[str, Any]) -> int:
            """Tokens, which are characters here; the last of a likelihood is not read."""
            if task == "question":
                options = max(len(f" {choice}") for choice in row["choices"])
                return len(f"Which? {row['question']}") + options - 1
            if task == "continuation":
                return len(row["question"] + row["good"]) - 1
            return len(row["good"]) if task == "rolling" else len(row["question"]) + 4

        small = load_pruned(model_folder)
        longest = sorted(map(needed, rows(folder)))[DOCUMENTS // 2]
        small.config.max_position_embeddings = longest
        found = zero_shot(small, tokenizer, resolve(folder, task), batch_size=4)[task]
        wanted = [needed(row) > longest for row in rows(folder)]
        assert [entry.cut for entry in found.questions] == wanted
        assert 0 < sum(wanted) < DOCUMENTS

    def test_same_question_same_digest(self, folder: Path, model: Any, tokenizer: Any) -> None:
        def digests(**settings: Any) -> list[str]:
            tasks = resolve(folder, "question")
            found = zero_shot(model, tokenizer, tasks, limit=4, **settings)["question"]
            return [entry.digest for entry in found.questions]

        assert digests() == digests(batch_size=1)
        assert len(set(digests())) == 4
        assert not set(digests()) & set(digests(num_fewshot=2))


class TestNames:
    def test_nothing_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "lm_eval", None)
        assert resolve_tasks(ZeroShot()) == ()

    def test_groups_and_tags_expand(self, folder: Path) -> None:
        names = [task.name for task in resolve(folder, "everything")]
        assert names == ["question", "minimal", "continuation"]
        assert [task.name for task in resolve(folder, "pairs")] == ["continuation", "minimal"]
        by_group = {task.name: task for task in resolve(folder, "everything")}
        assert by_group["continuation"].overrides["task_alias"] == "next"
        assert by_group["question"].overrides["num_fewshot"] == 0

    def test_what_counts_is_what_is_named(self, folder: Path) -> None:
        """A group with a figure is one; of any other, what is in it."""

        def counted(*names: str) -> dict[str, tuple[str, list[str]]]:
            return {t.name: (t.place, [*t.groups]) for t in resolve(folder, *names)}

        alone = {name: (name, []) for name in ("question", "minimal", "continuation")}
        assert counted("everything") == alone
        assert counted("pairs") == {name: alone[name] for name in ("continuation", "minimal")}
        path = folder / "group.yaml"
        listed = "aggregate_metric_list: {metric: acc, aggregation: !function utils.f}"
        path.write_text(GROUP.replace("    task: [m", f"    {listed}\n    task: [m"))
        inner = "everything::inner"
        below = {name: (f"{inner}/{name}", [inner]) for name in ("minimal", "continuation")}
        assert counted("everything") == {"question": alone["question"], **below}
        path.write_text(f"{path.read_text()}{listed}\n".replace("num_fewshot: 0\n", ""))
        whole = {name: (f"everything/{name}", ["everything"]) for name in alone}
        assert counted("everything") == whole
        both = {**whole, "question": ("question", ["everything"])}
        assert counted("everything", "question") == counted("question", "everything") == both

    def test_a_name_below_another_s(self, folder: Path) -> None:
        (folder / "below.yaml").write_text(MINIMAL.replace("task: min", "task: question/min"))
        assert [task.place for task in resolve(folder, "question/minimal")] == ["question/minimal"]
        with pytest.raises(ConfigurationError, match="taken for a task of question"):
            resolve(folder, "question", "question/minimal")

    @pytest.mark.parametrize(
        "listed", ["acc", "{metric: acc, aggregation: median}", "{metric: acc, by: size}", "{}"]
    )
    def test_a_group_s_figure_that_the_harness_cannot_compute(
        self, folder: Path, listed: str
    ) -> None:
        with (folder / "group.yaml").open("a") as stream:
            stream.write(f"aggregate_metric_list: [{listed}]\n")
        with pytest.raises(ConfigurationError, match="the group everything "):
            resolve(folder, "everything")

    def test_the_harness_knows_the_papers_seven(self) -> None:
        from tasks.measures.zero_shot.catalogue import catalogue

        known = catalogue(None)
        found = list(leaves.expand("paper-seven", known.entries))
        assert [leaf.name for leaf in found] == [
            "boolq", "rte", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"
        ]  # fmt: skip
        assert all(leaf.config["dataset_path"] and not leaf.local for leaf in found)
        assert {leaf.config["metric_list"][0]["metric"] for leaf in found} == {"acc"}
        assert {leaf.group for leaf in found} == {None}, "seven tasks, and a mean of seven"

    def test_groups_are_the_harness_s_own(self) -> None:
        """Every group of the harness expands to the tasks that its own index lists."""
        from tasks.measures.zero_shot.catalogue import catalogue

        known = catalogue(None)
        assert len(list(leaves.expand("blimp", known.entries))) == 67
        mmlu = list(leaves.expand("mmlu", known.entries))
        assert len(mmlu) == 57
        assert len({leaf.name for leaf in mmlu}) == 57
        (aggregates,) = {json.dumps(leaf.group and leaf.group.aggregates) for leaf in mmlu}
        assert json.loads(aggregates) == [{"metric": "acc", "weight_by_size": True}]
        groups = [
            leaf.group and leaf.group.name for leaf in leaves.expand("openllm", known.entries)
        ]
        assert (groups.count("mmlu"), groups.count(None)) == (57, len(groups) - 57)

    def test_unknown(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="Did you mean question") as caught:
            resolve(folder, "minimal", "questoin")
        assert caught.value.field == "evaluation.zero_shot.tasks[1]"
        with pytest.raises(ConfigurationError, match="hellaswag"):
            resolve_tasks(ZeroShot(tasks=("helaswag",)))

    def test_named_twice(self, folder: Path) -> None:
        assert len(resolve(folder, "minimal", "pairs")) == 2
        with pytest.raises(ConfigurationError, match="named twice"):
            resolve(folder, "question", "everything")

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            resolve(tmp_path / "gone", "minimal")
        assert caught.value.field == "evaluation.zero_shot.include_path"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("task: [", "is no task file"),
            ("task: other\ninclude: gone", "gone cannot be read"),
            ("task: question", "both define question"),
            ("task: other\ninclude: zz.yaml", "includes itself"),
        ],
    )
    def test_broken_files(self, folder: Path, text: str, said: str) -> None:
        (folder / "zz.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=said):
            resolve(folder, "minimal")

    def test_examples_where_a_task_has_none(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            resolve(folder, "minimal", num_fewshot=3)
        assert caught.value.field == "evaluation.zero_shot.num_fewshot"


class TestIdentity:
    def test_it_holds_no_path_and_follows_the_content(self, folder: Path, tmp_path: Path) -> None:
        (before,) = resolve(folder, "question")
        elsewhere = tmp_path / "elsewhere"
        folder.rename(elsewhere)
        (moved,) = resolve(elsewhere, "question")
        assert moved.identity == before.identity
        assert str(tmp_path) not in json.dumps(dict(before.identity))
        for name in ("pairs.jsonl", "_base", "question.yaml"):
            path = elsewhere / name
            former = path.read_text()
            path.write_text(former.replace("red", "rot").replace("2.0", "2.1").replace("W", "w"))
            (changed,) = resolve(elsewhere, "question")
            assert changed.identity != before.identity, name
            path.write_text(former)

    def test_files_that_change_after_planning(
        self, folder: Path, model: Any, tokenizer: Any
    ) -> None:
        tasks = resolve(folder, "minimal")
        path = folder / "pairs.jsonl"
        path.write_text("\n".join(path.read_text().splitlines()[:5]))
        with pytest.raises(ConfigurationError, match="has changed since"):
            zero_shot(model, tokenizer, tasks)

    def test_figures_with_a_second_bos_are_not_taken_for_these(self, folder: Path) -> None:
        told = {task.name: task.identity for task in resolve(folder, "pairs", "others")}
        assert [name for name, identity in told.items() if "prefix" in identity] == ["rolling"]

    def test_a_task_is_json(self, folder: Path) -> None:
        (task,) = resolve(folder, "minimal")
        assert ResolvedTask(**json.loads(json.dumps(dataclasses.asdict(task)))) == task


class TestTrust:
    def probe(self, folder: Path, more: str, **settings: Any) -> Any:
        (folder / "probe.yaml").write_text(PROBE + more)
        (folder / "utils.py").write_text(
            f"open({str(folder / 'ran')!r}, 'w').close()\ndef text(doc): return doc['question']\n"
        )
        return resolve(folder, "probe", **settings)

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ("process_docs: !function utils.text", "runs Python"),
            ("class: !function utils.text", "runs Python"),
            ("class: utils.text", "defined by a class"),
            ("metric_list: [{metric: ./metric}]", "code from the hub"),
            ("metric_list: [{metric: acc, hf_evaluate: true}]", "code from the hub"),
            ("dataset_path: pandas", "can run code"),
        ],
    )
    def test_code_of_a_folder_is_refused(self, folder: Path, more: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            self.probe(folder, more)
        assert not (folder / "ran").exists()

    def test_a_prompt_in_a_file_elsewhere_is_refused_trusted_or_not(self, folder: Path) -> None:
        """Whoever changed it would get the figures of the former prompt."""
        for trust in (Trust(), Trust(remote_code=True)):
            with pytest.raises(
                ConfigurationError, match=r"use_prompt prompts.yaml:one reads a file"
            ):
                self.probe(folder, "use_prompt: prompts.yaml:one", trust=trust)

    def test_also_where_another_file_overrides_it(self, folder: Path) -> None:
        (folder / "_code").write_text("include: _base\ndoc_to_text: !function utils.text")
        with pytest.raises(ConfigurationError, match="runs Python"):
            self.probe(folder, "include: _code")

    def test_trusted_code_runs(self, folder: Path, model: Any, tokenizer: Any) -> None:
        trust = Trust(remote_code=True)
        (with_code,) = self.probe(folder, "doc_to_text: !function utils.text", trust=trust)
        found = zero_shot(model, tokenizer, [with_code], limit=6)["probe"]
        assert (folder / "ran").exists()
        (without,) = self.probe(folder, "")
        assert found == zero_shot(model, tokenizer, [without], limit=6)["probe"]
        (folder / "utils.py").write_text("def text(doc): return ''\n")
        (changed,) = resolve(folder, "probe", trust=trust)
        assert changed.identity["settings"] != with_code.identity["settings"]

    @pytest.mark.parametrize("place", ["mine/utils.py", "mine/b/utils.py", "common/utils.py"])
    def test_python_of_every_folder_behind_a_task_is_in_its_identity(
        self, folder: Path, tmp_path: Path, place: str
    ) -> None:
        for name in ("mine/utils.py", "mine/b/utils.py", "mine/c/utils.py", "common/utils.py"):
            path = tmp_path / "above" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("def text(doc): return doc['question']\n")
        mine, base = tmp_path / "above" / "mine", tmp_path / "above" / "common" / "_base"
        base.write_text(CHOICES + "doc_to_text: !function utils.text\n")
        for name in ("pairs.jsonl", "train.jsonl"):
            shutil.copy(folder / name, mine)
        probe = PROBE.replace("_base", "../common/_base")
        (mine / "probe.yaml").write_text(probe.replace('doc_to_text: "{{question}}"\n', ""))

        def asked(above: str) -> Any:
            trust = Trust(remote_code=True)
            (task,) = resolve(tmp_path / above / "mine", "probe", trust=trust)
            return task

        before = asked("above")
        (tmp_path / "above").rename(tmp_path / "moved")
        assert asked("moved").identity == before.identity
        script = tmp_path / "moved" / place
        assert str(script) in asked("moved").files
        script.write_text("def text(doc): return ''\n")
        assert asked("moved").identity != before.identity

    def test_models_code_never_runs(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="code that the model writes"):
            self.probe(folder, "unsafe_code: true", trust=Trust(remote_code=True))

    def test_a_template_is_no_program(self, folder: Path, model: Any, tokenizer: Any) -> None:
        target = folder / "ran"
        path = folder / "probe.yaml"
        attack = "cycler.__init__.__globals__.os.mkdir"
        path.write_text(PROBE.replace("{{question}}", f"{{{{ {attack}('{target}') }}}}"))
        with pytest.raises(ZeroShotError, match=r"probe cannot be loaded.*unsafe"):
            zero_shot(model, tokenizer, resolve(folder, "probe"))
        assert not target.exists()


class TestData:
    def test_a_hub_task_offline(self) -> None:
        with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE") as caught:
            resolve_tasks(ZeroShot(tasks=("hellaswag",)))
        assert "hellaswag (data set Rowan/hellaswag)" in str(caught.value)
        assert caught.value.field == "evaluation.zero_shot.tasks[0]"

    def test_a_hub_task_from_the_cache(
        self, folder: Path, model: Any, tokenizer: Any, tmp_path: Path
    ) -> None:
        """A data set in the cache as if it had come from the hub at ``COMMIT``."""
        source = tmp_path / "pairs"
        source.mkdir()
        (source / "test.jsonl").write_text((folder / "pairs.jsonl").read_text())
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        datasets.load_dataset(str(source), cache_dir=str(cache))
        (written,) = (cache / "pairs" / "default").glob("0.0.0/*/")
        shutil.copytree(written, cache / "owner___pairs" / "default" / "0.0.0" / COMMIT)
        text = CONTINUATION.partition("dataset_kwargs")[0].replace("json\n", "owner/pairs\n", 1)
        (folder / "continuation.yaml").write_text(text)
        (task,) = resolve(folder, "continuation")
        assert task.identity["data"] == {
            "source": "hub",
            "dataset": "owner/pairs",
            "config": None,
            "revision": COMMIT,
            "options": {},
        }
        assert zero_shot(model, tokenizer, [task])["continuation"].documents == DOCUMENTS
        other = "d" * 40
        (folder / "continuation.yaml").write_text(f"{text}dataset_kwargs: {{revision: {other}}}")
        with pytest.raises(ConfigurationError, match=f"here at {COMMIT}, and it asks for {other}"):
            resolve(folder, "continuation")

    def test_a_hub_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        for endpoint in ((constants, "ENDPOINT"), (datasets.config, "HF_ENDPOINT")):
            monkeypatch.setattr(*endpoint, "http://127.0.0.1:9")
        url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr("time.sleep", lambda _: None)
        with pytest.raises(SourceUnavailableError, match=r"openbookqa \(data set allenai/open"):
            resolve_tasks(ZeroShot(tasks=("openbookqa",)))

    def test_a_missing_file(self, folder: Path) -> None:
        (folder / "train.jsonl").unlink()
        with pytest.raises(ConfigurationError, match=r"train\.jsonl must exist"):
            resolve(folder, "question")

    def from_address(self, folder: Path, address: str) -> ResolvedTask:
        path = folder / "continuation.yaml"
        path.write_text(CONTINUATION.replace("pairs.jsonl", f'"{address}"'))
        (task,) = resolve(folder, "continuation")
        return task

    def test_an_address_offline(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
            self.from_address(folder, "hf://datasets/owner/other/a.jsonl")

    @pytest.mark.parametrize("address", ["https://example.org/a.jsonl", "hf://owner/model/a.jsonl"])
    def test_what_an_address_holds_can_change_unseen(self, folder: Path, address: str) -> None:
        with pytest.raises(ConfigurationError, match=f"reads {address}.*Download it") as caught:
            self.from_address(folder, address)
        assert caught.value.field == "evaluation.zero_shot.tasks[0]"

    def test_a_file_of_the_hub_is_read_at_its_commit(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[str, Any]] = []

        def info(_: Any, name: str, *, revision: Any, timeout: float) -> Any:
            asked.append((name, revision))
            return SimpleNamespace(sha=COMMIT)

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
        for revision, wanted in (("", None), ("@refs%2Fpr%2F1", "refs/pr/1")):
            address = f"hf://datasets/owner/pairs-of-files{revision}/data/*.jsonl"
            task = self.from_address(folder, address)
            pinned = f"hf://datasets/owner/pairs-of-files@{COMMIT}/data/*.jsonl"
            assert task.identity["data"]["files"] == {"test": [pinned]}
            assert task.overrides["dataset_kwargs"]["data_files"] == {"test": [pinned]}
            assert asked.pop() == ("owner/pairs-of-files", wanted)

    def test_a_folder_of_data(self, folder: Path, model: Any, tokenizer: Any) -> None:
        data = folder / "data"
        data.mkdir()
        (folder / "pairs.jsonl").rename(data / "test.jsonl")
        text = CONTINUATION.partition("dataset_kwargs")[0].replace("json\n", "./data\n", 1)
        (folder / "continuation.yaml").write_text(text)
        (task,) = resolve(folder, "continuation")
        assert task.identity["data"]["source"] == "folder"
        assert zero_shot(model, tokenizer, [task])["continuation"].documents == DOCUMENTS

    @pytest.mark.parametrize("place", ["pairs.jsonl", "data/test.jsonl"])
    def test_changed_data_of_the_same_time(
        self, folder: Path, model: Any, tokenizer: Any, place: str
    ) -> None:
        path = folder / place
        path.parent.mkdir(exist_ok=True)
        (folder / "pairs.jsonl").rename(path)
        if path.parent != folder:
            text = CONTINUATION.partition("dataset_kwargs")[0].replace("json\n", "./data\n", 1)
            (folder / "continuation.yaml").write_text(text)

        def asked() -> str:
            os.utime(path, (1, 1))
            (task,) = resolve(folder, "continuation")
            (entry,) = zero_shot(model, tokenizer, [task], limit=1)["continuation"].questions
            return entry.context

        before = asked()
        path.write_text(path.read_text().replace(before, before.upper()))
        assert asked() == before.upper()

    def test_data_that_does_not_fit(self, folder: Path, model: Any, tokenizer: Any) -> None:
        path = folder / "continuation.yaml"
        path.write_text(CONTINUATION.replace("{{good}}", "{{nothing}}"))
        with pytest.raises(ZeroShotError, match=r"continuation cannot be loaded.*nothing"):
            zero_shot(model, tokenizer, resolve(folder, "continuation"))


@pytest.mark.slow
def test_two_processes_say_what_one_says(
    folder: Path,
    model: Any,
    tokenizer: Any,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tasks = resolve(folder, "question", "continuation", "others")
    settings: dict[str, Any] = {"limit": 9, "num_fewshot": 2, "batch_size": 4}
    job = ZeroShotJob(str(model_folder), "float32", tasks, **settings)
    seen: list[tuple[int, int]] = []
    both, peak = zero_shot_in_processes(job, tmp_path, 2, lambda *step: seen.append(step))
    assert peak > 1 << 20
    assert seen[-1][0] <= seen[-1][1]
    alone = zero_shot(model, tokenizer, tasks, **settings)
    assert both.keys() == alone.keys()
    for name, wanted in alone.items():
        found = both[name]
        assert found.metrics.keys() == wanted.metrics.keys()
        assert (found.documents, found.num_fewshot) == (9, 2)
        assert [q.digest for q in found.questions] == [q.digest for q in wanted.questions]
        assert [q.gold for q in found.questions] == [q.gold for q in wanted.questions]
        for metric, figure in wanted.metrics.items():
            assert found.metrics[metric].value == pytest.approx(figure.value, rel=1e-6)
            if figure.stderr is None:
                assert found.metrics[metric].stderr is None
            else:
                assert found.metrics[metric].stderr == pytest.approx(figure.stderr, rel=1e-6)


@pytest.mark.slow
def test_more_processes_than_documents(
    folder: Path, model: Any, tokenizer: Any, model_folder: Path, tmp_path: Path
) -> None:
    job = ZeroShotJob(str(model_folder), "float32", resolve(folder, "minimal"), limit=1)
    said = "evaluation.processes: 2 is not possible; zero-shot has 1 documents here"
    with pytest.raises(CallError, match=said):
        zero_shot_in_processes(job, tmp_path, 2)
    idle = dataclasses.replace(job, may_idle=True)
    found, _ = zero_shot_in_processes(idle, tmp_path, 2)
    assert found == zero_shot(model, tokenizer, job.tasks, limit=1)


def test_figures_that_are_no_numbers() -> None:
    found = {
        "results": {"t": {"alias": "t", "f1,strict": math.nan, "f1_stderr,strict": "N/A"}},
        "higher_is_better": {},
        "n-samples": {"t": {"original": 4, "effective": 2}},
        "n-shot": {},
        "versions": {"t": 1},
    }
    result = result_of("t", found)
    assert result.main == "f1,strict"
    assert (result.value, result.stderr) == (None, None)
