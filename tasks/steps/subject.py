"""What is measured: a model as it came, or a cell's checkpoint."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.schema import Evaluation
from configs.trust import Trust
from tasks.models.load import best_device, resolve_dtype
from tasks.models.placement import load_placed
from tasks.models.saved.pruned import load_pruned
from tasks.plan.measures import Measures
from tasks.plan.plan import Cell, ModelPlan
from tasks.steps.prepare import dense_model, model_folder
from tasks.steps.prune import checkpoint_of
from tasks.store.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Subject:
    """A set of weights, and where to find them.

    Attributes:
        cell: None for the dense model.
    """

    model: ModelPlan
    cell: Cell | None = None

    @property
    def label(self) -> str:
        return f"{self.model.model.spec} {self.cell.label if self.cell else 'dense'}"

    @property
    def measures(self) -> Measures:
        return self.cell.measures if self.cell else self.model.dense

    def folder(self, store: Store, trust: Trust) -> Path:
        """The weights as a folder; a cell's checkpoint is made now unless it is there."""
        if self.cell is None:
            return model_folder(self.model, store, trust)
        return checkpoint_of(self.cell, store, trust).path

    def network(self, store: Store, trust: Trust, evaluation: Evaluation) -> PreTrainedModel:
        """The loaded model; kept for the next measure of the same subject."""
        folder = self.folder(store, trust)
        if evaluation.device_map == "auto":
            return _placed(folder, self.model.dtype, trust, evaluation)
        if self.cell is None:
            return dense_model(self.model, store, trust)
        return _pruned(folder, self.model.dtype, trust.remote_code, trust.pickle_weights)


def release() -> None:
    """Forget the pruned model that was measured last: the next cell needs its memory."""
    _pruned.cache_clear()
    _forget_placed()


@lru_cache(maxsize=1)
def _pruned(folder: Path, dtype: str, remote_code: bool, pickles: bool) -> PreTrainedModel:
    device = best_device()
    trust = Trust(remote_code=remote_code, pickle_weights=pickles)
    # Heads and channels that were removed are not computed.
    return load_pruned(folder, resolve_dtype(dtype, device), device, trust)


_last_placed: dict[Path, PreTrainedModel] = {}
_scratches: list[str] = []
"""Weights on disk of the model that is spread; no other process may use the folder."""


def _forget_placed() -> None:
    _last_placed.clear()
    while _scratches:
        shutil.rmtree(_scratches.pop(), ignore_errors=True)


atexit.register(_forget_placed)


def _placed(folder: Path, dtype: str, trust: Trust, evaluation: Evaluation) -> PreTrainedModel:
    """A model that is spread over devices; one at a time."""
    if folder not in _last_placed:
        _forget_placed()
        _scratches.append(tempfile.mkdtemp(prefix="secateur-placed-"))
        _last_placed[folder] = load_placed(
            folder,
            resolve_dtype(dtype, best_device()),
            trust,
            max_memory=evaluation.max_memory,
            scratch=Path(_scratches[-1]),
        )
    return _last_placed[folder]
