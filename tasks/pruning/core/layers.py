"""The linear layers of a decoder block, whatever class holds their weight.

Sparsity is counted over exactly these: never embeddings, norms or the LM head.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LinearLayer:
    """One prunable matrix.

    Attributes:
        name: dotted name of the module inside its block, such as ``self_attn.q_proj``.
        module: the module itself.
        transposed: whether the module stores ``I × O`` (GPT-2's Conv1D).
    """

    name: str
    module: nn.Module
    transposed: bool

    @property
    def stored(self) -> Tensor:
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    @property
    def weight_OI(self) -> Tensor:
        """A view of the weight with out-features first."""
        return self.stored.T if self.transposed else self.stored

    @property
    def in_features(self) -> int:
        return self.weight_OI.shape[1]

    def as_stored(self, weight_OI: Tensor) -> Tensor:
        """``weight_OI`` in the module's own layout."""
        return (weight_OI.T if self.transposed else weight_OI).contiguous()


def linear_layers(block: nn.Module) -> dict[str, LinearLayer]:
    """All linear layers of a block, by name, in the order of definition."""
    found: dict[str, LinearLayer] = {}
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = LinearLayer(name, module, transposed=False)
        elif type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            found[name] = LinearLayer(name, module, transposed=True)
    return found
