"""The proof that a walk through the blocks computes what the model computes.

On a short window each block is run as the walk runs it and compared with the model's own forward
pass. Each is run twice, as the walk does when weights are replaced, so that a block which hands
something on to a later one, or to its own next run, comes out right or is refused.

Shapes: ``N`` windows, ``L`` tokens of a window, ``H`` hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tasks.pruning.core.calls import Form, Tables, form_of, hidden_of, recorded_calls
from tasks.pruning.core.experts import require_as_sent
from tasks.pruning.core.layers import is_fused_experts, linear_layers
from tasks.pruning.core.refusals import UnsupportedModelError

if TYPE_CHECKING:
    from tasks.pruning.core.blocks import Decoder

_TOKENS = 128
"""As many as the proof looks at, unless attention slides over more than that."""
_PAST_WINDOW = 32
"""As many more than a sliding window holds: there a mask differs from the causal one."""
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
"""Of a token's difference, relative to its largest value."""

_MISFITS = (
    *(ArithmeticError, AssertionError, AttributeError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)
"""What a block raises that is called in another state than it needs."""
_SPANS = ("window", "chunk", "local_attention")
"""In names of a configuration's fields that hold how far attention looks back."""

_proven: WeakKeyDictionary[nn.Module, list[Form]] = WeakKeyDictionary()
"""What each block of a model returns, for the models whose walk has been proven."""


@torch.no_grad()
def proven_forms(decoder: Decoder, tokens_NL: Tensor) -> list[Form]:
    """What each block returns, of a model whose walk is right; proven once a process and model.

    Args:
        tokens_NL: calibration windows; the proof looks at the beginning of the first.

    Raises:
        UnsupportedModelError: a walk through the blocks computes something else than the model, or
            a linear layer does not see each token once.
    """
    model = decoder.model
    if model not in _proven:
        home = next(model.parameters()).device
        length = _proof_length(model, tokens_NL.shape[1])
        ids_1L = tokens_NL[:1, :length].long().to(home)
        states, forms = _own_pass(decoder, ids_1L)
        try:
            _compare(decoder, ids_1L, states, forms)
        except torch.OutOfMemoryError:
            raise
        except UnsupportedModelError as error:
            raise _refused(model, str(error)) from None
        except _MISFITS as error:
            raise _refused(model, f"{type(error).__name__}: {error}") from error
        _proven[model] = forms
    return _proven[model]


def _refused(model: nn.Module, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{type(model).__name__} cannot be calibrated block by block: {reason}. "
        "Magnitude needs no calibration and can prune it, with evaluation.reconstruction: false"
    )


def _proof_length(model: nn.Module, available: int) -> int:
    """Tokens to look at: past every sliding window that the calibration windows exceed."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config(decoder=True)
    spans = [
        value + _PAST_WINDOW
        for name, value in (vars(config) if config else {}).items()
        if isinstance(value, int) and value < available and any(span in name for span in _SPANS)
    ]
    return min(available, max([_TOKENS, *spans]))


def _own_pass(decoder: Decoder, ids_1L: Tensor) -> tuple[list[Tensor], list[Form]]:
    """The hidden states after each block in the model's own forward pass, and blocks' forms."""
    states: list[Tensor] = []
    forms: list[Form] = []

    def hook_of(index: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            del args
            if index != len(states):
                raise _refused(decoder.model, f"block {index} runs after block {len(states) - 1}")
            states.append(hidden_of(result).clone())
            forms.append(form_of(result))

        return hook

    with ExitStack() as hooks:
        for index, block in enumerate(decoder.blocks):
            hooks.callback(block.register_forward_hook(hook_of(index)).remove)
        decoder.model(input_ids=ids_1L, use_cache=False)
    if len(states) != len(decoder.blocks):
        raise _refused(decoder.model, f"its forward pass does not run block {len(states)}")
    return states, forms


def _compare(
    decoder: Decoder, ids_1L: Tensor, states: Sequence[Tensor], forms: Sequence[Form]
) -> None:
    blocks = decoder.blocks
    hidden_1LH, calls = recorded_calls(decoder.model, blocks, ids_1L, forms)
    written = [call.versions() for call in calls]
    for index, (block, call, own_1LH) in enumerate(zip(blocks, calls, states, strict=True)):
        name = f"{decoder.blocks_name}.{index}"
        with _each_token_once(name, block, ids_1L.numel(), call.tables(hidden_1LH)):
            call.run(block, hidden_1LH)
        hidden_1LH = call.run(block, hidden_1LH)
        difference = _difference(hidden_1LH, own_1LH)
        allowed = _TOLERANCES.get(own_1LH.dtype, 1e-5)
        if not difference <= allowed:
            raise UnsupportedModelError(
                f"after {name} the hidden states are {difference:.1e} of a token's largest value "
                f"away from those of the model's own forward pass, and {allowed:.0e} is allowed"
            )
    if written != [call.versions() for call in calls]:
        raise UnsupportedModelError("a block writes into what it is called with")


def _difference(mine: Tensor, own: Tensor) -> float:
    """Largest difference of a token, relative to its largest value; NaN and inf equal themselves.

    Trained models hold a first token whose values are thousands of times those of the others: next
    to it, whatever goes wrong with them is small.
    """
    if mine.shape != own.shape:
        return float("inf")
    same = (mine == own) | (mine.isnan() & own.isnan())
    if same.all():
        return 0.0
    away = torch.where(same, 0.0, (mine.double() - own.double()).abs()).amax(-1)
    largest = torch.where(own.isfinite(), own.double().abs(), 0.0).amax(-1)
    ratios = away / largest.clamp_min(torch.finfo(own.dtype).tiny)
    return float(torch.where(ratios.isnan(), torch.inf, ratios).max())


@contextmanager
def _each_token_once(name: str, block: nn.Module, tokens: int, tables: Tables) -> Iterator[None]:
    """While the block runs, every linear layer is called once, with one row a token.

    It may be called with a table beside that, or with a table alone. Experts are sent what
    ``experts.py`` finds.
    """
    tabled: set[str] = set()
    layers = {n: layer for n, layer in linear_layers(block).items() if layer.expert is None}
    rows: dict[str, list[int]] = {name: [] for name in layers}

    def hook_of(layer: str, in_features: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and args[0] in tables:
                tabled.add(layer)
            else:
                rows[layer].append(args[0].numel() // in_features if args else 0)

        return hook

    with ExitStack() as hooks:
        for short, layer in layers.items():
            hook = hook_of(short, layer.in_features)
            hooks.callback(layer.module.register_forward_pre_hook(hook).remove)
        for module in block.modules():
            if is_fused_experts(module):
                check = partial(require_as_sent, tokens=tokens)
                handle = module.register_forward_hook(check, with_kwargs=True)
                hooks.callback(handle.remove)
        yield
    for short, seen in rows.items():
        if seen != [tokens] and not (short in tabled and not seen):
            raise UnsupportedModelError(
                f"{name}.{short} is called with {' and '.join(map(str, seen)) or 'no'} rows for "
                f"{tokens} tokens, not with each token once"
            )
