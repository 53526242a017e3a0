"""Data sets of the Hugging Face hub, and local folders that ``datasets`` reads, as a corpus.

``datasets`` falls back on whatever its cache holds when it cannot reach the hub, whatever revision
was asked for; here the revision that was really read is compared with the one that was wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from configs.corpora import Text
from configs.errors import ConfigurationError
from tasks.data.documents import COMPLETION, INSTEAD, MESSAGES, PROMPT, Document, document_of
from tasks.models.errors import SourceUnavailableError
from tasks.models.quiet import quiet_datasets
from tasks.models.sources.hub import COMMIT, TIMEOUT_SECONDS, explained, offline

FORMATS = ("arrow", "csv", "json", "parquet", "text")
"""Readers of ``datasets`` that take any ``data_files``, in place of a data set."""

_ROWS_AT_ONCE = 1000


def read_hub(corpus: Text, *, base: Path, field: str) -> tuple[str, list[Document], dict[str, Any]]:
    """Description, documents and facts of a data set's split.

    Args:
        base: what a local folder is relative to.
        field: dotted path of the corpus, for messages.

    Raises:
        ConfigurationError: data set, configuration, split, revision or column does not exist.
        SourceUnavailableError: it cannot be reached, and may be later.
    """
    with quiet_datasets(), _cache(corpus, base) as cache:
        builder = _builder(corpus, base, field, cache)
        revision = _revision(builder, corpus, field)
        documents = list(_texts(_split(builder, corpus, field), corpus, field))
    local = not builder.repo_id
    name = Path(corpus.dataset or "").name if local else corpus.dataset
    files = [Path(file).name if local else file for file in corpus.data_files]
    facts = {
        "dataset": name,
        "config": corpus.config,
        "split": corpus.split,
        "data_files": files,
        "column": corpus.column,
        "documents": corpus.documents,
        "revision": revision,
    }
    parts = (name, corpus.config, corpus.split)
    return " ".join(part for part in parts if part), documents, facts


def _is_local(corpus: Text, base: Path) -> bool:
    name = corpus.dataset or ""
    return name.startswith((".", "/", "~")) or "\\" in name or (base / name).exists()


def _location(corpus: Text, base: Path, field: str) -> tuple[str, list[str] | None]:
    """What to call ``load_dataset_builder`` with: path and data files."""
    name = corpus.dataset or ""
    files = list(corpus.data_files) or None
    if name in FORMATS:
        if not files:
            raise ConfigurationError(f"{field}.data_files", (), f"the reader {name} needs files")
        local = [file if "://" in file else str(base / Path(file).expanduser()) for file in files]
        return name, local
    if not _is_local(corpus, base):
        return name, files
    path = base / Path(name).expanduser()
    if not path.is_dir():
        hint = "For a file, use source: files" if path.exists() else ""
        raise ConfigurationError(f"{field}.dataset", name, f"there is no folder {path}", hint)
    return str(path.resolve()), files


@contextmanager
def _cache(corpus: Text, base: Path) -> Iterator[str | None]:
    """Where ``datasets`` keeps what it reads: files of this machine are read anew each time.

    It knows a file again by path and time, and would take another's rows for its own.
    """
    from datasets import config

    addresses = any("://" in file for file in corpus.data_files)
    if addresses or not (corpus.dataset in FORMATS or _is_local(corpus, base)):
        yield None
        return
    above = Path(config.HF_DATASETS_CACHE)
    above.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="read-", dir=above, ignore_cleanup_errors=True) as folder:
        yield folder


def _builder(corpus: Text, base: Path, field: str, cache: str | None) -> Any:
    import datasets

    path, files = _location(corpus, base, field)
    with _translated(corpus, field):
        return datasets.load_dataset_builder(
            path,
            name=corpus.config,
            data_files=files,
            revision=corpus.revision,
            cache_dir=cache,
        )


def _revision(builder: Any, corpus: Text, field: str) -> str:
    """The commit that is read; empty for local files."""
    if not builder.repo_id:
        return ""
    read, wanted = str(builder.hash), corpus.revision
    from_cache = type(builder).__module__.endswith(".cache.cache")
    if not from_cache or wanted in (None, read):
        return read
    given = f"{corpus.dataset}@{wanted}"
    if not offline():
        # Say why the hub did not give it: no such revision, or no connection.
        from huggingface_hub import HfApi

        with explained(field=f"{field}.revision", given=given):
            HfApi().dataset_info(str(corpus.dataset), revision=wanted, timeout=TIMEOUT_SECONDS)
        raise SourceUnavailableError(given, "the connection broke while it was read")
    if COMMIT.fullmatch(wanted or ""):
        allowed = f"HF_HUB_OFFLINE is set, and the local cache holds {read}"
        raise ConfigurationError(f"{field}.revision", wanted, allowed)
    return read


def _split(builder: Any, corpus: Text, field: str) -> Any:
    """The split with only the wanted columns; streamed where only some rows are wanted."""
    with _translated(corpus, field):
        streams = corpus.documents is not None
        if streams:
            split = builder.as_streaming_dataset(split=corpus.split)
        else:
            builder.download_and_prepare()
            split = builder.as_dataset(split=corpus.split)
        columns = split.column_names or list(next(iter(split), {}))
    text = corpus.column in columns
    instead = [] if text and corpus.loss == "all" else [c for c in INSTEAD if c in columns]
    if not text and not (MESSAGES in instead or {PROMPT, COMPLETION} <= {*instead}):
        present = ", ".join(columns)
        raise ConfigurationError(
            f"{field}.column", corpus.column, f"{corpus.dataset} has the columns: {present}"
        )
    split = split.select_columns(list(dict.fromkeys([*[corpus.column] * text, *instead])))
    return split.take(corpus.documents) if streams else split


def _texts(split: Any, corpus: Text, field: str) -> Iterator[Document]:
    batches = iter(split.iter(batch_size=_ROWS_AT_ONCE))
    number = 0
    while True:
        with _translated(corpus, field):
            batch = next(batches, None)
        if batch is None:
            return
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield document_of(
                dict(zip(batch, values, strict=True)),
                f"row {number} of {corpus.dataset}",
                field=field,
                column=corpus.column,
                loss=corpus.loss,
            )


@contextmanager
def _translated(corpus: Text, field: str) -> Iterator[None]:
    """Turn what ``datasets`` raises into this project's two exceptions.

    Its messages list what exists, so they are passed on; they also tell which field is wrong.
    """
    from datasets.exceptions import DatasetsError

    name = str(corpus.dataset)
    try:
        with explained(field=f"{field}.dataset", given=name):
            yield
    except (ConfigurationError, SourceUnavailableError):
        raise
    except (ValueError, RuntimeError, DatasetsError, FileNotFoundError, PermissionError) as error:
        if isinstance(error.__cause__, ConnectionError | TimeoutError):
            raise SourceUnavailableError(name, str(error.__cause__)) from error
        wrong = _wrong_field(str(error), corpus)
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ConfigurationError(
            f"{field}.{wrong}", getattr(corpus, wrong), f"datasets says: {said}"
        ) from error
    except OSError as error:
        raise SourceUnavailableError(name, str(error)) from error


def _wrong_field(message: str, corpus: Text) -> str:
    if "BuilderConfig" in message or "Config name is missing" in message:
        return "config"
    if message.startswith(("Unknown split", "Bad split")):
        return "split"
    return "data_files" if corpus.data_files else "dataset"
