"""What a hub's model tells before its weights are fetched: configuration, tokenizer, shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.trust import Trust
from tasks.models.sources.checkpoints import INPUT_FILES
from tasks.models.sources.headers import Shapes
from tasks.models.sources.hub import explained
from tasks.models.sources.hub_models import ELSEWHERE, split_id


@dataclass(frozen=True)
class HubHeaders:
    """A hub model without its weights.

    Attributes:
        folder: holds the configuration and the input side.
        shapes: of the tensors in its weight files.
    """

    folder: Path
    shapes: Shapes


def fetch_headers(spec: str, commit: str, *, field: str, trust: Trust) -> HubHeaders | None:
    """Fetch the small files, and of safetensors files the headers; None where it has pickles alone.

    Raises:
        ConfigurationError: it is gone, or a header is damaged.
        SourceUnavailableError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import NotASafetensorsRepoError

    repo, _ = split_id(spec, field=field)
    with explained(field=field, given=spec):
        try:
            headers = HfApi().get_safetensors_metadata(repo, revision=commit)
        except NotASafetensorsRepoError:
            return None
        small = [*INPUT_FILES, *(["*.py"] if trust.remote_code else [])]
        folder = snapshot_download(
            repo, revision=commit, allow_patterns=small, ignore_patterns=ELSEWHERE
        )
    shapes = {
        name: tuple(tensor.shape)
        for file in headers.files_metadata.values()
        for name, tensor in file.tensors.items()
    }
    return HubHeaders(Path(folder), shapes)
