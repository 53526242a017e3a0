"""What a sweep file may say: the only definition, for the YAML, ``--set`` and the Prefect form.

Every model is frozen, refuses unknown keys and documents each field in one line, which is the line
that the form shows. A method's options come from its own dataclass in ``tasks/pruning``.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from configs.corpora import Calibration, Training
from configs.evaluation import Evaluation
from configs.frozen import SWEEP_NAME, Frozen, Made, matching, unique
from configs.trust import Trust
from tasks.pruning.core.registry import ALLOWED, Target, methods, parse_target
from tasks.selection.registry import Sampling

METHODS = tuple(methods())
MethodName = Literal[*METHODS]


def _canonical_target(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | float | int):
        raise ValueError(ALLOWED)  # noqa: TRY004 (pydantic collects ValueError)
    return str(parse_target(given))


TargetText = Annotated[str, BeforeValidator(_canonical_target)]


class Tracking(Frozen):
    """Where runs are recorded. The server is MLFLOW_TRACKING_URI's, else a file in the home."""

    experiment: (
        Annotated[
            str, matching(r"^[^@()/\\\x00-\x1f]{1,200}$", "1 to 200 characters, none of @ ( ) / \\")
        ]
        | None
    ) = None
    """MLflow experiment; empty: the sweep's name."""


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
    return create_model(f"{name}_options", __base__=Made, __doc__=method.summary, **entries)


_OPTION_MODELS = {name: _options_of(name) for name in METHODS}

_option_fields: dict[str, Any] = {
    name: (model, Field(default=model(), description=methods()[name].summary))
    for name, model in _OPTION_MODELS.items()
}
MethodOptions: Any = create_model(
    "MethodOptions",
    __base__=Made,
    __doc__="Options of the methods; what is not named keeps its default.",
    **_option_fields,
)


class Variant(Frozen):
    """A method under a name of its own, with options of its own."""

    method: MethodName  # type: ignore[valid-type]
    """The method that it is."""
    options: dict[str, Any] = Field(default={})
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


VariantName = Annotated[
    str,
    matching(
        r"^[A-Za-z][A-Za-z0-9_-]{0,39}$",
        "a variant's name takes letters, digits, dash and underscore, at most 40, a letter first",
    ),
]
ModelName = Annotated[str, Field(min_length=1, max_length=4_000)]
_MOST_CELLS = 10_000


class SweepConfig(Frozen):
    """A sweep: models × methods × targets × seeds, one calibration, one evaluation."""

    name: Annotated[str, Field(pattern=SWEEP_NAME)]
    """Names the results' folder and the experiment: letters, digits, dot, dash and underscore."""
    models: Annotated[
        tuple[ModelName, ...], Field(min_length=1, max_length=200), AfterValidator(unique)
    ] = ("smollm2-135m",)
    """Alias, hub id[@revision], folder, or file.gguf."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the hardware has it natively, else float32."""
    calibration: Calibration = Calibration()
    """The text that pruning methods may look at."""
    selections: Annotated[tuple[Sampling, ...], AfterValidator(unique)] = ()
    """Ways to choose calibration windows, one cell each; empty: calibration's sampling alone."""
    training: Training = Training()
    """The text that methods which learn may look at."""
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), AfterValidator(unique)] = (  # type: ignore[valid-type]
        "magnitude",
        "wanda",
        "swiftprune",
    )
    """Pruning methods."""
    options: MethodOptions = MethodOptions()  # type: ignore[valid-type]
    """Options of each method."""
    variants: dict[VariantName, Variant] = Field(default={}, max_length=200)
    """Further entries beside methods: the same method with other options, to compare them."""
    targets: Annotated[
        tuple[TargetText, ...], Field(min_length=1, max_length=200), AfterValidator(unique)
    ] = (
        "0.5",
        "2:4",
    )
    """Sparsities: a fraction of zeros such as 0.5, or keep:group such as 2:4."""
    exclude: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=500)], ...],
        Field(max_length=1_000),
        AfterValidator(unique),
    ] = ()
    """Layers that every method leaves dense: patterns such as model.layers.0.* or *.down_proj."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        Field(min_length=1, max_length=1_000),
        AfterValidator(unique),
    ] = (0,)
    """One cell each; methods without randomness compute once for all of them."""
    evaluation: Evaluation = Evaluation()  # type: ignore[valid-type]
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
    def _few_enough_cells(self) -> Self:
        cells = len(self.models) * len(self.entries) * len(self.targets) * len(self.seeds)
        cells *= len(self.samplings)
        if cells > _MOST_CELLS:
            raise ValueError(
                f"models × methods × targets × selections × seeds are {cells:,} cells; a sweep has "
                "at most "
                f"{_MOST_CELLS:,}"
            )
        return self

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

    @model_validator(mode="after")
    def _pools_hold_the_samples(self) -> Self:
        if "coreset" in self.samplings:
            try:
                self.calibration.coreset.require_room(self.calibration.samples)
            except ValueError as error:
                raise ValueError(f"calibration.coreset: {error}") from None
        return self

    @property
    def samplings(self) -> tuple[Sampling, ...]:
        """How calibration windows are chosen: every way that is compared."""
        return self.selections or (self.calibration.sampling,)

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
