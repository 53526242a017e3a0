"""A coreset as a file of JSON lines, for those who calibrate or train elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.compression.coresets import ChosenWindows, load_picks
from tasks.data.texts import load_counted, load_tokens
from tasks.models.load import load_tokenizer
from tasks.store.context import Context
from tasks.store.files import write_atomically
from tasks.store.needs import needed_meanwhile
from tasks.store.steps import Facts, walk


def budget_of(text: str, pool: int) -> int:
    """How many windows ``32`` or ``5%`` of a pool are; of a share at least one.

    Raises:
        ConfigurationError: it is neither, nothing, or more than the pool.
    """
    allowed = f"a number of windows from 1 to the {pool} of the pool, or per cent of it: 32, 5%"
    try:
        wanted = float(text.removesuffix("%"))
    except ValueError:
        raise ConfigurationError("--budget", text, allowed) from None
    share = text.endswith("%")
    if not math.isfinite(wanted) or wanted <= 0 or not (share or wanted.is_integer()):
        raise ConfigurationError("--budget", text, allowed)
    count = max(1, round(pool * wanted / 100)) if share else int(wanted)
    if count > pool or (share and wanted > 100):
        raise ConfigurationError("--budget", text, allowed)
    return count


def write_coreset(chosen: ChosenWindows, budget: str | None, to: Path, context: Context) -> Facts:
    """Choose and write the windows: text, tokens, where they are from and what they stand for.

    Where completions alone are counted, ``counted`` says 1 or 0 of each token. What is computed for
    it stays in the store until the next ``gc`` after it.

    Args:
        budget: see :func:`budget_of`; None for as many as the sweep file says.

    Raises:
        ConfigurationError: for a budget that the pool cannot meet.
    """
    with needed_meanwhile(walk([chosen.pool.step])):
        pool = context.make(chosen.pool.step)
        if budget is not None:
            chosen = replace(chosen, count=budget_of(budget, pool.facts["windows"]))
        with needed_meanwhile(walk([chosen.step])):
            return _write(chosen, to, context)


def _write(chosen: ChosenWindows, to: Path, context: Context) -> Facts:
    found = context.make(chosen.step)
    tokenizer = load_tokenizer(context.make(chosen.pool.model).path, context.trust)
    prefix = len(found.facts["prefix"])
    windows, counted_NL = load_tokens(found).tolist(), load_counted(found)

    def lines() -> Iterator[str]:
        for number, (pick, tokens) in enumerate(zip(load_picks(found), windows, strict=True)):
            line: dict[str, Any] = {**pick, "text": tokenizer.decode(tokens[prefix:])}
            line["tokens"] = tokens
            if counted_NL is not None:
                line["counted"] = counted_NL[number].int().tolist()
            yield json.dumps(line, ensure_ascii=False) + "\n"

    write_atomically(to, "".join(lines()).encode())
    return found.facts
