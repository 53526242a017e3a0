"""Inputs, network and training of slot filling, on tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import encoders

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.slot_filling.generator import generate
from tasks.measures.slot_filling.inputs import CLOSE, OPEN, TOKENS, encode, marked
from tasks.measures.slot_filling.labels import Instance, instances_of
from tasks.measures.slot_filling.records import Tweet
from tasks.measures.slot_filling.schemes import AUTHOR, COVID
from tasks.measures.slot_filling.steps import SlotLoss
from tasks.measures.tuning.batches import Encoded, batches
from tasks.measures.tuning.network import TaskNetwork, learn_tokens_
from tasks.measures.tuning.sharing import Lesson, Recipe
from tasks.measures.tuning.training import fine_tune_, logits_of, zeros_of
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_model, load_tokenizer
from tasks.models.sources import random_model
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import parse_target
from tasks.training.checkpoints import Checkpoints
from tasks.training.engine import AccelerateEngine, accelerator_for

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2,
    learning_rate=1e-3,
    batch_size=8,
    warmup=0.1,
    seed=0,
)
OBJECTIVE = SlotLoss(negative_weight=0.1, mask_other_events=True)


def network_of(folder: Path, pooling: Any = "last", **changes: Any) -> tuple[TaskNetwork, Any]:
    encoders.write(folder, **changes)
    return read_network(folder, pooling)


def read_network(folder: Path, pooling: Any = "last") -> tuple[TaskNetwork, Any]:
    generator = torch.Generator().manual_seed(0)
    model, tokenizer = (
        load_model(folder, torch.float32, CPU, Trust()),
        load_tokenizer(folder, Trust()),
    )
    learn_tokens_(model, tokenizer, TOKENS, generator)
    return TaskNetwork(model, len(COVID.columns), pooling, generator), tokenizer


def encoded_by(tokenizer: Any, count: int = 5, longest: int = 128) -> list[Encoded]:
    tweets = [tweet for tweet in generate(105, 0)[0] if len(tweet.text) < 90][::9][:count]
    return encode(tweets, instances_of(tweets, COVID), COVID, tokenizer, longest, "field")


def tuned(
    network: TaskNetwork, data: list[Encoded], held: Any, folder: Path | None = None
) -> list[dict[str, float]]:
    checkpoints = Checkpoints(folder, seconds=0) if folder else None
    with accelerator_for(CPU, torch.float32) as accelerator:
        return fine_tune_(
            network,
            Lesson(encoded=data, objective=OBJECTIVE, recipe=RECIPE, padding=0),
            held,
            engine=AccelerateEngine(accelerator, checkpoints),
            progress=lambda done, total: None,
        )


def instance(span: tuple[int, int] | None, chunk: str = AUTHOR) -> Instance:
    return Instance(0, "positive", chunk, span, frozenset())


@pytest.mark.parametrize(
    ("text", "word", "made"),
    [
        ("Ann is ill", "Ann", "<E> Ann </E> is ill"),
        ("😷🙏🏽 Ann https://t.co/x9 ill", "Ann", "😷🙏🏽 <E> Ann </E> <URL> ill"),
        ("see www.x.org and @bob_1 met Ann", "Ann", "see <URL> and @USER met <E> Ann </E>"),
        ("hi @bob_1 ok", "@bob_1", "hi <E> @USER </E> ok"),
        ("hi @bob_1 ok", "bob_1", "hi <E> @USER </E> ok"),
        ("at 5 @ home", "home", "at 5 @ <E> home </E>"),
    ],
)
def test_a_candidate_is_marked_where_it_stands(text: str, word: str, made: str) -> None:
    start = text.index(word)
    tweet = Tweet("1", "positive", text, (), {})
    assert marked(tweet, instance((start, start + len(word)), word)) == made


def test_what_has_no_place_stands_in_front_with_its_words() -> None:
    tweet = Tweet("1", "positive", "Ann is ill", (), {})
    assert marked(tweet, instance(None)) == "<E> AUTHOR OF THE TWEET </E> Ann is ill"


def test_a_marker_is_never_cut(tmp_path: Path) -> None:
    _, tokenizer = network_of(tmp_path)
    text = "a" * 30 + " Ann " + "b" * 30
    tweet = Tweet("7", "positive", text, ((31, 34),), {}, "positive.jsonl:3")
    (first, *_) = encode([tweet], [instance((31, 34), "Ann")], COVID, tokenizer, 50, "field")
    assert len(first.ids) == 50
    assert first.ids[-1] == tokenizer.sep_token_id
    assert first.cut
    (whole, *_) = encode([tweet], [instance((31, 34), "Ann")], COVID, tokenizer, 200, "field")
    assert not whole.cut
    (read,) = first.readings
    places = [first.ids[read.opens], first.ids[read.closes]]
    assert tokenizer.convert_ids_to_tokens(places) == [OPEN, CLOSE]
    with pytest.raises(ConfigurationError, match=r"positive\.jsonl:3, 'Ann' end with token 36"):
        encode([tweet], [instance((31, 34), "Ann")], COVID, tokenizer, 36, "field")


def test_a_text_with_a_marker_of_its_own_is_refused(tmp_path: Path) -> None:
    _, tokenizer = network_of(tmp_path)
    tweet = Tweet("7", "positive", "a <E> b", ((0, 1),), {})
    with pytest.raises(ConfigurationError, match="of its own"):
        encode([tweet], [instance((0, 1), "a")], COVID, tokenizer, 50, "field")


@pytest.mark.parametrize("pooling", ["last", "sum4", "concat4"])
def test_logits_do_not_depend_on_the_batch(pooling: str, tmp_path: Path) -> None:
    network, tokenizer = network_of(tmp_path, pooling, num_hidden_layers=4)
    data = encoded_by(tokenizer)
    assert len({len(entry.ids) for entry in data}) > 3, "padding is needed"
    torch.testing.assert_close(
        logits_of(network, data, 16, padding=0),
        logits_of(network, data, 1, padding=0),
        rtol=0,
        atol=1e-6,
    )


def test_few_layers_cannot_be_pooled_over_four(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="the model has 2: take last"):
        network_of(tmp_path, "sum4")


def test_other_events_columns_learn_nothing(tmp_path: Path) -> None:
    network, tokenizer = network_of(tmp_path)
    asked = COVID.of_event("death")
    data = [entry for entry in encoded_by(tokenizer) if entry.readings[0].columns == asked]
    assert data
    (batch,) = batches(data, len(data), len(COVID.columns), 0, CPU)
    network.requires_grad_(True)
    for masked in (True, False):
        network.zero_grad()
        objective = SlotLoss(negative_weight=0.1, mask_other_events=masked)
        objective.loss(network(batch), batch).backward()
        assert network.head.bias.grad is not None
        others = [c for c in range(33) if c not in COVID.of_event("death")]
        assert bool((network.head.bias.grad[others] == 0).all()) == masked
        assert (network.head.bias.grad[list(COVID.of_event("death"))] != 0).all()


@pytest.mark.parametrize("target", ["2:4", "0.7"])
def test_not_one_pruned_weight_moves(target: str, tmp_path: Path) -> None:
    network, tokenizer = network_of(tmp_path)
    asked = parse_target(target)
    layers = describe(network.model).layers()
    for layer in layers.values():
        layer.whole.masked_fill_(lowest(layer.whole.abs(), asked), 0.0)
    held = zeros_of(network.model)
    assert held.keys() == {layer.parameter_of(name) for name, layer in layers.items()}
    before = {name: layer.whole.clone() for name, layer in layers.items()}
    history = tuned(network, encoded_by(tokenizer), held)
    assert history[-1]["loss"] < history[0]["loss"]
    for name, layer in describe(network.model).layers().items():
        assert torch.equal(layer.whole == 0, before[name] == 0), name
        assert not torch.equal(layer.whole, before[name]), "the others do move"


def test_a_killed_tuning_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    network, tokenizer = network_of(tmp_path / "model")
    data = encoded_by(tokenizer)
    whole = tuned(network, data, {})
    again, _ = read_network(tmp_path / "model")

    class Killed(Exception):  # noqa: N818 (a signal, not an error)
        pass

    class Dying(Checkpoints):
        def write(self, step: int, snapshot: Any) -> None:
            super().write(step, snapshot)
            raise Killed

    with accelerator_for(CPU, torch.float32) as accelerator, pytest.raises(Killed):
        fine_tune_(
            again, Lesson(encoded=data, objective=OBJECTIVE, recipe=RECIPE, padding=0), {},
            engine=AccelerateEngine(accelerator, Dying(tmp_path / "scratch", seconds=0)),
            progress=lambda done, total: None,
        )  # fmt: skip
    anew, _ = read_network(tmp_path / "model")
    assert tuned(anew, data, {}, tmp_path / "scratch") == whole
    for name, weight in anew.state_dict().items():
        assert torch.equal(weight, network.state_dict()[name]), name


def test_a_decoder_is_read_at_the_closing_marker(tmp_path: Path) -> None:
    random_model.write(tmp_path)
    network, tokenizer = read_network(tmp_path)
    assert not network.at_opening
    tweets = [Tweet("1", "death", "Ann died", ((0, 3),), {"name": ((0, 3),)})]
    data = encode(tweets, instances_of(tweets, COVID), COVID, tokenizer, 200, "field")
    (batch,) = batches(data, 9, 33, 0, CPU)
    with torch.no_grad():
        before = network.eval()(batch)
        # What follows the marker cannot be seen there.
        batch.ids_BL[0, data[0].readings[0].closes + 1] += 1
        after = network(batch)
        batch.ids_BL[0, data[0].readings[0].closes - 1] += 1
        changed = network(batch)
    assert torch.equal(before, after)
    assert not torch.equal(before, changed)
