"""The inputs of a figure in order of how much each is known to matter, with one sentence why.

The order, and what it stands on (SmolLM2-135M; where no figure is named, none was measured here and
the place follows from what the input does):

1. *Which measurement it is*: two figures on other text, windows or tokens do not compare at all,
   pruned or not. The dense model: 14.15 on the Python reference (quickstart), 28.14 on WikiText-2's
   test split (setting_r.md). On the same 4096 tokens of the Python reference 25.70 in windows of
   128, 18.63 of 256, 14.15 of 512, 12.72 of 1024; 13.14 over their first half (diff.md).
2. *How much was pruned*: Wanda 60.63 at 0.5 and 179.66 at 2:4, the same number of zeros.
3. *How*: magnitude 507.9, Wanda 60.63, SparseGPT 52.59 at 0.5; the options of one method move it
   as far (SwiftPrune at 0.5: 273 to 54.7; the tie rule of magnitude at 2:4: 1286 to 2444).
4. *What the method saw*: 512 to 8192 calibration tokens move SwiftPrune from 68.0 to 61.6 at 0.5
   and from 194 to 144 at 2:4 (swiftprune.md).
5. *Seed*: differences between seeds were not measured.
6. *Arithmetic*: bfloat16 36.06 against float32 36.08 on the dense model.
7. *Environment*: the dense model gave 28.14 on both processors that were tried. Batch size and
   number of processes change the order of sums alone, at most 1e-5 of a perplexity in float32.

Inputs of one group that only say the same thing in other words follow from it: ``follows``.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = "*"
MEASUREMENT, AMOUNT, METHOD, CALIBRATION, TRAINING, ARITHMETIC, ENVIRONMENT = (
    "measurement",
    "how much was pruned",
    "method",
    "calibration",
    "training",
    "arithmetic",
    "environment",
)


@dataclass(frozen=True)
class Aspect:
    """One input.

    Attributes:
        key: as :mod:`tasks.provenance.recorded` names it, without the corpus's name.
        why: one sentence: why a difference matters.
        also: a second name to compare by where one side has no ``key``; it is shown with it.
        follows: keys, or prefixes ending in ``/``, whose difference explains this one.
        proof: a key which, where equal on both sides, shows that this difference changes nothing.
    """

    key: str
    title: str
    group: str
    why: str
    also: str = ""
    follows: tuple[str, ...] = ()
    proof: str = ""


def _text(prefix: str, group: str, called: str, same_tokens: str) -> tuple[Aspect, ...]:
    """Text and windows that a model saw for one purpose."""
    proof = f"{prefix}/tokens_digest"
    cut = tuple(
        f"{prefix}/{name}"
        for name in (
            "corpus_digest", "corpus", "window_tokens", "windows", "windows_drawn", "vocabulary",
            "bos", "sampling", "seed", "skipped_tokens",
        )
    )  # fmt: skip
    evaluated = group == MEASUREMENT
    return (
        Aspect(
            f"{prefix}/corpus_digest", f"{called} text", group,
            "Perplexity belongs to its text: the dense SmolLM2-135M has 28.1 on WikiText-2's test "
            "split and 14.2 on the Python reference."
            if evaluated
            else "The method chooses by what the model does on this text; another one, another "
            "choice.",
            also=f"{prefix}/corpus", proof=proof,
        ),
        Aspect(
            f"{prefix}/split", f"{called} split", group,
            "Another part of one data set is another text; validation and test are often confused.",
            proof=proof,
        ),
        Aspect(
            f"{prefix}/corpus_revision", f"{called} text's revision", group,
            "A data set's revision says which state of it was read; the text decides.",
            follows=(f"{prefix}/corpus_digest",), proof=f"{prefix}/corpus_digest",
        ),
        Aspect(
            f"{prefix}/window_tokens", f"{called} window length", group,
            "Every window starts without context: on the same text the dense SmolLM2-135M has 25.7 "
            "in windows of 128 tokens and 14.2 in windows of 512."
            if evaluated
            else "The statistics or gradients come from sequences of this length.",
            proof=proof,
        ),
        Aspect(
            f"{prefix}/windows", f"{called} windows", group,
            "More windows average over more text: the dense SmolLM2-135M has 13.1 over 4 windows "
            "of the Python reference and 14.2 over 8."
            if evaluated
            else "More of the text steadies what the method knows: SwiftPrune at 0.5 went from "
            "68.0 with 512 calibration tokens to 61.6 with 8192."
            if group == CALIBRATION
            else "It is how much text there is to learn from.",
            proof=proof,
        ),
        Aspect(
            f"{prefix}/vocabulary", f"{called} tokenizer", group,
            "Perplexity is per token, and another vocabulary cuts the same text into other tokens: "
            "such figures do not compare."
            if evaluated
            else "Another vocabulary cuts the same text into other tokens.",
            follows=("model_digest",), proof=proof,
        ),
        Aspect(
            f"{prefix}/bos", f"{called} BOS", group,
            "A model trained with a BOS token before every text predicts worse without one, and "
            "a window with BOS holds one token of the text less.",
            proof=proof,
        ),
        Aspect(
            f"{prefix}/tokens_digest", f"{called} token ids", group,
            f"The model saw other token ids{same_tokens}",
            follows=cut,
        ),
    )  # fmt: skip


_UNEXPLAINED = "; where nothing else differs, the tokenizer itself works differently."

ASPECTS: tuple[Aspect, ...] = (
    Aspect(
        "model_digest", "model", MEASUREMENT,
        "Another model, revision or set of weights has another perplexity before it is pruned.",
        also="model",
    ),
    Aspect(
        "model_revision", "model revision", MEASUREMENT,
        "A revision says which state of the model was loaded; its digest decides.",
        follows=("model_digest",), proof="model_digest",
    ),
    *_text("evaluation", MEASUREMENT, "evaluation", _UNEXPLAINED),
    Aspect(
        "evaluation/predicted_tokens", "predicted tokens", MEASUREMENT,
        "It is the number that the total loss is divided by.",
        follows=("evaluation/", "model_digest"),
    ),
    Aspect(
        "zero_shot/task_digest", "task", MEASUREMENT,
        "Another task, wording, data or scoring is another question, whatever its name.",
    ),
    Aspect(
        "zero_shot/task_version", "version of the task", MEASUREMENT,
        "The harness raises it when a task's figures change.",
        follows=("zero_shot/task_digest",), proof="zero_shot/task_digest",
    ),
    Aspect(
        "zero_shot/harness", "harness", MEASUREMENT,
        "Versions of the harness may ask or score otherwise.",
        follows=("zero_shot/task_digest",),
    ),
    Aspect(
        "zero_shot/num_fewshot", "examples before a question", MEASUREMENT,
        "A model that sees examples answers otherwise.",
    ),
    Aspect(
        "zero_shot/limit", "documents asked", MEASUREMENT,
        "Another part of the questions is another sample; its standard error stands beside it.",
    ),
    Aspect(
        "speed/", "speed's", MEASUREMENT,
        "Tokens a second and latency belong to a prompt, a batch and how often they were measured.",
    ),
    Aspect(
        "target", "target", AMOUNT,
        "More zeros cost more, and keep:group costs more than as many free ones: Wanda has 60.6 "
        "at 0.5 and 179.7 at 2:4 on SmolLM2-135M.",
    ),
    Aspect(
        "layers_counted", "layers counted", AMOUNT,
        "Sparsity is a share of these layers: with some left out, the same figure is fewer zeros.",
        follows=("model_digest",),
    ),
    Aspect(
        "weights_counted", "weights counted", AMOUNT,
        "Sparsity is a share of these weights.",
        follows=("model_digest", "layers_counted"),
    ),
    Aspect(
        "sparsity", "sparsity achieved", AMOUNT,
        "What was removed in fact, as a share of the weights counted; targets are met within half "
        "a point.",
        follows=(ANY,),
    ),
    Aspect(
        "method", "method", METHOD,
        "Methods choose other weights: at 0.5, SmolLM2-135M has 508 by magnitude, 60.6 with Wanda, "
        "52.6 with SparseGPT.",
    ),
    Aspect(
        "options/", "option", METHOD,
        "An option of the method is part of it; among options alone, SwiftPrune went from 273 to "
        "54.7 at 0.5.",
    ),
    Aspect(
        "method_version", "version of the method", METHOD,
        "The method's code was changed in a way that changes its results.",
        follows=("method",),
    ),
    *_text("calibration", CALIBRATION, "calibration", _UNEXPLAINED),
    Aspect(
        "calibration/sampling", "calibration sampling", CALIBRATION,
        "Windows from the start and windows from anywhere are other text.",
        proof="calibration/tokens_digest",
    ),
    Aspect(
        "calibration/seed", "calibration seed", CALIBRATION,
        "It decides which windows are drawn.",
        follows=("calibration/sampling",), proof="calibration/tokens_digest",
    ),
    Aspect(
        "calibration/windows_drawn", "calibration windows drawn", CALIBRATION,
        "How many windows were cut; a method may use fewer, and contiguous ones begin alike.",
        follows=("calibration/windows",),
    ),
    *_text("training", TRAINING, "training", _UNEXPLAINED),
    Aspect(
        "training/skipped_tokens", "tokens left to calibration", TRAINING,
        "Training begins in the text where calibration ends.",
        follows=("calibration/",), proof="training/tokens_digest",
    ),
    Aspect(
        "training/tokens_learned", "tokens learned from", TRAINING,
        "Methods that learn get better with more tokens, repetitions counted.",
        follows=("options/", "training/", "method", "target"),
    ),
    Aspect(
        "seed_used", "seed", TRAINING,
        "It decides what the method draws at random; how far seeds lie apart was not measured.",
        follows=("method",),
    ),
    Aspect(
        "dtype", "dtype", ARITHMETIC,
        "Weights and products are rounded otherwise: the dense SmolLM2-135M has 36.06 in bfloat16 "
        "and 36.08 in float32.",
    ),
    Aspect(
        "training/processes", "training processes", ARITHMETIC,
        "Gradients are summed in another order, which training carries on.",
        follows=("method",),
    ),
    Aspect(
        "evaluation/device_map", "device map", ARITHMETIC,
        "Blocks run on other devices, whose kernels add up in another order.",
    ),
    Aspect(
        "evaluation/processes", "evaluation processes", ARITHMETIC,
        "The order of sums alone changes: at most 1e-5 of the figure in float32.",
    ),
    Aspect(
        "zero_shot/processes", "evaluation processes", ARITHMETIC,
        "The order of sums alone changes, and an answer only where two are as good as equal.",
    ),
    Aspect(
        "evaluation/batch_size", "evaluation batch size", ARITHMETIC,
        "The order of sums alone changes: at most 1e-5 of the figure in float32.",
    ),
)  # fmt: skip

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
    "gpus": ("GPUs", "Kernels differ between devices and add up in another order."),
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
