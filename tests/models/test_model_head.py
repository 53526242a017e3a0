"""Body and head compose to the model, for architectures that do different things in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasks.models.architecture.head import split_head

MakeModel = Callable[..., Any]
KINDS = ("llama", "tied", "gpt_neox", "opt", "gpt2", "gemma2", "cohere", "granite", "mixtral")
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_halves_compose(
    make_model: MakeModel, probe: Tensor, kind: str, dtype: torch.dtype
) -> None:
    model = make_model(kind, dtype=dtype)
    halves = split_head(model)
    assert halves is not None
    body, head = halves
    with torch.no_grad():
        wanted = model(probe).logits
        hidden = body(probe)
        given = torch.stack([torch.cat([head(part) for part in h.split(5)]) for h in hidden])
    assert hidden.shape[:2] == probe.shape
    assert given.dtype == wanted.dtype == dtype
    scale = wanted.abs().max().item()
    assert scale > 0
    assert torch.allclose(given.float(), wanted.float(), rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was(make_model: MakeModel, probe: Tensor, kind: str) -> None:
    model = make_model(kind)
    modules, state = dict(model.named_modules()), model.state_dict()
    with torch.no_grad():
        before = model(probe).logits
        split_head(model)
        assert torch.equal(model(probe).logits, before)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())


def test_halves_share_the_model_s_weights(make_model: MakeModel, probe: Tensor) -> None:
    model = make_model("llama")
    halves = split_head(model)
    assert halves is not None
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
        wanted = model(probe[:1]).logits[0]
        assert torch.allclose(halves[1](halves[0](probe[:1])[0]), wanted, atol=1e-6)


class Mixing(nn.Module):
    """An LM head whose logits depend on the other tokens it sees."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inner(hidden - hidden.mean(dim=-2, keepdim=True))


class Failing(nn.Module):
    """Works once a pass, as a head with state may."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not apart from my body")


def test_a_head_that_mixes_tokens_does_not_split(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.lm_head = Mixing(model.lm_head)
    assert split_head(model) is None


def test_what_the_body_does_not_hand_on_does_not_split(make_model: MakeModel) -> None:
    model = make_model("llama")
    inner = model.forward

    def forward(input_ids: Tensor | None = None, **options: Any) -> Any:
        output = inner(input_ids=input_ids, **options)
        if input_ids is not None:
            output.logits = output.logits + input_ids[..., None]
        return output

    model.forward = forward
    assert split_head(model) is None


def test_a_body_without_hidden_states_does_not_split(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    monkeypatch.setattr(type(model), "get_decoder", lambda _: model.lm_head)
    monkeypatch.setattr(type(model), "base_model", Failing())
    assert split_head(model) is None
