"""Every decoder-only family of transformers: the walk is right, or the model is refused."""

from __future__ import annotations

import pytest
from support import families

_RIGHT = {
    *("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    *("gemma4_text", "vaultgemma", "cohere", "cohere2", "olmo2", "olmo3", "exaone4", "smollm3"),
    *("phi", "phi3", "gpt2", "gpt_neo", "gpt_neox", "opt", "bloom", "falcon", "granite"),
}


@pytest.mark.slow
def test_every_family_is_right_or_refused() -> None:
    outcomes: dict[str, list[str]] = {"right": [], "refused": [], "not built": []}
    wrong = []
    for family in families.names():
        try:
            outcomes[families.verdict_of(family).outcome].append(family)
        except Exception as error:  # noqa: BLE001 (all families are told at once)
            wrong.append(f"{family}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    assert set(outcomes["right"]) >= _RIGHT
    assert len(outcomes["right"]) + len(outcomes["refused"]) >= 140, outcomes["not built"]
