"""Finds the blocks of any causal language model or encoder in transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from tasks.models.architecture.structure import structure_of_model
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import is_encoder
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.layers import exempt_weights, linear_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe(model: PreTrainedModel, exclude: tuple[str, ...] = ()) -> Decoder:
    """The model as pruning sees it, with its heads and channels where they are understood.

    The blocks are the ``nn.ModuleList`` with ``num_hidden_layers`` entries that holds the most
    parameters, looked for in the text decoder: ``model.layers`` in LLaMA, ``gpt_neox.layers``,
    ``model.decoder.layers`` in OPT, ``transformer.h`` in GPT-2.

    Args:
        exclude: patterns of layers that pruning leaves as they are.

    Raises:
        UnsupportedModelError: an encoder-decoder model, one without such a list, or one whose
            blocks hold matrices that are neither linear layers, those of a mixture's experts
            included, nor of the kinds that stay dense (``exempt_weights``): sparsity would be
            counted without them.
    """
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder model; only decoders and encoders alone work"
        )
    text = model.config.get_text_config(decoder=True)
    expected = getattr(text, "num_hidden_layers", None)
    found = _find_blocks(model, expected)
    if not found:
        raise UnsupportedModelError(
            f"{name} has no list of {expected} decoder blocks, so nothing in it can be pruned"
        )
    blocks_name, blocks = max(found.items(), key=lambda item: _parameters(item[1]))
    _require_linear(blocks, name)
    structure = structure_of_model(model, blocks_name)
    return Decoder(model, blocks_name, structure, exclude, is_encoder(model.config))


def _find_blocks(model: PreTrainedModel, length: int | None) -> dict[str, nn.ModuleList]:
    """Lists of the right length inside the text decoder, by their name in the whole model."""
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == length
    }
    # What calls itself a decoder may be the head's last layer, as in ModernBERT.
    for part in (model.get_decoder(), model.base_model):
        within = {id(module) for module in part.modules()}
        if found := {name: module for name, module in lists.items() if id(module) in within}:
            return found
    return {}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _require_linear(blocks: nn.ModuleList, name: str) -> None:
    seen: set[int] = set()
    for index, block in enumerate(blocks):
        parameters = dict(block.named_parameters())
        layers = linear_layers(block).values()
        linear = {id(parameters[layer.parameter]) for layer in layers}
        if not linear:
            raise UnsupportedModelError(f"{name}: block {index} has no linear layers to prune")
        if linear & seen:
            raise UnsupportedModelError(f"{name}: block {index} shares weights with another block")
        seen |= linear
        exempt = exempt_weights(block)
        for parameter_name, parameter in parameters.items():
            if parameter.ndim >= 2 and id(parameter) not in linear and parameter_name not in exempt:
                shape = "×".join(map(str, parameter.shape))
                raise UnsupportedModelError(
                    f"{name}: {parameter_name} ({shape}) in block {index} is not the weight of a "
                    "linear layer, so sparsity would be counted without it"
                )
