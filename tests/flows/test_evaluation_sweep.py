"""A sweep that measures everything: two families, local tasks, speed, agreement, processes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Home

pytestmark = pytest.mark.slow

SWEEP = """
name: everything
models: [with-bos, gpt-neox]
dtype: float32
calibration: {{corpus: {{source: python-docs}}, samples: 2, sequence_length: 64}}
methods: [wanda]
targets: ["0.01", "0.5"]
evaluation:
  processes: {processes}
  perplexity:
    - {{name: docs, corpus: {{source: python-docs}}, sequence_length: 64, windows: 5}}
  zero_shot: {{tasks: [agreement], include_path: tasks}}
  speed: {speed}
  speed_options: {{prompt_tokens: 16, new_tokens: 4, repetitions: 2}}
"""
PAIRS = [("A cat sleeps.", "A cat sleep."), ("Dogs run.", "Dogs runs."), ("He is.", "He are.")]


def write_models(folder: Path) -> None:
    """A LLaMA-like model whose tokenizer prepends a BOS token, and a GPT-NeoX-like one without."""
    import tiny
    from tokenizers.processors import TemplateProcessing

    from tasks.models.sources.random_model import tokenizer

    with_bos = tokenizer()
    with_bos.add_special_tokens({"bos_token": "<s>"})
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", with_bos.bos_token_id)]
    )
    # As in Pythia: a token that ends texts, which no window starts with.
    without = tokenizer()
    without.add_special_tokens({"eos_token": "<|endoftext|>"})
    for name, model, words in (
        ("with-bos", tiny.llama(vocab_size=300, bos_token_id=256), with_bos),
        ("gpt-neox", tiny.gpt_neox(vocab_size=300, eos_token_id=256), without),
    ):
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)


def write_tasks(folder: Path) -> None:
    folder.mkdir()
    lines = [json.dumps({"good": good, "bad": bad}) for good, bad in PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    (folder / "agreement.yaml").write_text(
        f"""
task: agreement
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder / "pairs.jsonl"}"}}}}
output_type: multiple_choice
test_split: test
doc_to_text: ""
target_delimiter: ""
doc_to_target: 0
doc_to_choice: "{{{{[good, bad]}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
    )


@pytest.fixture(scope="module")
def measured(make_home: Callable[..., Home]) -> Home:
    home = make_home()
    folder = home.path.parent
    write_models(folder)
    write_tasks(folder / "tasks")
    home.sweep_file.write_text(SWEEP.format(processes=1, speed="true"))
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    (folder / "output.txt").write_text(output)
    return home


def rows_of(home: Home) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (Path(row["model"]).name, row["method"], row["target"]): row
        for row in home.rows("everything")
    }


def test_every_row_has_every_figure(measured: Home) -> None:
    rows = rows_of(measured)
    assert len(rows) == 2 * (1 + 2)
    for (_, method, _), row in rows.items():
        assert row["status"] == "completed", row["error"]
        assert row["perplexity/docs"] > 1
        assert row["zero_shot/agreement/acc"] in (0, 1 / 3, 2 / 3, 1)
        assert row["zero_shot/mean"] == row["zero_shot/agreement/acc"]
        assert row["zero_shot/agreement/acc_stderr"] >= 0
        assert row["speed/prefill_tokens_per_second"] > 0
        assert row["speed/decode_tokens_per_second"] > 0
        assert row["speed/hardware"]
        assert row["bytes_on_disk"] > 1000
        if method == "dense":
            assert row["reconstruction_error"] is None
        else:
            assert 0 < row["reconstruction_error"] < 1.5
            assert row["kl/docs"] > 0
            assert 0 <= row["top1_agreement/docs"] <= 1


def test_the_report_sets_two_models_side_by_side(measured: Home) -> None:
    folder = measured.path / "sweeps" / "everything"
    report = (folder / "report.md").read_text()
    assert "### Models side by side" in report
    assert (folder / "plots" / "perplexity-by-model.png").is_file()
    windows = {
        line.partition(":")[0]: line
        for line in report.splitlines()
        if line.startswith("- Perplexity on docs")
    }
    # Of each: one text is other windows with another tokenizer.
    assert "starts with token 256" in windows["- Perplexity on docs, with-bos"]
    assert "no BOS" in windows["- Perplexity on docs, gpt-neox"]
    assert "- Zero-shot agreement: version" in report
    assert "longer than the model takes: 0" in report


def test_what_prunes_less_agrees_more(measured: Home) -> None:
    rows = rows_of(measured)
    for model in ("with-bos", "gpt-neox"):
        little, much = (rows[model, "wanda", target] for target in ("0.01", "0.5"))
        assert little["kl/docs"] < much["kl/docs"]
        assert little["reconstruction_error"] < much["reconstruction_error"]
        assert little["top1_agreement/docs"] >= much["top1_agreement/docs"]


def test_each_tokenizer_gets_its_own_special_tokens(measured: Home) -> None:
    """Perplexity of the dense models by hand: with the BOS token where there is one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from configs.corpora import Corpus
    from tasks.data.corpora import read_corpus

    _, documents = read_corpus(Corpus(), role="heldout", base=Path(), field="")
    text = Corpus().separator.join(map(str, documents))
    for name, bos in (("with-bos", 256), ("gpt-neox", None)):
        folder = measured.path.parent / name
        words = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        first = [] if bos is None else [bos]
        ids = words(text[:4000], add_special_tokens=False)["input_ids"]
        step = 64 - len(first)
        windows = torch.tensor([first + ids[i * step : (i + 1) * step] for i in range(5)])
        with torch.no_grad():
            losses = model(windows).logits[:, :-1].double().log_softmax(-1)
        nll = -losses.gather(-1, windows[:, 1:, None]).mean()
        assert rows_of(measured)[name, "dense", ""]["perplexity/docs"] == pytest.approx(
            math.exp(nll), rel=1e-5
        )


def test_processes_give_the_same_figures(measured: Home, make_home: Callable[..., Home]) -> None:
    home = make_home()
    write_models(home.path.parent)
    write_tasks(home.path.parent / "tasks")
    home.sweep_file.write_text(SWEEP.format(processes=2, speed="false"))
    smaller = ("--set", "models=[with-bos]", "--set", "targets=[0.5]")
    status, output = home.run("run", "sweep.yaml", *smaller)
    assert status == 0, output
    one, two = rows_of(measured), rows_of(home)
    assert len(two) == 2
    for place in two:
        row = one[place]
        for column in ("perplexity/docs", "kl/docs", "top1_agreement/docs"):
            wanted = row[column] if row[column] is None else pytest.approx(row[column], rel=1e-5)
            assert two[place][column] == wanted, (place, column)
        assert two[place]["zero_shot/agreement/acc"] == row["zero_shot/agreement/acc"]


def test_report_and_tracking_tell_it(measured: Home) -> None:
    folder = measured.path / "sweeps" / "everything"
    text = (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    for word in ("zero-shot", "KL", "tokens/s", "econstruction"):
        assert word.lower() in text.lower(), word
    assert "script-src 'sha256-" in page
    inlined = page.count('<img src="data:image/png;base64,')
    assert inlined == len(list((folder / "plots").glob("*.png")))
    logged = {row[0] for row in measured.mlflow("select distinct key from metrics")}
    assert {"kl/docs", "zero_shot/agreement/acc", "speed/prefill_tokens_per_second"} <= logged


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("evaluation.zero_shot.tasks=[agrement]", "agreement"),
        ("evaluation.zero_shot.limit=0", "limit"),
        ("evaluation.processes=6", "processes"),
        ("evaluation.speed_options.prompt_tokens=4000", "prompt_tokens"),
        ("evaluation.perplexity=[{name: docs, windows: 100000}]", "windows"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_computed(
    measured: Home, monkeypatch: pytest.MonkeyPatch, setting: str, named: str
) -> None:
    from configs.errors import ConfigurationError
    from configs.yaml_file import load
    from tasks.steps.session import session

    for name, value in measured.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(measured.path.parent)
    with pytest.raises(ConfigurationError) as raised:
        session().checked_plan(load("sweep.yaml", [setting, "name=wrong"]))
    assert named in str(raised.value)
