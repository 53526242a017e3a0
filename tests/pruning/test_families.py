"""Every decoder-only family of transformers: the walk is right, or the model is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import families

TABLE = Path(__file__).parents[1] / "benchmarks" / "families.md"
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
    # What the table promises, as long as transformers still has the family.
    promised = set(re.findall(r"^\| (\S+) \| \S+ \| right \|", TABLE.read_text(), re.MULTILINE))
    assert len(promised) >= 30
    assert not promised & set(families.names()) - set(outcomes["right"])
