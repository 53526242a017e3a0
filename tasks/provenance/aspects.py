"""The inputs of a figure in order of how much each is known to matter, with one sentence why.

The order, and what it stands on (SmolLM2-135M; where no figure is named, none was measured here and
the place follows from what the input does):

1. *Which measurement it is*: two figures on other text, windows or tokens do not compare at all,
   pruned or not. The dense model: 14.15 on the Python reference (diff.md), 28.14 on WikiText-2's
   test split (setting_r.md). On the same 4096 tokens of the Python reference 25.70 in windows of
   128, 18.63 of 256, 14.15 of 512, 12.72 of 1024; 13.14 over their first half (diff.md).
2. *How much was pruned*: Wanda 60.63 at 0.5 and 179.66 at 2:4, the same number of zeros.
3. *How*: magnitude 507.9, Wanda 60.63, SparseGPT 52.59 at 0.5; the options of one method move it
   as far (the start of policy gradient at 0.2, by how channels are grouped: 953 to 291,
   policy_gradient.md; the tie rule of magnitude at 2:4: 1286 to 2444).
4. *What the method saw*: 1 024 to 16 384 calibration tokens moved SparseGPT from 81 to 50 at 0.5
   and from 197 to 86 at 2:4 (means over seeds, sketched_obs.md).
5. *Seed*: other windows of 2 048 tokens moved SparseGPT at 0.5 from 58.9 to 68.8, and
   `sketched_obs` from 50.7 to 54.6 (three seeds, sketched_obs.md).
6. *Arithmetic*: bfloat16 36.06 against float32 36.08 on the dense model.
7. *Environment*: the dense model gave 28.14 on both processors that were tried. Batch size and
   number of processes change the order of sums alone, at most 1e-5 of a perplexity in float32.

What follows from what is read from the trees of steps themselves (:mod:`differences`); ``follows``
says it where the trees cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED_ON = "perplexity"
"""What the order was found on; other figures may follow another one."""

MEASUREMENT, AMOUNT, METHOD, CALIBRATION, TRAINING, ARITHMETIC, ENVIRONMENT, IMMATERIAL = (
    "measurement",
    "how much was pruned",
    "method",
    "calibration",
    "training",
    "arithmetic",
    "environment",
    "immaterial",
)


@dataclass(frozen=True)
class Aspect:
    """One input.

    Attributes:
        key: path of roles and the input's name, as :mod:`tasks.provenance.inputs` writes them; one
            that ends in ``/`` stands for every input there that has no aspect of its own.
        why: one sentence: why a difference matters.
        follows: keys whose difference explains this one.
    """

    key: str
    title: str
    group: str
    why: str
    follows: tuple[str, ...] = ()


_BOUNDS = ("corpus", "boundaries", "count", "length")
"""What decides which documents windows reach over."""
_MORE_TEXT = (
    "More of the text steadies what the method knows: SparseGPT at 0.5 went from 81 with 1 024 "
    "calibration tokens to 50 with 16 384."
)


def _choosing(place: str, group: str, called: str) -> tuple[Aspect, ...]:
    """How windows of a text were chosen."""
    return (
        Aspect(f"{place}/sampling", f"{called} sampling", group,
            "It decides which windows of the text are seen: of several sources, those at the start "
            "are of the first alone."),
        Aspect(f"{place}/loss", f"{called} loss", group,
            "Over completions alone, prompts are read and not learned."),
        Aspect(f"{place}/counted_tokens", f"{called} tokens that count", group,
            "What a loss is taken over.",
            follows=tuple(f"{place}/{name}" for name in
                          ("corpus", "loss", "sampling", "count", "length", "seed"))),
        Aspect(f"{place}/sources", f"{called} windows by source", group,
            "How many windows are of which source.",
            follows=tuple(f"{place}/{name}" for name in
                          ("corpus", "sampling", "count", "length", "seed"))),
        Aspect(f"{place}/pool/", f"{called} pool's", group,
            "Windows are chosen from these."),
        Aspect(f"{place}/gradients/", f"{called} gradients'", group,
            "Windows are chosen by these; other gradients, other windows."),
        Aspect(f"{place}/", f"{called} choice's", group,
            "Another choice from the same pool is other windows."),
    )  # fmt: skip


def _text(place: str, group: str, called: str) -> tuple[Aspect, ...]:
    """Text and windows that a model saw for one purpose."""
    evaluated = group == MEASUREMENT
    return (
        Aspect(f"{place}/corpus", f"{called} text", group,
            "Perplexity belongs to its text: the dense SmolLM2-135M has 28.1 on WikiText-2's test "
            "split and 14.2 on the Python reference."
            if evaluated
            else "The method chooses by what the model does on this text; another one, another "
            "choice."),
        Aspect(f"{place}/format", f"{called} format", group,
            "What the files were read as: the same bytes as prose and as rows are two texts.",
            follows=(f"{place}/corpus",)),
        Aspect(f"{place}/boundaries", f"{called} document boundaries", group,
            "The same text in other documents: its windows are the same, and cut others.",
            follows=(f"{place}/corpus",)),
        Aspect(f"{place}/documents", f"{called} documents", group,
            "Windows reach over so many documents of the text.",
            follows=tuple(f"{place}/{name}" for name in _BOUNDS)),
        Aspect(f"{place}/documents_cut", f"{called} documents cut", group,
            "A window begins or ends inside a document: its tokens are predicted without what "
            "stands before.",
            follows=tuple(f"{place}/{name}" for name in _BOUNDS)),
        Aspect(f"{place}/split", f"{called} split", group,
            "Another part of a data set is another text; validation and test are often confused."),
        Aspect(f"{place}/revision", f"{called} text's revision", group,
            "A data set's revision says which state of it was read; the text decides.",
            follows=(f"{place}/corpus",)),
        Aspect(f"{place}/length", f"{called} window length", group,
            "Every window starts without context: on the same text the dense SmolLM2-135M has 25.7 "
            "in windows of 128 tokens and 14.2 in windows of 512."
            if evaluated
            else "The statistics or gradients come from sequences of this length."),
        Aspect(f"{place}/count", f"{called} windows", group,
            "More windows average over more text: the dense SmolLM2-135M has 13.1 over 4 windows "
            "of the Python reference and 14.2 over 8."
            if evaluated
            else _MORE_TEXT
            if group == CALIBRATION
            else "It is how much text there is to learn from."),
        Aspect(f"{place}/seed", f"{called} seed", group,
            "It decides which windows are drawn; without one they lie at the start of the text."),
        *(() if evaluated else _choosing(place, group, called)),
        Aspect(f"{place}/skip", f"{called} tokens skipped", group,
            "The windows begin where another use of the same text ends.",
            follows=("calibration/count", "calibration/length") if group == TRAINING else ()),
        Aspect(f"{place}/vocabulary", f"{called} tokenizer", group,
            "Perplexity is per token, and another vocabulary cuts the same text into other tokens: "
            "such figures do not compare."
            if evaluated
            else "Another vocabulary cuts the same text into other tokens."),
        Aspect(f"{place}/bos", f"{called} BOS", group,
            "A model trained with a BOS token before every text predicts worse without one, and "
            "a window with BOS holds one token of the text less."),
        Aspect(f"{place}/content", f"{called} token ids", group,
            "The model saw other token ids; where nothing else differs, the tokenizer itself works "
            "differently."),
    )  # fmt: skip


ASPECTS: tuple[Aspect, ...] = (
    Aspect("model", "model", MEASUREMENT,
        "Another model, revision or set of weights has another perplexity before it is pruned."),
    Aspect("model/revision", "model revision", MEASUREMENT,
        "A revision says which state of the model was loaded; its digest decides.",
        follows=("model",)),
    Aspect("model/source", "model source", MEASUREMENT,
        "Where the model came from; its digest decides.",
        follows=("model",)),
    Aspect("model/unread", "tensors left unread", MEASUREMENT,
        "Its files hold tensors that the model does not read: they are carried over and measure "
        "nothing; biases among them would make another model.",
        follows=("model",)),
    *_text("evaluation/tokens", MEASUREMENT, "evaluation"),
    Aspect("evaluation/tokens_read", "predicted tokens", MEASUREMENT,
        "It is the number that the total loss is divided by."),
    Aspect("evaluation/documents_cut", "documents cut", MEASUREMENT,
        "They are longer than the model takes: a part was not seen, or in another window.",
        follows=("model", "evaluation/limit", "evaluation/num_fewshot", "evaluation/max_tokens")),
    Aspect("evaluation/task/", "task's", MEASUREMENT,
        "Another task, wording, data or scoring is another question, whatever its name."),
    Aspect("evaluation/num_fewshot", "examples before a question", MEASUREMENT,
        "A model that sees examples answers otherwise."),
    Aspect("evaluation/limit", "documents asked", MEASUREMENT,
        "Another part of the questions is another sample; its standard error stands beside it."),
    Aspect("evaluation/softmax", "softmax of options", MEASUREMENT,
        "Without it, log-likelihoods were rounded to the model's dtype: in bfloat16 to half a nat "
        "at 100, where options tie."),
    Aspect("evaluation/version", "version of the measure", MEASUREMENT,
        "The measure's code was changed in a way that changes its results."),
    Aspect("pruning/target", "target", AMOUNT,
        "More zeros cost more, and keep:group costs more than as many free ones: Wanda has 60.6 "
        "at 0.5 and 179.7 at 2:4 on SmolLM2-135M."),
    Aspect("pruning/layers", "layers counted", AMOUNT,
        "Sparsity is a share of these layers: with some left out, the same figure is fewer zeros.",
        follows=("model",)),
    Aspect("pruning/counted_weights", "weights counted", AMOUNT,
        "Sparsity is a share of these weights.",
        follows=("model", "pruning/layers")),
    Aspect("pruning/exempt", "weights exempt", AMOUNT,
        "Routers, short convolutions and state spaces stay dense; sparsity is no share of them.",
        follows=("model", "pruning/layers")),
    Aspect("pruning/exclude", "layers excluded", AMOUNT,
        "These layers stay dense, and are counted: the target holds for the others alone."),
    Aspect("pruning/excluded", "what was excluded", AMOUNT,
        "So many of the weights counted stay dense by the sweep's exclude.",
        follows=("model", "pruning/exclude")),
    Aspect("sparsity", "sparsity achieved", AMOUNT,
        "What was removed in fact, as a share of the weights counted; targets are met within half "
        "a point."),
    Aspect("pruning/method", "method", METHOD,
        "Methods choose other weights: at 0.5, SmolLM2-135M has 508 by magnitude, 60.6 with Wanda, "
        "52.6 with SparseGPT."),
    Aspect("pruning/options/", "option", METHOD,
        "An option of the method is part of it; by one option alone, the start of policy gradient "
        "went from 953 to 291 at 0.2."),
    Aspect("pruning/version", "version of the method", METHOD,
        "The method's code was changed in a way that changes its results.",
        follows=("pruning/method",)),
    Aspect("pruning/compensation_version", "version of compensation", METHOD,
        "What fits the remaining weights was changed in a way that changes its results.",
        follows=("pruning/method", "pruning/options/compensation")),
    Aspect("pruning/pieces", "pieces of training windows", METHOD,
        "Pieces that begin with BOS, as the model's texts do, teach otherwise than those without.",
        follows=("pruning/method", "model")),
    Aspect("pruning/attention", "what of attention is weighed", METHOD,
        "A block may norm or multiply what attention gives before it adds that.",
        follows=("pruning/method", "model")),
    Aspect("pruning/start/", "start's", METHOD,
        "Training starts from what another method makes of the model, with options and a version "
        "of its own.",
        follows=("pruning/method", "pruning/options/start")),
    Aspect("statistics/windows", "calibration windows used", CALIBRATION,
        _MORE_TEXT,
        follows=("calibration/count",)),
    *_text("calibration", CALIBRATION, "calibration"),
    *_text("training", TRAINING, "training"),
    Aspect("pruning/training_tokens", "tokens learned from", TRAINING,
        "Methods that learn get better with more tokens, repetitions counted."),
    Aspect("pruning/seed", "seed", TRAINING,
        "It decides what the method draws at random; several seeds tell how far they lie apart.",
        follows=("pruning/method",)),
    Aspect("dtype", "dtype", ARITHMETIC,
        "Weights and products are rounded otherwise: the dense SmolLM2-135M has 36.06 in bfloat16 "
        "and 36.08 in float32."),
    Aspect("pruning/training_processes", "training processes", ARITHMETIC,
        "Gradients are summed in another order, which training carries on.",
        follows=("pruning/method",)),
    Aspect("evaluation/device_map", "device map", ARITHMETIC,
        "Blocks run on other devices, whose kernels add up in another order."),
    Aspect("evaluation/processes", "evaluation processes", ARITHMETIC,
        "The order of sums alone changes: at most 1e-5 of a perplexity in float32, and an answer "
        "only where two are as good as equal."),
    Aspect("evaluation/batch_size", "evaluation batch size", ARITHMETIC,
        "The order of sums alone changes: at most 1e-5 of a perplexity in float32."),
    Aspect("pruning/layout", "layout of the checkpoint", IMMATERIAL,
        "What its folder holds beside the weights, and how they are called there."),
    Aspect("evaluation/keeps_states", "hidden states kept", IMMATERIAL,
        "What a measurement keeps for others to compare with changes none of its own figures."),
    Aspect("evaluation/", "evaluation's", MEASUREMENT,
        "A figure belongs to what was measured, and how."),
)  # fmt: skip

FACTS = {
    "vocabulary": "vocabulary", "bos": "bos", "content": "content", "layers": "layers",
    "documents": "documents", "documents_cut": "documents_cut",
    "tokens": "tokens_read", "counted_weights": "counted_weights",
    "exempt": "exempt", "excluded": "excluded",
    "sources": "sources", "pool_sources": "pool_sources",
    "counted_tokens": "counted_tokens",
    **{name: name for name in ("gradient_error", "raw_gradient_error", "column_norm_error",
                               "gradient_error_random", "gradient_error_spread")},
    "training_tokens": "training_tokens", "training_processes": "training_processes",
    "device_map": "device_map", "processes": "processes", "batch_size": "batch_size",
}  # fmt: skip
"""What only computing a step tells, of what artifacts record → how it is called here."""
ON_THEIR_OWN = (
    "device_map", "processes", "batch_size", "training_processes", "layers", "counted_weights",
    "exempt", "excluded",
)  # fmt: skip
"""Facts that somebody chose, or that no input is meant to change: ``follows`` alone explains."""

PRUNED_THERE = ", where it was pruned"

ENVIRONMENT_ASPECTS: dict[str, tuple[str, str]] = {
    "torch": ("torch", "Its kernels do the arithmetic; versions may add up in another order."),
    "transformers": ("transformers", "It defines the model's forward pass and its tokenizer."),
    "tokenizers": ("tokenizers", "It cuts text into tokens; equal token ids exclude it."),
    "gguf": ("gguf", "It turns quantised weights back into numbers."),
    "safetensors": ("safetensors", "It reads and writes weights, unchanged."),
    "accelerate": ("accelerate", "It spreads evaluation and training over processes and devices."),
    "datasets": ("datasets", "It reads hub data sets; an equal text digest excludes it."),
    "python": ("Python", "The Python reference as a corpus differs between versions."),
    "gpus": ("GPUs", "Kernels add up in another order, and choose otherwise between equal scores."),
    "cuda": ("CUDA", "Its libraries choose the kernels."),
    "processor": ("processor", "Kernels differ between processors and add up in another order."),
    "cpu_capability": ("CPU kernels", "Wider vectors add up in another order."),
    "float32_matmul": ("float32 products", "Other than highest, products are rounded (TF32)."),
    "threads": ("threads", "Sums are split over threads, so their order changes."),
    "platform": ("platform", "Mathematical libraries differ between platforms."),
    "secateur": ("secateur", "Its own code; a step whose results change gets a new version."),
    "prefect": ("Prefect", "It starts the steps and touches no number."),
    "mlflow": ("MLflow", "It records figures and touches none."),
    "evaluated_on": ("evaluated on", "The date changes nothing."),
    "pruned_on": ("pruned on", "The date changes nothing."),
}
OTHER = "It is recorded with the figure; how much it matters is not known here."
