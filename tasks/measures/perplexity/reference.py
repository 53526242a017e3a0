"""The dense model as a reference: written once on some windows, compared with many times.

A dense model that splits into body and LM head leaves its hidden states, and whoever compares loads
the head alone. One that does not split leaves a note, and runs again, whole.

Shapes: ``N`` windows, ``L`` tokens of a window, ``X`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.hidden import HIDDEN, HiddenReader, HiddenWriter
from tasks.models.architecture.head import Head, close_logits
from tasks.models.architecture.head_alone import load_head_alone
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import DTYPES, load_model
from tasks.models.next_tokens import Dense, Halves, halves_of

NOTE = "reference.json"
_PROBE = "probe.safetensors"
_PROBE_TOKENS = 4


@dataclass(frozen=True)
class Reference:
    """
    Attributes:
        folder: that the dense model's evaluation wrote.
        model: the dense model's own folder.
    """

    folder: Path
    model: Path


class ReferenceWriter:
    """Keeps what a dense model says on ``windows_NL``; each process has one of its own.

    Args:
        halves: of the dense model.
    """

    def __init__(self, folder: Path, halves: Halves, windows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._halves = folder, halves
        self._hidden = HiddenWriter(folder / HIDDEN, windows) if halves.split else None

    def __call__(self, first: int, states_BPX: Tensor) -> None:
        if self._hidden is None:
            return
        self._hidden(first, states_BPX)
        if first == 0:
            self._write_probe(states_BPX[0, :_PROBE_TOKENS])

    def _write_probe(self, states_PX: Tensor) -> None:
        """Some logits, by which a reader knows that it found the right head."""
        from safetensors.torch import save_file

        tensors = {"states": states_PX, "logits": self._halves.logits(states_PX)}
        tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(tensors, self._folder / _PROBE)

    def close(self) -> None:
        if self._hidden is not None:
            self._hidden.close()


def clear_reference(folder: Path) -> None:
    """Remove what an earlier evaluation left, of which not all may be written again."""
    for name in (NOTE, HIDDEN, _PROBE):
        (folder / name).unlink(missing_ok=True)


def finish_reference(folder: Path, windows_NL: Tensor, dtype: torch.dtype) -> None:
    """Say what the folder holds, once all processes have written their windows."""
    note = {
        "split": (folder / HIDDEN).exists(),
        "windows": digest_of(windows_NL),
        "dtype": str(dtype).removeprefix("torch."),
    }
    (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")


def digest_of(windows_NL: Tensor) -> str:
    """SHA-256 of the token ids and their arrangement."""
    digest = hashlib.sha256(str(tuple(windows_NL.shape)).encode())
    digest.update(windows_NL.long().cpu().numpy().tobytes())
    return digest.hexdigest()


def open_reference(
    reference: Reference, windows_NL: Tensor, device: torch.device, trust: Trust
) -> Dense:
    """The dense model's logits of these windows.

    Args:
        windows_NL: all of them, as the dense model was measured on.

    Raises:
        ValueError: the folder holds no reference, or one of other windows.
        UnsupportedModelError: the dense model's folder does not give the logits it gave then.
    """
    note = _note_of(reference.folder)
    if note["windows"] != digest_of(windows_NL):
        raise ValueError(f"{reference.folder} holds the dense model's states of other windows")
    dtype = DTYPES[note["dtype"]]
    if not note["split"]:
        return _WholeModel(halves_of(load_model(reference.model, dtype, device, trust)))
    return _HiddenStates(
        HiddenReader(reference.folder / HIDDEN), _head_of(reference, dtype, device, trust)
    )


def _note_of(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no dense model's states: {error}") from error


def _head_of(reference: Reference, dtype: torch.dtype, device: torch.device, trust: Trust) -> Head:
    """The dense model's head, alone where that is possible; it gives the logits that it gave."""
    from safetensors.torch import load_file

    probe = load_file(reference.folder / _PROBE)
    alone = load_head_alone(reference.model, dtype, device, trust)
    if alone and _gives(alone, probe, device):
        return alone
    halves = halves_of(load_model(reference.model, dtype, device, trust))
    if halves.split and _gives(halves.logits, probe, device):
        return halves.logits
    raise UnsupportedModelError(
        f"{reference.model} is not the model whose hidden states {reference.folder} holds: "
        "its LM head gives other logits"
    )


@torch.inference_mode()
def _gives(head: Head, probe: dict[str, Tensor], device: torch.device) -> bool:
    return close_logits(head(probe["states"].to(device)).cpu(), probe["logits"])


class _HiddenStates:
    def __init__(self, hidden: HiddenReader, head: Head) -> None:
        self._hidden, self._head = hidden, head

    def states(self, first: int, ids_BL: Tensor) -> Tensor:
        states_BPX = self._hidden[first : first + len(ids_BL)]
        return states_BPX.to(ids_BL.device).flatten(0, 1)

    def logits(self, states_TX: Tensor) -> Tensor:
        return self._head(states_TX)


class _WholeModel:
    def __init__(self, halves: Halves) -> None:
        self._halves = halves

    def states(self, first: int, ids_BL: Tensor) -> Tensor:
        del first
        return self._halves.states(ids_BL)[:, :-1].flatten(0, 1)

    def logits(self, states_TX: Tensor) -> Tensor:
        return self._halves.logits(states_TX)
