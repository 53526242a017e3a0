"""Loads a plain Hugging Face folder: model, tokenizer, configuration. Never from the network.

A decoder loads as a causal language model with its head, an encoder as its body alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import UnsupportedModelError
from tasks.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def best_device() -> torch.device:
    """The first CUDA GPU, else the CPU. Apple's GPUs have no float64, in which sums are kept."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype that a sweep's ``dtype`` means on ``device``.

    ``auto`` is bfloat16 where the hardware computes in it, and float32 where it would be emulated:
    Apple's GPUs, CUDA below compute capability 8.0, and CPUs without AVX-512 BF16, AMX or Arm's
    BF16 extension.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise ConfigurationError("dtype", name, f"a dtype is auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load_model(
    folder: Path, dtype: torch.dtype, device: torch.device, trust: Trust
) -> PreTrainedModel:
    """The model of ``folder``, for inference: eval mode, no gradients.

    Raises:
        UnsupportedModelError: transformers does not know it, or weights are missing: transformers
            would fill them with random numbers.
    """
    kind = auto_class(load_config(folder, trust))

    def load(**options: Any) -> Any:
        return kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=trust.remote_code,
            use_safetensors=None if trust.pickle_weights else True,
            output_loading_info=True,
            **options,
        )

    with quiet():
        try:
            model, info = load()
            if lacks_pooler(info):
                model, info = load(add_pooling_layer=False)
        except (ValueError, KeyError, ImportError) as error:
            raise UnsupportedModelError(_unloadable(folder, error)) from error
    require_complete(info, folder.name)
    return model.to(device).eval().requires_grad_(False)


def weight_bytes(folder: Path, dtype: torch.dtype, trust: Trust) -> int:
    """What the weights of a folder's model take in ``dtype``; none is loaded.

    Raises:
        UnsupportedModelError: transformers does not know it.
    """
    config = load_config(folder, trust)
    with quiet(), torch.device("meta"):
        try:
            model = auto_class(config).from_config(config, trust_remote_code=trust.remote_code)
        except (ValueError, KeyError, ImportError) as error:
            raise UnsupportedModelError(_unloadable(folder, error)) from error
    return dtype.itemsize * sum(parameter.numel() for parameter in model.parameters())


def _unloadable(folder: Path, error: Exception) -> str:
    return f"transformers cannot load {folder.name}: {error}"


def is_encoder(config: Any) -> bool:
    """Whether a configuration is that of an encoder, which predicts no next token.

    Raises:
        ImportError: transformers is broken.
    """
    kind = getattr(config, "model_type", "")
    return is_encoder_type(kind) and not getattr(config, "is_decoder", False)


def is_encoder_type(model_type: str) -> bool:
    """As :func:`is_encoder`, by the type alone: unless its configuration calls it a decoder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def auto_class(config: Any) -> Any:
    """The class of transformers that loads a model of this configuration."""
    import transformers

    return transformers.AutoModel if is_encoder(config) else transformers.AutoModelForCausalLM


def lacks_pooler(info: Mapping[str, Any]) -> bool:
    """Whether a pooler is all that the files lack, as those of masked language models do."""
    missing = [str(key) for key in info.get("missing_keys", ())]
    return bool(missing) and all(key.startswith("pooler.") for key in missing)


def load_tokenizer(folder: Path, trust: Trust, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of ``folder``; ``options`` are of transformers' ``from_pretrained``."""
    from transformers import AutoTokenizer

    with quiet():
        try:
            return AutoTokenizer.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=trust.remote_code,
                **options,
            )
        except Exception as error:  # tokenizers' own errors have no narrower class
            reason = f"transformers cannot load the tokenizer of {folder.name}: {error}"
            raise UnsupportedModelError(reason) from error


def load_config(folder: Path, trust: Trust) -> PreTrainedConfig:
    """The configuration of ``folder``."""
    from transformers import AutoConfig

    with quiet():
        try:
            return AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust.remote_code
            )
        except Exception as error:  # a configuration's own checks raise whatever they meet
            reason = f"transformers cannot read the configuration of {folder.name}: {error}"
            raise UnsupportedModelError(reason) from error


def require_complete(info: dict[str, Any], name: str) -> None:
    """Refuse a model of which transformers had to invent weights.

    Args:
        info: what ``from_pretrained(output_loading_info=True)`` returned.
    """
    invented = sorted(str(key) for key in info.get("missing_keys", ()))
    if invented:
        raise UnsupportedModelError(
            f"{name} lacks {len(invented)} weights that its architecture needs, "
            f"such as {', '.join(invented[:3])}"
        )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    # Public since torch 2.10 or so; the other two are private and older.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        return True
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)
