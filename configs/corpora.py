"""The texts of a sweep: where they come from, and what methods may look at."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.frozen import Frozen


class Corpus(Frozen):
    """Where text comes from."""

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
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """How many windows."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 512
    """Tokens of a window."""
    sampling: Literal["contiguous", "random"] = "contiguous"
    """contiguous: from the start, one after another; random: windows at seeded random offsets."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of random sampling."""


class Training(Frozen):
    """The text that methods which learn may look at: policy_gradient its mask, ast its weights."""

    corpus: Corpus | None = None
    """Where the text comes from; empty: calibration's corpus, beyond the calibration windows."""
    samples: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """How many windows; empty: all that the corpus holds."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 512
    """Tokens of a window."""
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Accelerate processes of methods that train weights; empty: one a GPU, or one on a CPU."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1_000_000)] = 60.0
    """Seconds between the files from which a killed training goes on; 0: after every step."""
