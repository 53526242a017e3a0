"""What a sweep file may say: the only definition, for the YAML, ``--set`` and the Prefect form.

Every model is frozen, refuses unknown keys and documents each field in one line, which is the line
that the form shows. A method's options come from its own dataclass in ``tasks/pruning``.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from tasks.pruning.core.registry import ALLOWED, Target, methods, parse_target

METHODS = tuple(methods())
MethodName = Literal[*METHODS]


class Frozen(BaseModel):
    """Base of all parts of a sweep."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"each entry may stand once; repeated: {', '.join(repeated)}")
    return values


def _canonical_target(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | float | int):
        raise ValueError(ALLOWED)  # noqa: TRY004 (pydantic collects ValueError)
    return str(parse_target(given))


TargetText = Annotated[str, BeforeValidator(_canonical_target)]


class Corpus(Frozen):
    """Where text comes from."""

    source: Literal["python-docs", "files", "hub"] = "python-docs"
    """python-docs: the reference that every CPython carries; files: your own; hub: a data set."""
    part: Literal["calibration", "heldout"] | None = None
    """python-docs: which half of the topics; empty: the one that fits where it is used."""
    files: tuple[str, ...] = ()
    """files: text (.txt, .md, …) or JSON lines (.jsonl), read whole, in this order."""
    dataset: str | None = None
    """hub: the data set's id, such as Salesforce/wikitext, or a local folder."""
    config: str | None = None
    """hub: the data set's configuration, such as wikitext-2-raw-v1."""
    split: str | None = None
    """hub: the split, such as test."""
    data_files: tuple[str, ...] = ()
    """hub: only these files of the data set, such as en/c4-train.00000-of-01024.json.gz."""
    revision: str | None = None
    """hub: branch, tag or commit; the resolved commit is recorded."""
    column: str = "text"
    """hub and .jsonl: the field that holds the text."""
    documents: Annotated[int, Field(ge=1)] | None = None
    """hub: read only the first so many rows (streamed), for data sets too large to read whole."""
    separator: str = "\n\n"
    """What joins documents before they are tokenised in one call."""

    @model_validator(mode="after")
    def _only_fields_of_its_source(self) -> Self:
        belongs = {
            "part": ("python-docs",),
            "files": ("files",),
            "column": ("files", "hub"),
            **dict.fromkeys(
                ("dataset", "config", "split", "data_files", "revision", "documents"), ("hub",)
            ),
        }
        for name in self.model_fields_set & belongs.keys():
            value = getattr(self, name)
            default = type(self).model_fields[name].default
            if value != default and self.source not in belongs[name]:
                raise ValueError(
                    f"{name} belongs to source {' or '.join(belongs[name])}, not {self.source}"
                )
        if self.source == "files" and not self.files:
            raise ValueError("source files needs files: a list of at least one path")
        if self.source == "hub" and not (self.dataset and self.split):
            raise ValueError("source hub needs dataset and split")
        return self


class Calibration(Frozen):
    """The text that pruning methods may look at."""

    corpus: Corpus = Corpus()
    """Where the text comes from."""
    samples: Annotated[int, Field(ge=1)] = 32
    """How many windows."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a window."""
    sampling: Literal["contiguous", "random"] = "contiguous"
    """contiguous: from the start, one after another; random: windows at seeded random offsets."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of random sampling."""


class Training(Frozen):
    """The text that methods which learn may look at: policy_gradient its mask, ast its weights."""

    corpus: Corpus | None = None
    """Where the text comes from; empty: calibration's corpus, beyond the calibration windows."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """How many windows; empty: all that the corpus holds."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a window."""
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Accelerate processes of methods that train weights; empty: one a GPU, or one on a CPU."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Seconds between the files from which a killed training goes on; 0: after every step."""


class Perplexity(Frozen):
    """One corpus to measure perplexity on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "python-docs"
    """Names the result's column: perplexity/<name>."""
    corpus: Corpus = Corpus()
    """Where the text comes from."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a window; windows follow each other without overlap, from the start."""
    windows: Annotated[int, Field(ge=1)] | None = None
    """How many windows; empty: all that the corpus holds."""


class ZeroShot(Frozen):
    """Tasks of lm-evaluation-harness."""

    tasks: Annotated[tuple[str, ...], AfterValidator(_unique)] = ()
    """Names of tasks or groups that the harness knows, or paper-seven for the papers' seven."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many documents of each task; empty: all."""
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples before each question; empty: as the task itself says."""
    include_path: str | None = None
    """A folder with task files of your own, beside the harness's tasks."""

    @model_validator(mode="after")
    def _nothing_without_tasks(self) -> Self:
        if not self.tasks:
            for name in ("limit", "num_fewshot", "include_path"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs tasks: name at least one")
        return self


class Speed(Frozen):
    """How speed is measured."""

    prompt_tokens: Annotated[int, Field(ge=2)] = 512
    """Tokens of the prompt that prefill reads."""
    new_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens that decoding adds, one at a time with a key-value cache."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Prompts at once."""
    warmup: Annotated[int, Field(ge=0)] = 1
    """Repetitions before any is measured."""
    repetitions: Annotated[int, Field(ge=1)] = 5
    """Measured repetitions; their median and spread are told."""


def _unique_names(entries: tuple[Perplexity, ...]) -> tuple[Perplexity, ...]:
    _unique(tuple(entry.name for entry in entries))
    return entries


class Evaluation(Frozen):
    """What is measured on the dense and on every pruned model."""

    perplexity: Annotated[
        tuple[Perplexity, ...], Field(min_length=1), AfterValidator(_unique_names)
    ] = (Perplexity(windows=32),)
    """The corpora to measure perplexity on."""
    agreement: bool = True
    """Compare with the dense model on the same windows: KL divergence and top-1 agreement."""
    reconstruction: bool = True
    """Compare each pruned layer's output with the dense one's, on a few evaluation windows."""
    zero_shot: ZeroShot = ZeroShot()
    """Zero-shot tasks."""
    speed: bool = False
    """Measure tokens a second, latency and memory of the dense and of every pruned model."""
    speed_options: Speed = Speed()
    """How speed is measured."""
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Accelerate processes that share windows and documents; empty: one a GPU, or one on a CPU."""
    batch_size: Annotated[int, Field(ge=1)] = 4
    """Windows of one forward pass; changes speed and memory, never the figures."""
    device_map: Literal["none", "auto"] = "none"
    """auto: spread a model that is too large for one device over all, then memory, then disk."""
    max_memory: dict[str, str] = {}
    """With device_map auto: what each device may hold, such as {"0": 20GiB, cpu: 60GiB}."""

    @model_validator(mode="after")
    def _memory_belongs_to_the_map(self) -> Self:
        if self.max_memory and self.device_map == "none":
            raise ValueError("max_memory belongs to device_map auto")
        if self.device_map == "auto" and (self.processes or 1) > 1:
            raise ValueError("device_map auto uses one process: leave processes empty or 1")
        return self


class Tracking(Frozen):
    """Where runs are recorded. The server is MLFLOW_TRACKING_URI's, else a file in the home."""

    experiment: Annotated[str, Field(pattern=r"^[^@()/\\]{1,200}$")] | None = None
    """MLflow experiment; empty: the sweep's name."""


class Trust(Frozen):
    """What a model's files may do. Off unless you trust where they come from."""

    remote_code: bool = False
    """Run Python code that comes with a hub model or folder."""
    pickle_weights: bool = False
    """Load .bin and .pt weights; pickle can run any code."""


def _options_of(name: str) -> Any:
    method = methods()[name]
    hints = get_type_hints(method)
    entries: dict[str, Any] = {}
    for entry in fields(method):
        assert entry.default is not MISSING, f"{name}.{entry.name} has no default"
        limits = {key: value for key, value in entry.metadata.items() if key != "doc"}
        entries[entry.name] = (
            hints[entry.name],
            Field(default=entry.default, description=entry.metadata["doc"], **limits),
        )
    return create_model(f"{name}_options", __base__=Frozen, __doc__=method.summary, **entries)


_OPTION_MODELS = {name: _options_of(name) for name in METHODS}

_option_fields: dict[str, Any] = {
    name: (model, Field(default=model(), description=methods()[name].summary))
    for name, model in _OPTION_MODELS.items()
}
MethodOptions: Any = create_model(
    "MethodOptions",
    __base__=Frozen,
    __doc__="Options of the methods; what is not named keeps its default.",
    **_option_fields,
)


class Variant(Frozen):
    """A method under a name of its own, with options of its own."""

    method: MethodName  # type: ignore[valid-type]
    """The method that it is."""
    options: dict[str, Any] = {}
    """Its options; what is not named is as in the sweep's options of that method."""


class Reported(Frozen):
    """One figure that the paper behind a preset reports, for ``secateur diff``."""

    model: str
    """One of the sweep's models."""
    method: str
    """A method or variant of the sweep, or dense."""
    target: TargetText | None = None
    """One of the sweep's targets; empty for dense."""
    metric: str
    """The column of the results that it belongs to, such as perplexity/wikitext2."""
    value: float
    """The figure as printed."""
    source: str
    """Where it is printed: the paper and its table."""


VariantName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]


class SweepConfig(Frozen):
    """A sweep: models × methods × targets × seeds, one calibration, one evaluation."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Names the results' folder and the experiment: letters, digits, dot, dash and underscore."""
    models: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)] = (
        "smollm2-135m",
    )
    """Alias, hub id[@revision], folder, or file.gguf."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the hardware has it natively, else float32."""
    calibration: Calibration = Calibration()
    """The text that pruning methods may look at."""
    training: Training = Training()
    """The text that methods which learn may look at."""
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), AfterValidator(_unique)] = (  # type: ignore[valid-type]
        "magnitude",
        "wanda",
        "swiftprune",
    )
    """Pruning methods."""
    options: MethodOptions = MethodOptions()  # type: ignore[valid-type]
    """Options of each method."""
    variants: dict[VariantName, Variant] = {}
    """Further entries beside methods: the same method with other options, to compare them."""
    targets: Annotated[tuple[TargetText, ...], Field(min_length=1), AfterValidator(_unique)] = (
        "0.5",
        "2:4",
    )
    """Sparsities: a fraction of zeros such as 0.5, or keep:group such as 2:4."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        Field(min_length=1),
        AfterValidator(_unique),
    ] = (0,)
    """One cell each; methods without randomness compute once for all of them."""
    evaluation: Evaluation = Evaluation()
    """What is measured."""
    save_checkpoints: bool = True
    """Keep each pruned model as a folder that from_pretrained loads."""
    on_overlap: Literal["wait", "refuse"] = "wait"
    """When a sweep of this name runs already: wait for its end, or refuse to run."""
    tracking: Tracking = Tracking()
    """Where runs are recorded."""
    trust: Trust = Trust()
    """What a model's files may do."""
    reported: tuple[Reported, ...] = ()
    """Figures that the paper behind this sweep reports, for secateur diff; they change nothing."""

    @model_validator(mode="after")
    def _variants_are_methods_with_options(self) -> Self:
        for name, variant in self.variants.items():
            if name in METHODS or name == "dense":
                raise ValueError(f"variants.{name}: a variant needs a name that no method has")
            known = _OPTION_MODELS[variant.method].model_fields
            for option in variant.options:
                if option not in known:
                    raise ValueError(
                        f"variants.{name}.options.{option}: {variant.method} has no such option; "
                        f"it has {', '.join(known) or 'none'}"
                    )
            try:
                self._options(name)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                raise ValueError(
                    f"variants.{name}.options.{first['loc'][0]}: {first['msg']}, "
                    f"not {first['input']!r}"
                ) from None
        return self

    @property
    def entries(self) -> tuple[str, ...]:
        """Everything that is compared: methods, then variants."""
        return (*self.methods, *self.variants)

    def _options(self, name: str) -> dict[str, Any]:
        variant = self.variants.get(name)
        base = variant.method if variant else name
        options = getattr(self.options, base).model_dump()
        if variant:
            options = _OPTION_MODELS[base].model_validate(options | variant.options).model_dump()
        return options

    def parsed_targets(self) -> tuple[Target, ...]:
        return tuple(parse_target(text) for text in self.targets)

    def method(self, name: str) -> Any:
        """The method or variant ``name`` with this sweep's options."""
        variant = self.variants.get(name)
        return methods()[variant.method if variant else name](**self._options(name))
