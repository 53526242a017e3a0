"""The linear layers of a decoder block, whatever class holds their weight.

Sparsity is counted over exactly these: never embeddings, norms or the LM head, and of what lies
inside the blocks not over :func:`exempt_weights`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LinearLayer:
    """One prunable matrix.

    Attributes:
        name: dotted name inside its block, such as ``self_attn.q_proj``; of an expert's matrix
            that of the tensor and the expert's number, ``mlp.experts.down_proj.3``.
        module: what holds the weight.
        transposed: whether the weight is stored ``I × O`` (GPT-2's Conv1D, GPT-OSS's experts).
        parameter: dotted name inside the block of the parameter that holds the weight.
        expert: which of the parameter's matrices, ``E × O × I``, this is; None: all of it.
    """

    name: str
    module: nn.Module
    transposed: bool
    parameter: str
    expert: int | None = None

    @property
    def whole(self) -> Tensor:
        """The parameter, with all experts."""
        weight = getattr(self.module, self.parameter.rpartition(".")[2])
        assert isinstance(weight, Tensor)
        return weight.detach()

    @property
    def stored(self) -> Tensor:
        return self.within(self.whole)

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

    def within(self, whole: Tensor) -> Tensor:
        """This layer's part of a tensor like its parameter."""
        return whole if self.expert is None else whole[self.expert]

    def put_(self, stored: Tensor, tensors: dict[str, Tensor], parameter: str) -> None:
        """Set ``tensors[parameter]`` to a new weight of this layer, or this expert's part of it."""
        if self.expert is None:
            tensors[parameter] = stored
            return
        if parameter not in tensors:
            tensors[parameter] = self.whole.clone()
        tensors[parameter][self.expert] = stored

    def parameter_of(self, full_name: str) -> str:
        """The parameter's name in the model, from this layer's name there."""
        return full_name.removesuffix(self.name) + self.parameter


def linear_layers(block: nn.Module) -> dict[str, LinearLayer]:
    """All linear layers of a block, by name, in the order of definition, but exempt ones."""
    found: dict[str, LinearLayer] = {}
    exempt = exempt_weights(block)
    for name, module in block.named_modules():
        weight = f"{name}.weight" if name else "weight"
        if is_fused_experts(module):
            found |= {layer.name: layer for layer in _expert_layers(name, module)}
        elif _multiplies(module) and weight not in exempt:
            found[name] = LinearLayer(name, module, _is_transposed(module), weight)
    return found


def is_fused_experts(module: nn.Module) -> bool:
    """Whether this holds a mixture's experts as transformers does: two tensors of all matrices.

    ``gate_up_proj`` (or ``up_proj``) and ``down_proj``, each ``E × O × I`` or ``E × I × O``.
    """
    told = ("num_experts", "has_gate", "has_bias", "is_transposed", "has_post_expert_norm")
    if not all(hasattr(module, name) for name in told) or module.has_post_expert_norm:
        return False
    tensors = [getattr(module, name, None) for name in expert_tensors(module)]
    return all(isinstance(tensor, Tensor) and tensor.ndim == 3 for tensor in tensors)


def expert_tensors(experts: nn.Module) -> tuple[str, str]:
    """The names of the tensors that a token meets in turn."""
    return ("gate_up_proj" if experts.has_gate else "up_proj"), "down_proj"


def _expert_layers(name: str, experts: nn.Module) -> Iterator[LinearLayer]:
    for tensor in expert_tensors(experts):
        parameter = f"{name}.{tensor}"
        for expert in range(len(getattr(experts, tensor))):
            transposed = bool(experts.is_transposed)
            yield LinearLayer(f"{parameter}.{expert}", experts, transposed, parameter, expert)


def exempt_weights(block: nn.Module) -> dict[str, str]:
    """Parameters with more than one dimension that stay dense and uncounted → what they are.

    Routers and gates of experts, short depthwise convolutions, parameters of state spaces, biases
    of experts, and vectors in the shape of a matrix.
    """
    found: dict[str, str] = {}
    for name, module in block.named_modules():
        inside = f"{name}." if name else ""
        if is_fused_experts(module):
            found |= dict.fromkeys(_routers(block, name, len(module.down_proj)), "router")  # type: ignore[arg-type]
            if module.has_bias:
                biases = (f"{inside}{tensor}_bias" for tensor in expert_tensors(module))
                found |= dict.fromkeys(biases, "bias of experts")
        if isinstance(module, nn.Conv1d) and module.groups == module.in_channels > 1:
            found[f"{inside}weight"] = "depthwise convolution"
        state = getattr(module, "A_log", None)
        if isinstance(state, Tensor) and state.ndim == 2:
            found[f"{inside}A_log"] = "state space"
            if isinstance(getattr(module, "dt_proj", None), nn.Linear):
                # Mamba multiplies by its weight without calling it.
                found[f"{inside}dt_proj.weight"] = "state space"
        if not _multiplies(module):
            for parameter, weight in module.named_parameters(recurse=False):
                if weight.ndim >= 2 and weight.numel() == max(weight.shape):
                    found.setdefault(f"{inside}{parameter}", "vector")
    return found


def _multiplies(module: nn.Module) -> bool:
    """Whether this is a linear layer, as transformers' ``Conv1D`` is with its weight transposed."""
    return isinstance(module, nn.Linear) or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _routers(block: nn.Module, experts: str, count: int) -> Iterator[str]:
    """Weights beside ``experts`` that say which tokens go to which, or whether to a shared one."""
    parent = experts.rpartition(".")[0]
    for inner, module in block.get_submodule(parent).named_modules():
        weight = getattr(module, "weight", None)
        named = any(
            "router" in part or part == "gate" or part.endswith("_gate")
            for part in inner.split(".")
        )
        if (
            named
            and isinstance(weight, Tensor)
            and weight.ndim == 2
            and weight.shape[0] in (1, count)
        ):
            yield f"{parent}.{inner}.weight" if parent else f"{inner}.weight"
