"""The rotary embedding that a GGUF file states, beside that of the model made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tasks.models.sources.gguf_header import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FACTORS = "rope_freqs.weight"
"""By what each rotary frequency is divided; so llama.cpp keeps the scaling of Llama 3.1 to 3.3."""
_FLOAT32 = 0
_THETA = 10_000.0
"""llama.cpp's rotary base where a file has none."""
_FULL = "full_attention"
SLIDING = "sliding_attention"
"""The kind of a layer, as configurations call it."""
_SECTIONS = "mrope_section"
_FREQUENCIES = frozenset({"freq_base", "dimension_count", "scaling.factor", "scale_linear"})
_SLIDING_FREQUENCIES = frozenset({"freq_base_swa", "dimension_count_swa"})
_NO_SCALING = frozenset({"scaling.type", "scaling.original_context_length", "scaling.finetuned"})
"""They scale nothing by themselves."""


def carry_rope(config: Any, header: GgufHeader, path: Path) -> None:
    """Write the rotary base and scaling that a file states into a model's configuration.

    Linear scaling and Llama 3's are carried over, into a configuration that has none; whether that
    was all is :func:`rope_lacks`'s to say.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get(_FULL, rope)
    if rope.get("rope_type", "default") != "default":
        return
    stated = _stated_rope(header, path)
    rope["rope_theta"] = header.of("rope.freq_base", rope.get("rope_theta"))
    if stated.factors is not None:
        rope |= _llama3(stated)
    elif stated.kind == "linear" and stated.factor != 1:
        rope |= {"rope_type": "linear", "factor": stated.factor}


@dataclass(frozen=True)
class _Rope:
    """The rotary embedding that a file states, of layers that see everything.

    Attributes:
        theta: the base.
        dimensions: of a head that are rotated.
        kind: of scaling: none, linear, yarn, longrope.
        factor: of linear scaling.
        factors: ``(dimensions / 2,)``, by what each frequency is divided beside it.
        whole: False where the file has factors of another form.
    """

    theta: float
    dimensions: int
    kind: str
    factor: float
    factors: Tensor | None
    whole: bool = True

    @property
    def frequencies(self) -> Tensor:
        """``(dimensions / 2,)``, radians a position, in float64."""
        exponents = torch.arange(0, self.dimensions, 2, dtype=torch.float64) / self.dimensions
        scaled = self.theta**-exponents / (self.factor if self.kind == "linear" else 1.0)
        return scaled if self.factors is None else scaled / self.factors


def _stated_rope(header: GgufHeader, path: Path) -> _Rope:
    width = header.of("attention.key_length", header.share)
    dimensions = header.of("rope.dimension_count", width)
    kind, begin = header.places.get(FACTORS, (None, 0))
    factors = None
    if kind == _FLOAT32 and 2 * math.prod(header.shapes[FACTORS]) == dimensions:
        values = np.fromfile(path, "<f4", dimensions // 2, offset=begin)
        factors = torch.from_numpy(values).double()
    return _Rope(
        theta=header.of("rope.freq_base", _THETA),
        dimensions=dimensions,
        kind=header.of("rope.scaling.type", "linear"),
        factor=header.of("rope.scaling.factor", header.of("rope.scale_linear", 0.0)) or 1.0,
        factors=factors,
        whole=kind is None or factors is not None,
    )


def _llama3(rope: _Rope) -> dict[str, Any]:
    """Llama 3's scaling, where it is what the factors were made with; else nothing.

    Llama 3.1, 3.2 and 3.3 differ in ``factor`` alone, which is the largest of the factors.
    """
    assert rope.factors is not None
    factor, low, high, length = float(rope.factors.max()), 1.0, 4.0, 8192
    turns = length / (2 * math.pi / replace(rope, factors=None, kind="none").frequencies)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    made = 1 / ((1 - smooth) / factor + smooth)
    if not torch.allclose(made, rope.factors, rtol=1e-4):
        return {}
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }


def rope_lacks(header: GgufHeader, path: Path, model: PreTrainedModel) -> set[str]:
    """The keys, and the tensor, by which a file states other frequencies than the model has."""
    prefix = f"{header.metadata.get('general.architecture')}.rope."
    keys = {key.removeprefix(prefix) for key in header.metadata if key.startswith(prefix)}
    rope, tables = _stated_rope(header, path), _tables(model)
    lacks = keys - _FREQUENCIES - _SLIDING_FREQUENCIES - _NO_SCALING
    if rope.kind not in ("none", "linear"):
        lacks |= {key for key in keys if key.startswith("scaling.")}
    if header.of("rope.scaling.attn_factor", 1.0) == 1.0:
        lacks -= {"scaling.attn_factor"}
    sections = getattr(model.config, "rope_parameters", None) or {}
    if [n for n in header.of("rope.dimension_sections", ()) if n] == sections.get(_SECTIONS, []):
        lacks -= {"dimension_sections"}
    names = {f"{prefix}{key}" for key in lacks}
    stated = {f"{prefix}{key}" for key in keys & _FREQUENCIES} | {FACTORS} & header.shapes.keys()
    held = tables.get(_FULL, tables.get(""))
    nowhere = tables.keys() == {SLIDING}  # no layer sees everything
    if stated and not nowhere and not (rope.whole and _same(rope.frequencies, held)):
        names |= stated
    if keys & _SLIDING_FREQUENCIES:
        sliding = _Rope(
            theta=header.of("rope.freq_base_swa", rope.theta),
            dimensions=header.of("rope.dimension_count_swa", rope.dimensions),
            kind="none",
            factor=1.0,
            factors=None,
        )
        if not _same(sliding.frequencies, tables.get(SLIDING)):
            names |= {f"{prefix}{key}" for key in keys & _SLIDING_FREQUENCIES}
    return names


def _tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """Kind of layer, empty where there is one → rotary frequencies, as the configuration says."""
    found: dict[str, Tensor] = {}
    for module in model.modules():
        names = [name for name, _ in module.named_buffers(recurse=False)]
        names = [n for n in names if n.endswith("inv_freq") and "original" not in n]
        if names:  # the model itself may lie on the meta device
            kind: Any = type(module)
            made = kind(module.config)
            found |= {n.removesuffix("inv_freq").rstrip("_"): getattr(made, n) for n in names}
    return found


def _same(stated: Tensor, held: Tensor | None) -> bool:
    """Whether frequencies are those of a model, which may hold zeros for what does not turn."""
    if held is None or len(held) < len(stated):
        return not len(stated)
    padded = torch.nn.functional.pad(stated, (0, len(held) - len(stated)))
    return torch.allclose(held.double(), padded, rtol=1e-4, atol=1e-12)
