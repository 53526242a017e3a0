"""What a model's name in a sweep file means: alias, GGUF file, local folder or hub id.

Resolving reads headers and hashes files; it loads no model and needs neither torch nor
transformers. What has the form of a path never reaches the network.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import SourceUnavailableError
from tasks.models.sources import random_model
from tasks.models.sources.aliases import ALIASES, locate
from tasks.models.sources.checkpoints import check_folder
from tasks.models.sources.digests import digest_of, file_digest, folder_digest
from tasks.models.sources.gguf_header import GgufError, check_complete
from tasks.models.sources.hub_models import fetch_hub, resolve_hub
from tasks.store.files import stamp

__all__ = [
    "ResolvedModel",
    "SourceUnavailableError",
    "check_models",
    "fetch",
    "require_unchanged",
    "resolve_model",
]


@dataclass(frozen=True)
class Contents:
    """What the headers of a folder tell of its model.

    Attributes:
        unread: tensors of its files that the model does not read, by their names there.
        vocabulary: rows of the embedding.
        widths: distinct numbers of in-features of the layers that are to be pruned.
        unstructured: why no heads and channels can be removed; empty where they can.
        excluded: layers and weights that the sweep's ``exclude`` leaves dense, and all weights that
            sparsity is counted over.
        encoder: whether it is an encoder, which predicts no next token.
        doubt: why its tokenizer may make other tokens than it was trained on; empty without.
    """

    unread: tuple[str, ...] = ()
    vocabulary: int = 0
    widths: tuple[int, ...] = ()
    unstructured: str = ""
    excluded: tuple[int, int, int] = (0, 0, 0)
    encoder: bool = False
    doubt: str = ""


@dataclass(frozen=True)
class ResolvedModel:
    """A model that was found.

    Attributes:
        spec: as the user wrote it.
        kind: where it comes from.
        path: the GGUF file, or the local folder; empty for a hub model that is not fetched yet and
            for the random one.
        revision: the commit of a hub model, else empty.
        digest: SHA-256 hex that determines weights, configuration and tokenizer; no path in it.
            Where ``trust`` changes what is read, it is in it.
        contents: None where no header was read: of a GGUF file, the random model, and a hub model
            that is not fetched yet.
        model_type: of a hub model, as the hub tells it.
        prefixed: False where its tokenizer is known to put nothing before a text; True also where
            that was not asked.
        rescaled: False where its blocks are known to add attention's output as it is, neither
            normed nor multiplied; True also where that was not asked.
    """

    spec: str
    kind: Literal["gguf", "folder", "hub", "random"]
    path: str
    revision: str
    digest: str
    contents: Contents | None = None
    model_type: str = ""
    prefixed: bool = dataclasses.field(default=True, compare=False)
    rescaled: bool = dataclasses.field(default=True, compare=False)


def resolve_model(
    spec: str, *, field: str, base: Path, trust: Trust, digest_cache: Path | None
) -> ResolvedModel:
    """Find a model and what determines it.

    Args:
        spec: alias, hub id[@revision], folder or file.gguf.
        field: dotted path of the field that holds ``spec``, for messages.
        base: what relative paths are relative to.
        trust: what the model's files may do.
        digest_cache: the file that remembers digests of large files; None computes them always.

    Raises:
        ConfigurationError: it does not exist, is damaged, or cannot be used.
        SourceUnavailableError: the hub cannot be reached.
    """
    if spec == random_model.NAME:
        return ResolvedModel(spec, "random", "", "", digest_of(random_model.identity()))
    if spec in ALIASES:
        path = locate(spec, field=field, digest_cache=digest_cache)
        return _local(spec, path, field, trust, digest_cache)
    if _is_path(spec, base):
        with _readable(spec, field):
            path = base / Path(spec).expanduser()
            return _local(spec, path, field, trust, digest_cache)
    try:
        found = resolve_hub(spec, field=field, trust=trust)
    except (ConfigurationError, SourceUnavailableError) as error:
        near = difflib.get_close_matches(spec, [*ALIASES, random_model.NAME], n=1)
        alias = f"Did you mean {near[0]!r}?" if near and "/" not in spec else ""
        if isinstance(error, SourceUnavailableError):
            hint = alias or f"There is no file or folder {base / spec} either"
            raise SourceUnavailableError(spec, f"{error.reason}. {hint}") from error
        if alias:
            raise ConfigurationError(field, spec, error.allowed, alias) from error
        raise
    identity = {"repo": found.repo, "commit": found.commit, "remote_code": trust.remote_code}
    return ResolvedModel(
        spec,
        "hub",
        str(found.folder or ""),
        found.commit,
        digest_of({"hub": identity}),
        model_type=found.model_type,
    )


def check_local(spec: str, *, field: str, base: Path, trust: Trust) -> None:
    """As :func:`resolve_model`, of a path alone, and without a digest: it takes milliseconds.

    Raises:
        ConfigurationError: there is nothing there, it is damaged, or it cannot be used.
    """
    if spec in ALIASES or spec == random_model.NAME or not _is_path(spec, base):
        return
    with _readable(spec, field):
        path = base / Path(spec).expanduser()
        if path.is_dir():
            check_folder(path, field=field, given=spec, trust=trust)
        else:
            _check_gguf(spec, path, field)


def check_models(raw: Mapping[str, Any], *, base: Path) -> None:
    """:func:`check_local` of an unvalidated sweep's models; what is no model is not told here."""
    given = raw.get("models")
    try:
        trust = Trust.model_validate(raw.get("trust", {}))
    except ValidationError:
        return
    for index, spec in enumerate(given if isinstance(given, list) else []):
        if isinstance(spec, str) and spec:
            check_local(spec, field=f"models[{index}]", base=base, trust=trust)


def fetch(model: ResolvedModel, *, field: str, trust: Trust) -> ResolvedModel:
    """``model`` with its files on this machine; only a hub model may need the network.

    Raises:
        ConfigurationError: what came cannot be used, or a local path is gone.
        SourceUnavailableError: the hub cannot be reached.
    """
    if model.kind == "random" or (model.path and Path(model.path).exists()):
        return model
    if model.kind != "hub":
        raise ConfigurationError(field, model.spec, f"{model.path} is not there any more")
    folder = fetch_hub(model.spec, model.revision, field=field, trust=trust)
    return replace(model, path=str(folder))


def require_unchanged(
    model: ResolvedModel, *, field: str, trust: Trust, digest_cache: Path | None
) -> None:
    """A local model's files are those of its digest; they are hashed again only where they changed.

    Raises:
        ConfigurationError: they are others, or cannot be used any more.
    """
    if model.kind not in ("gguf", "folder"):
        return  # a commit of the hub stays what it is
    known = _seen.get((model.path, model.digest), {})
    with suppress(OSError):
        if known and known == {path: stamp(path) for path in known}:
            return
    with _readable(model.spec, field):
        found = _local(model.spec, Path(model.path), field, trust, digest_cache)
    if found.digest != model.digest:
        raise ConfigurationError(
            field,
            model.spec,
            "its files must stay as they were when the sweep began, and they have changed since",
            "Run the sweep again.",
        )


_seen: dict[tuple[str, str], dict[Path, list[int]]] = {}
"""Path and digest of a model → the stamps of its files and its folder before they were hashed."""


def _is_path(spec: str, base: Path) -> bool:
    """Whether ``spec`` has the form of a path, or names something that is there."""
    if spec.startswith((".", "/", "~")) or "\\" in spec or spec.lower().endswith(".gguf"):
        return True
    return bool(spec) and os.path.lexists(base / spec)  # a link that leads nowhere too


@contextmanager
def _readable(spec: str, field: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(field, spec, f"it cannot be read: {error}") from error


def _local(
    spec: str, path: Path, field: str, trust: Trust, digest_cache: Path | None
) -> ResolvedModel:
    whole = path.is_dir()
    if whole:
        files = check_folder(path, field=field, given=spec, trust=trust)
    else:
        _check_gguf(spec, path, field)
        files = {path.name: path}
    seen = {file: stamp(file) for file in (path, *files.values())}
    digest = folder_digest(files, digest_cache) if whole else file_digest(path, digest_cache)
    if not whole and trust.unread_weights:  # what may be left out, and is refused without
        digest = digest_of({"gguf": digest, "unread_weights": True})
    found = ResolvedModel(spec, "folder" if whole else "gguf", str(path.resolve()), "", digest)
    _seen[found.path, digest] = seen
    return found


def _check_gguf(spec: str, path: Path, field: str) -> None:
    if not path.exists():
        raise ConfigurationError(field, spec, f"there is no file or folder {path}")
    if not path.is_file():  # a device never ends, a pipe never begins
        raise ConfigurationError(field, spec, f"{path} is a device, a pipe or a socket, no file")
    if path.suffix.lower() != ".gguf":
        raise ConfigurationError(
            field, spec, "a local model is a folder with config.json and weights, or a file.gguf"
        )
    try:
        header = check_complete(path)
    except GgufError as error:
        allowed = f"{path.name} is no whole GGUF file: {error}"
        raise ConfigurationError(field, spec, allowed) from error
    if header.metadata.get("split.count", 1) > 1:
        raise ConfigurationError(
            field, spec, "it is one part of a split GGUF", "Merge the parts (gguf-split --merge)"
        )
    if "tokenizer.ggml.model" not in header.metadata:
        raise ConfigurationError(field, spec, f"{path.name} holds no tokenizer")
