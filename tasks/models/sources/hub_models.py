"""Models on the Hugging Face hub: what commit a name means, what it holds, and fetching it.

A commit hash is a hub model's identity. Only what a causal language model needs is fetched: the
configuration, the tokenizer and one set of weights.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import SourceUnavailableError
from tasks.models.sources.checkpoints import (
    CONFIG,
    INPUT_FILES,
    LICENCES,
    PICKLE,
    PICKLE_INDEX,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    TRUST_HINT,
    VOCABULARIES,
    check_config,
    check_folder,
    check_names,
)
from tasks.models.sources.hub import (
    COMMIT,
    NOT_CACHED,
    OFFLINE_HINT,
    TIMEOUT_SECONDS,
    explained,
    offline,
)

logger = logging.getLogger(__name__)

ELSEWHERE = ["[!a]*/*", "a[!d]*/*", "*/*/*"]
"""All folders but that of chat templates."""
_ID = re.compile(r"(?P<repo>[\w-][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class HubModel:
    """A hub id as resolved.

    Attributes:
        repo: the id without revision.
        commit: full hash.
        folder: where the snapshot lies, when it is here and complete.
        model_type: as the hub tells it; empty where it was not asked.
    """

    repo: str
    commit: str
    folder: Path | None
    model_type: str = ""


def split_id(spec: str, *, field: str) -> tuple[str, str | None]:
    """``owner/name@revision`` → (id, revision).

    Raises:
        ConfigurationError: for what cannot be an id.
    """
    match = _ID.fullmatch(spec)
    if not match:
        raise ConfigurationError(
            field, spec, "a model is an alias, a hub id[@revision], a folder or a file.gguf"
        )
    return match["repo"], match["revision"]


def resolve_hub(spec: str, *, field: str, trust: Trust) -> HubModel:
    """Find out what commit ``spec`` means and whether it can be used, without fetching weights.

    A full commit hash that is in the cache needs no network. Any other name is asked for, and read
    from the cache only where the hub cannot be reached.

    Raises:
        ConfigurationError: unknown id or revision, no usable weights, or offline and not cached.
        SourceUnavailableError: the hub cannot be reached and the cache does not hold it.
    """
    repo, revision = split_id(spec, field=field)
    cached = _cached(repo, revision)
    if offline():
        if cached is None:
            raise ConfigurationError(field, spec, NOT_CACHED, OFFLINE_HINT)
        check_folder(cached, field=field, given=spec, trust=trust)
        return HubModel(repo, cached.name, cached)
    usable = cached if cached and _is_complete(cached, field, spec, trust) else None
    if usable and revision and COMMIT.fullmatch(revision):
        return HubModel(repo, revision, usable)
    try:
        commit, model_type = _ask(repo, revision, field=field, spec=spec, trust=trust)
    except SourceUnavailableError:
        if usable is None:
            raise
        logger.warning("The hub cannot be reached; %s is taken from the local cache.", spec)
        return HubModel(repo, usable.name, usable)
    if usable is None or usable.name != commit:
        cached = _cached(repo, commit)
        usable = cached if cached and _is_complete(cached, field, spec, trust) else None
        if usable:
            _remember_name(repo, revision)
    return HubModel(repo, commit, usable, model_type)


def fetch_hub(spec: str, commit: str, *, field: str, trust: Trust) -> Path:
    """The snapshot's folder, downloaded where it is not here yet, and checked.

    Raises:
        ConfigurationError: it is gone, or what came cannot be used.
        SourceUnavailableError: the download failed and may work later.
    """
    from huggingface_hub import snapshot_download

    repo, revision = split_id(spec, field=field)
    wanted = ["model*.safetensors", *INPUT_FILES, *LICENCES]
    wanted += ["*.py"] if trust.remote_code else []
    options: dict[str, Any] = {"revision": commit, "ignore_patterns": ELSEWHERE}
    with explained(field=field, given=spec):
        folder = Path(snapshot_download(repo, allow_patterns=wanted, **options))
        if trust.pickle_weights and not next(folder.glob("model*.safetensors"), None):
            wanted += ["pytorch_model*.bin", PICKLE_INDEX]
            folder = Path(snapshot_download(repo, allow_patterns=wanted, **options))
    check_folder(folder, field=field, given=spec, trust=trust)
    _remember_name(repo, revision)
    return folder


def _remember_name(repo: str, revision: str | None) -> None:
    """Let the cache know what commit a branch or tag means, for when the hub is out of reach.

    Downloads by commit leave no such trace; asking for a file by name does.
    """
    from huggingface_hub import hf_hub_download

    if revision is None or not COMMIT.fullmatch(revision):
        with contextlib.suppress(Exception):
            hf_hub_download(repo, CONFIG, revision=revision)


def _cached(repo: str, revision: str | None) -> Path | None:
    """The snapshot in the local cache, which may lack files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[CONFIG],
            ignore_patterns=["*/*"],
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder)


def _is_complete(folder: Path, field: str, spec: str, trust: Trust) -> bool:
    try:
        check_folder(folder, field=field, given=spec, trust=trust)
    except ConfigurationError:
        return False
    return True


def _ask(
    repo: str, revision: str | None, *, field: str, spec: str, trust: Trust
) -> tuple[str, str]:
    """The commit on the hub and the model's type, after a look at what it holds."""
    from huggingface_hub import HfApi

    with explained(field=field, given=spec):
        info: Any = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_SECONDS)
    check_config(info.config or {}, field=field, given=spec)
    names = {entry.rfilename for entry in info.siblings or []}
    check_names(names, field=field, given=spec)
    lacks = [CONFIG] if CONFIG not in names else []
    if not any(fnmatch(name, known) for name in names for known in VOCABULARIES):
        lacks.append("a tokenizer")
    if not names & {SAFETENSORS, SAFETENSORS_INDEX}:
        pickled = names & {PICKLE, PICKLE_INDEX}
        if pickled and not trust.pickle_weights:
            raise ConfigurationError(
                field,
                spec,
                "its weights are pickle files, which can run any code, and only safetensors load",
                TRUST_HINT,
            )
        if not pickled:
            lacks.append(SAFETENSORS)
    if lacks:
        raise ConfigurationError(field, spec, f"the repository lacks {' and '.join(lacks)}")
    return str(info.sha), str((info.config or {}).get("model_type", ""))
