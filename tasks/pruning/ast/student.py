"""The model that AST trains: a float32 copy whose blocks compute with masked weights.

The copy's parameters are what the forward pass reads: W⊙M (+ SX with SLoRB) for every linear layer
of the blocks. The dense W of those layers is kept beside them; all other parameters are their own.

Shapes: ``O`` out-features, ``I`` in-features, ``R`` rank of a branch.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tasks.pruning.ast.optimiser import StepSize, Variable, clip_scale, update_
from tasks.pruning.ast.slorb import Branch
from tasks.pruning.core import masks
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.layers import LinearLayer
from tasks.pruning.core.refusals import UnsupportedLayerError, UnsupportedModelError
from tasks.pruning.core.targets import SemiStructured


class Student:
    """A trainable copy of a decoder; the decoder itself stays as it is.

    Args:
        device: where the copy is made.
        weight_decay: of matrices.
        slorb_group: k of the side branches; None for none.
        norms: layer name → norm of each of its inputs, which then weighs |W| in its masks.
    """

    def __init__(
        self,
        decoder: Decoder,
        target: SemiStructured,
        device: torch.device,
        *,
        weight_decay: float,
        slorb_group: int | None,
        norms: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.target = target
        self._norms = norms
        if any(layer.expert is not None for layer in decoder.layers().values()):
            name = type(decoder.model).__name__
            raise UnsupportedModelError(
                f"ast does not retrain mixtures of experts, and {name} is one"
            )
        self.model = copy.deepcopy(decoder.model).to(device, torch.float32).eval()
        self.model.requires_grad_(True)
        # Excluded layers are trained like embeddings: without a mask.
        copied = Decoder(self.model, decoder.blocks_name, exclude=decoder.exclude)
        self.layers = copied.pruned_layers()
        self.branches: dict[str, Branch] = {}
        self._dtypes = {
            name: parameter.dtype for name, parameter in decoder.model.named_parameters()
        }
        self._parameters: dict[str, nn.Parameter] = dict(self.model.named_parameters())
        self.variables: dict[str, Variable] = {}
        masked = {f"{name}.weight": name for name in self.layers}
        for name, parameter in self._parameters.items():
            # No hidden state of an encoder reads its pooler: it stays as it is.
            moves = parameter.ndim >= 2 and not name.startswith("pooler.")
            decayed = weight_decay if moves else 0.0
            if name in masked:
                self._add_masked(masked[name], parameter, decayed, slorb_group)
            else:
                self.variables[name] = Variable(name, parameter.data, decayed)
        self.compute_()

    def _add_masked(
        self, name: str, parameter: nn.Parameter, decayed: float, group: int | None
    ) -> None:
        value = parameter.data.clone(memory_format=torch.contiguous_format)
        kept_OI = self._mask(name, _out_first(value, self.layers[name]), self._norms)
        kept = self.layers[name].as_stored(kept_OI)
        self.variables[f"{name}.weight"] = Variable(
            f"{name}.weight", value, decayed, kept, parameter.data
        )
        if group is not None:
            weight_OI = _out_first(value, self.layers[name])
            self.branches[name] = Branch.of(
                name, weight_OI, kept_OI, group=group, weight_decay=decayed
            )

    def _mask(self, name: str, weight_OI: Tensor, norms: Mapping[str, Tensor] | None) -> Tensor:
        scores_OI = weight_OI.abs()
        if norms is not None:
            scores_OI.mul_(norms[name].to(weight_OI.device))
        try:
            lowest_OI = masks.lowest_of_groups(scores_OI, self.target.keep, self.target.group)
        except UnsupportedLayerError as error:
            raise UnsupportedLayerError(f"{name}: {error}") from None
        return ~lowest_OI

    @torch.no_grad()
    def compute_(self) -> None:
        """Write the weights that the forward pass reads."""
        for variable in self.variables.values():
            variable.compute_()
        self._fold_branches_()

    def _fold_branches_(self) -> None:
        for name, branch in self.branches.items():
            computed = self.variables[f"{name}.weight"].computed
            assert computed is not None
            branch.fold_(_out_first(computed, self.layers[name]))

    def gradients(self) -> list[Tensor]:
        """Of every parameter, in a fixed order; zeros where the loss did not reach one."""
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [p.grad for p in self._parameters.values() if p.grad is not None]

    @torch.no_grad()
    def step_(self, size: StepSize, clip: float) -> float:
        """Update all variables from the parameters' gradients, which are then gone.

        Args:
            size: its gradient scale is not looked at.

        Returns:
            The norm of the gradients before clipping.
        """
        pairs = [(self.variables[n], p.grad) for n, p in self._parameters.items()]
        for name, branch in self.branches.items():
            gradient = self._parameters[f"{name}.weight"].grad
            assert gradient is not None
            pairs += branch.gradients(_out_first(gradient, self.layers[name]))
        norm, scale = clip_scale([slope for _, slope in pairs if slope is not None], clip)
        if not torch.isfinite(torch.tensor(norm)):
            raise FloatingPointError(
                f"step {size.step}: the gradients are not finite; try a lower learning_rate"
            )
        scaled = dataclasses.replace(size, gradient_scale=scale)
        for variable, slope in pairs:
            assert slope is not None
            update_(variable, slope, scaled)
        for parameter in self._parameters.values():
            parameter.grad = None
        self._fold_branches_()
        return norm

    @torch.no_grad()
    def start_from_(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the layers' weights, by parameter name, and choose the masks anew.

        Args:
            weights: with zeros for what is pruned, which a mask then prunes first.
        """
        for name in self.layers:
            self.variables[f"{name}.weight"].value.copy_(weights[f"{name}.weight"])
        for branch in self.branches.values():
            branch.scale_OR.value.zero_()
        # By size alone: an input that is always zero would make all its weights alike.
        self._choose_masks_(None)

    def remask_(self) -> float:
        """Choose the masks anew from the dense weights; the part of all entries that changed."""
        return self._choose_masks_(self._norms)

    @torch.no_grad()
    def _choose_masks_(self, norms: Mapping[str, Tensor] | None) -> float:
        flips = entries = 0
        for name, layer in self.layers.items():
            variable = self.variables[f"{name}.weight"]
            assert variable.kept is not None
            kept = layer.as_stored(self._mask(name, _out_first(variable.value, layer), norms))
            flips += int((kept ^ variable.kept).sum())
            entries += kept.numel()
            variable.kept.copy_(kept)
            variable.compute_()
        self._fold_branches_()
        return flips / entries

    def all_variables(self) -> list[Variable]:
        """Parameters, then branches, in a fixed order."""
        return [*self.variables.values(), *self._branch_variables()]

    def _branch_variables(self) -> list[Variable]:
        return [v for b in self.branches.values() for v in (b.sum_RI, b.scale_OR)]

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; the tensors themselves."""
        return {k: t for variable in self.all_variables() for k, t in variable.state().items()}

    @torch.no_grad()
    def load_state_(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        for name, mine in self.state().items():
            mine.copy_(tensors[name])
        self.compute_()

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Every parameter under all its names, in the decoder's dtype; layers exactly masked."""
        done: dict[int, Tensor] = {}
        result: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            if id(parameter) not in done:
                done[id(parameter)] = self._exported(name)
            result[name] = done[id(parameter)]
        return result

    def _exported(self, name: str) -> Tensor:
        variable = self.variables[name]
        value = variable.value
        if variable.kept is not None:
            value = value.masked_fill(~variable.kept, 0)
        return value.to(self._dtypes[name], copy=True)

    def exported_branches(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """``<layer>.slorb_x`` and ``<layer>.slorb_s`` of every branch."""
        return {v.name: v.value.to(dtype, copy=True) for v in self._branch_variables()}


def _out_first(stored: Tensor, layer: LinearLayer) -> Tensor:
    return stored.T if layer.transposed else stored
