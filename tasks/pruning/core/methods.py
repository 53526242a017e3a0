"""What a pruning method is, to the code that runs it.

A method is a frozen dataclass whose fields are its options, and a capability is a type: a method
inherits from the class below that says what it needs to see. The driver (``driver.py``) owns the
loop over layers and blocks; the method owns the mathematics.

Shapes: ``O`` out-features, ``I`` in-features, ``N`` windows, ``L`` tokens of a window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from tasks.pruning.core.gates import Loss
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.structure import Kept
from tasks.pruning.core.targets import Fraction, SemiStructured, Target

if TYPE_CHECKING:
    from tasks.pruning.core.blocks import Decoder

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

Value = TypeVar("Value")


def option(default: Value, doc: str, **limits: Any) -> Value:
    """A field of a method: its default, the line that help and forms show, and its limits.

    ``limits`` are ``gt``, ``ge``, ``lt`` and ``le`` as pydantic names them; the sweep file's schema
    enforces them. They are kept as metadata, so that this package needs no pydantic.
    """
    return field(default=default, metadata={"doc": doc, **limits})


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Common to all methods. Subclass one of the kinds below instead."""

    name: ClassVar[str]
    """What a sweep file calls it."""
    summary: ClassVar[str]
    """One line for ``secateur methods`` and the forms."""
    source: ClassVar[str]
    """The paper, for the report."""
    version: ClassVar[int] = 1
    """Raise it when results change: artifacts of the former version are then not reused."""
    targets: ClassVar[tuple[type[Target], ...]] = (Fraction, SemiStructured)
    uses_seed: ClassVar[bool] = False
    """Whether the seed changes the result; when not, cells that differ in seed share one step."""
    uses_calibration: ClassVar[bool] = False
    uses_training: ClassVar[bool] = False
    """Whether it learns from the sweep's training text."""
    cuts_training: ClassVar[bool] = False
    """Whether it learns from pieces of ``training_length`` tokens, cut from the windows."""
    counts_tokens: ClassVar[bool] = False
    """Whether it can learn from some tokens of the training windows alone, and reads the rest."""
    structured: ClassVar[bool] = False
    """Whether whole heads and channels go, so that the model gets smaller."""
    learns: ClassVar[Literal["nothing", "mask", "weights"]] = "nothing"
    """What training changes; the report says it beside every figure."""
    published: ClassVar[Mapping[str, Any]] = {}
    """The paper's values of options that are no budget, where others are possible."""

    @property
    def departs(self) -> str:
        """In a few words, how this departs from its paper; empty: it does what the paper says.

        Tables, legends and MLflow's runs show it beside every figure.
        """
        return ", ".join(
            f"{name} {value}"
            for name, paper in self.published.items()
            if (value := getattr(self, name)) != paper
        )

    @property
    def training_length(self) -> int:
        """How many tokens a training window needs at least."""
        return 2

    @property
    def refuses_encoders(self) -> str:
        """Why it cannot prune models that predict no next token; empty where it can."""
        return ""

    def refuses(self, target: Target) -> str | None:
        """Why this method cannot prune to ``target``; None where it can."""
        if isinstance(target, self.targets):
            return None
        kinds = {Fraction: "fractions such as 0.5", SemiStructured: "keep:group such as 2:4"}
        return f"{self.name} takes {' and '.join(kinds[kind] for kind in self.targets)}"


def _changed(method: Method, prefix: str) -> list[str]:
    """Options of that prefix that are not as by default."""
    return [
        entry.name
        for entry in fields(method)
        if entry.name.startswith(prefix) and getattr(method, entry.name) != entry.default
    ]


@dataclass(frozen=True, kw_only=True)
class OneShotMethod(Method):
    """Prunes the layers of each block to a share that the block is given (``allocation.py``)."""

    allocation: Literal["uniform", "outliers"] = option(
        "uniform",
        "Fractions: of each block the same share, or less where more of its scores are outliers "
        "(OWL, arXiv 2310.05175), which takes a pass of the dense model and a method that sees "
        "inputs.",
    )
    outlier_multiple: float = option(
        5.0, "allocation outliers: scores above so many times their block's mean.", gt=1
    )
    outlier_spread: float = option(
        0.08,
        "allocation outliers: half of what lies between the most and the least that a block loses; "
        "one block may be nearly twice as far from the target.",
        gt=0,
        lt=0.5,
    )

    @property
    def departs(self) -> str:
        more = "allocation outliers" if self.allocates else ""
        return ", ".join(filter(None, [super().departs, more]))

    @property
    def allocates(self) -> bool:
        """Whether blocks have targets of their own."""
        return self.allocation == "outliers"

    def refuses(self, target: Target) -> str | None:
        if self.allocates and not self.uses_calibration:
            return f"{self.name} sees no inputs, and allocation: outliers is made from them"
        if self.allocates and not (isinstance(target, Fraction) and 0.01 <= target.value <= 0.99):
            return "allocation: outliers takes fractions from 0.01 to 0.99"
        changed = _changed(self, "outlier_")
        if changed and not self.allocates:
            return f"{' and '.join(changed)} would do nothing: it takes allocation: outliers"
        return super().refuses(target)


@dataclass(frozen=True, kw_only=True)
class LayerMethod(OneShotMethod):
    """Prunes each layer on its own, from its weight and at most the dense model's statistics."""

    uses_statistics: ClassVar[bool] = False

    @property
    def sketch(self) -> int:
        """Columns of the second moments' sketch that its statistics must hold; 0: none."""
        return 0

    def calibration_windows(self, windows: int, length: int) -> int:
        """How many of the calibration windows the statistics are collected on."""
        del length
        return windows

    @abstractmethod
    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        """The pruned weight, a new tensor with the shape and dtype of ``weight_OI``.

        Args:
            statistics: of the layer's inputs in the dense model; None unless ``uses_statistics``.
            generator: the only source of randomness.
        """


class Collector(ABC):
    """Accumulates what a block-by-block method needs to know about one layer's inputs.

    Attributes:
        tokens: how many positions it has taken in.
    """

    tokens: int

    @abstractmethod
    def add(self, inputs_NLI: Tensor) -> None:
        """Take in a batch of windows' inputs."""

    def add_sent(self, inputs_RI: Tensor, first_R: Tensor) -> None:
        """Take in what an expert is sent of a batch.

        Args:
            first_R: which of its tokens stand first in their window.
        """
        del first_R
        self.add(inputs_RI[None])

    def figures(self) -> Mapping[str, float]:
        """What is worth recording of this input, by name; asked once its layers are pruned.

        The driver adds the figures of all inputs up.
        """
        return {}


@dataclass(frozen=True, kw_only=True)
class BlockMethod(OneShotMethod):
    """Prunes block after block: each block's statistics come from its pruned predecessors."""

    uses_calibration: ClassVar[bool] = True

    @abstractmethod
    def collector(self, in_features: int, device: torch.device) -> Collector:
        """A fresh collector; layers of a block that share their input share one."""

    @abstractmethod
    def prune_layer(
        self,
        weight_OI: Tensor,
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        """The pruned weight, a new tensor with the shape and dtype of ``weight_OI``."""

    def prune_layers(
        self,
        weights: Mapping[str, Tensor],
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The pruned weights of all layers that share one input, by name.

        One after another, unless a method is faster on all of them together; the result must be
        the same.
        """
        return {
            name: self.prune_layer(weight_OI, collected, target, generator)
            for name, weight_OI in weights.items()
        }


@dataclass(frozen=True, kw_only=True)
class JointMethod(BlockMethod):
    """A block method that prunes all layers of one input together."""

    @abstractmethod
    def prune_layers(
        self,
        weights: Mapping[str, Tensor],
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> dict[str, Tensor]: ...

    def prune_layer(
        self, weight_OI: Tensor, collected: Collector, target: Target, generator: torch.Generator
    ) -> Tensor:
        return self.prune_layers({"": weight_OI}, collected, target, generator)[""]


@dataclass(frozen=True, kw_only=True)
class LearningInputs:
    """What a method that sees the whole model may use.

    Attributes:
        tokens_NL: calibration windows, for methods with ``uses_calibration``.
        training_NL: windows to learn from, for methods with ``uses_training``.
        counted_NL: which of their tokens count; None: all.
        prefix: how many tokens each begins with that the tokenizer puts before every text, as BOS.
        loss: token windows, and which tokens count → mean negative log-likelihood of the model as
            it is; of an encoder, the distance of its hidden states from the dense model's.
        device: where blocks are worked on; None: where the model is.
        progress: called with (steps done, steps in all).
    """

    tokens_NL: Tensor | None = None
    training_NL: Tensor | None = None
    counted_NL: Tensor | None = None
    prefix: int = 0
    loss: Loss
    device: torch.device | None = None
    progress: Progress | None = None

    def training(self) -> Sequences:
        """The windows to learn from."""
        assert self.training_NL is not None
        return Sequences(self.training_NL, self.counted_NL, self.prefix)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a structured method decided.

    Attributes:
        kept: of each block.
        figures, history, distribution: as in :class:`PruneResult`.
    """

    kept: tuple[Kept, ...]
    figures: dict[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    distribution: Mapping[str, Tensor] = field(default_factory=dict)


COMPENSATION = (
    "least_squares: once heads and channels are chosen, fit the remaining columns of the "
    "attention's output projection and of the MLP's last matrix by ridge regression on the "
    "calibration windows. none: remaining weights are unchanged."
)
"""What the option of that name does."""


@dataclass(frozen=True, kw_only=True)
class StructuredMethod(Method):
    """Removes key/value groups and MLP channels: what is left is a smaller model."""

    targets: ClassVar[tuple[type[Target], ...]] = (Fraction,)
    structured: ClassVar[bool] = True

    compensation: Literal["none", "least_squares"] = option("none", COMPENSATION)
    compensation_damping: float = option(
        0.1,
        "compensation least_squares: λ of the ridge regression, as a multiple of the mean of the "
        "Hessian's diagonal.",
        gt=0,
    )

    @property
    def departs(self) -> str:
        more = "compensation least_squares" if self.compensates else ""
        return ", ".join(filter(None, [super().departs, more]))

    @property
    def compensates(self) -> bool:
        """Whether remaining weights are changed."""
        return self.compensation == "least_squares"

    def refuses(self, target: Target) -> str | None:
        if self.compensates and not self.uses_calibration:
            return f"{self.name} sees no inputs, and compensation: least_squares is made from them"
        if _changed(self, "compensation_") and not self.compensates:
            return "compensation_damping would do nothing: it takes compensation: least_squares"
        return super().refuses(target)

    @abstractmethod
    def choose(
        self,
        decoder: Decoder,
        target: Fraction,
        generator: torch.Generator,
        inputs: LearningInputs,
    ) -> Chosen:
        """Choose what each block keeps; the decoder is left as it was.

        Raises:
            ValueError: for an architecture whose structure is not known.
        """


@dataclass(frozen=True, kw_only=True)
class SampledMethod(StructuredMethod):
    """Learns a distribution over choices: others than its own can be drawn, with nothing learned
    again."""

    @abstractmethod
    def sample(
        self, distribution: Mapping[str, Tensor], target: Fraction, generator: torch.Generator
    ) -> tuple[Kept, ...]:
        """A choice at the target from the ``distribution`` of :class:`Chosen`."""


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """What a method did.

    Attributes:
        weights: parameter name → new value, in the module's own layout and dtype.
        figures: anything else worth recording, by name. ``calibration_seconds`` is the part of the
            time that went into forward passes over the calibration windows, ``training_tokens``
            how many tokens the method learned from (repetitions counted), ``training_seconds`` how
            long that took.
        history: figures of training, step by step: ``step`` and whatever the method reports.
        kept: of each block, the heads and channels that stay, for methods that remove them.
        branches: low-rank side branches that the weights alone do not hold, as named tensors.
        distribution: what a :class:`SampledMethod` draws from, as named tensors.
    """

    weights: MutableMapping[str, Tensor]
    figures: dict[str, float]
    history: tuple[Mapping[str, float], ...] = ()
    kept: tuple[Kept, ...] | None = None
    branches: dict[str, Tensor] = field(default_factory=dict)
    distribution: Mapping[str, Tensor] = field(default_factory=dict)
