"""A home for tasks, and no way to the hub."""

from __future__ import annotations

import datasets.config
import pytest
from huggingface_hub import constants


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No network, caches of the tests' own, and one listing of the harness's tasks for all."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("SECATEUR_HOME", str(base / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", base / "datasets")
