"""The texts of a sweep: where they come from, and what methods may look at."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.frozen import Frozen
from tasks.selection.registry import CoresetMethod, Form, Repeats, Sampling


class Text(Frozen):
    """What says where text comes from, alone or as a part of a mixture."""

    source: Literal["python-docs", "files", "hub"] = "python-docs"
    """python-docs: the reference that every CPython carries; files: your own; hub: a data set."""
    part: Literal["calibration", "heldout"] | None = None
    """python-docs: which half of the topics; empty: the one that fits where it is used."""
    files: tuple[str, ...] = ()
    """files: text, JSON lines or arrays, CSV or Parquet, packed or not, in this order."""
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
    """hub, and files of rows: the field that holds the text; messages holds conversations."""
    documents: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """hub: read only the first so many rows (streamed), for data sets too large to read whole."""
    separator: str = "\n\n"
    """What joins documents before they are tokenised in one call."""
    loss: Literal["all", "completion"] = "all"
    """files, hub: what learning and a coreset's gradients count: all tokens, or completions alone
    (rows of prompt and completion; of messages, what the assistant says)."""

    @model_validator(mode="after")
    def _only_fields_of_its_source(self) -> Self:
        belongs = {
            "part": ("python-docs",),
            "files": ("files",),
            **dict.fromkeys(("column", "loss"), ("files", "hub")),
            "separator": ("python-docs", "files", "hub"),
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


class Part(Text):
    """A text of a mixture."""

    share: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """How much of the windows it gives, in proportion to the other parts' shares."""


class Corpus(Text):
    """Where text comes from: one source, or a list of several, each with its share."""

    source: Literal["python-docs", "files", "hub", "mixture"] = "python-docs"  # type: ignore[assignment]
    """python-docs: the reference of every CPython; files: your own; hub: a data set; mixture."""
    parts: Annotated[tuple[Part, ...], Field(max_length=100)] = ()
    """mixture: its texts; a list in place of a corpus is short for it."""

    @property
    def losses(self) -> tuple[str, ...]:
        """``loss`` of each of its texts."""
        return tuple(text.loss for text in (self.parts or (self,)))

    @property
    def counts_completions(self) -> bool:
        """Whether of any of its texts completions alone are counted."""
        return "completion" in self.losses

    @model_validator(mode="before")
    @classmethod
    def _list_is_a_mixture(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return {"source": "mixture", "parts": given}
        return given

    @model_validator(mode="after")
    def _parts_of_a_mixture(self) -> Self:
        if (self.source == "mixture") != bool(self.parts):
            raise ValueError(
                "source mixture needs parts: a list of at least one text"
                if self.source == "mixture"
                else f"parts belongs to source mixture, not {self.source}"
            )
        return self


class Coreset(Frozen):
    """How windows are chosen from a pool by their gradients, without labels (TAGCOS)."""

    pool: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """How many windows are looked at, spread evenly over the text; all of a shorter one."""
    method: CoresetMethod = "tagcos"
    """tagcos: clusters, and matching pursuit in each; omp: pursuit alone; kmeans: nearest to each
    centre; stratified: random in each cluster; medoids: a cluster for each window."""
    features: Form = "adam"
    """Gradients in Adam's form, or plain."""
    clusters: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many; empty: a quarter of the samples, at most 100."""
    projection: Annotated[int, Field(ge=8, le=65_536)] = 1024
    """Dimensions that gradients are projected to."""
    warmup_steps: Annotated[int, Field(ge=1, le=100_000)] = 6
    """Steps that the low-rank branches learn before gradients are taken."""
    warmup_batch: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Windows of such a step."""
    checkpoints: Annotated[int, Field(ge=1, le=100)] = 2
    """How often gradients are taken, evenly over these steps."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """At the last of these steps; it rises linearly."""
    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rank of the branches, which stand beside the attention's linear layers."""
    ridge: Annotated[float, Field(ge=0, le=1_000_000)] = 0.1
    """Of the pursuit; with repeats exclude, in units of the mean squared length of the features."""
    repeats: Repeats = "exclude"
    """exclude: a window is picked once; stop: the paper's way, one that comes back ends the run."""

    @model_validator(mode="after")
    def _checkpoints_lie_in_the_warmup(self) -> Self:
        if self.checkpoints > self.warmup_steps:
            raise ValueError(f"checkpoints must be at most warmup_steps, {self.warmup_steps}")
        return self

    def require_room(self, samples: int) -> None:
        """Refuse to choose more windows than the pool has, or of more clusters.

        Raises:
            ValueError: with how many it has to have.
        """
        wanted = max(samples, self.clusters or 1)
        if self.pool < wanted:
            clusters = f" in {self.clusters} clusters" if self.clusters else ""
            raise ValueError(
                f"coreset.pool is {self.pool} windows, of which {samples} are to be "
                f"chosen{clusters}: it must be at least {wanted}"
            )


class Calibration(Frozen):
    """The text that pruning methods may look at."""

    corpus: Corpus = Corpus()
    """Where the text comes from."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """How many windows."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 512
    """Tokens of a window."""
    sampling: Sampling = "contiguous"
    """contiguous: from the start, one after another; random: at seeded random offsets; spread:
    evenly over the text; coreset: chosen from a pool by their gradients."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of random and coreset sampling: each of the sweep's seeds is added to it."""
    coreset: Coreset = Coreset()
    """How a coreset is chosen."""


class Training(Frozen):
    """The text that methods which learn may look at: policy_gradient its mask, ast its weights."""

    corpus: Corpus | None = None
    """Where the text comes from; empty: calibration's corpus, beyond the calibration windows."""
    samples: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """How many windows; empty: all that the corpus holds, of several texts as many as keep their
    shares."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 512
    """Tokens of a window."""
    sampling: Sampling = "contiguous"
    """As calibration's; each of the sweep's seeds draws other random windows or another coreset."""
    coreset: Coreset = Coreset()
    """How a coreset is chosen."""
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Accelerate processes of methods that train weights; empty: one a GPU, or one on a CPU."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1_000_000)] = 60.0
    """Seconds between the files from which a killed training goes on; 0: after every step."""

    @model_validator(mode="after")
    def _choosing_needs_a_number(self) -> Self:
        if self.sampling == "contiguous":
            return self
        if self.samples is None:
            raise ValueError(f"samples is needed for sampling {self.sampling}: how many windows")
        if self.sampling == "coreset":
            self.coreset.require_room(self.samples)
        return self
