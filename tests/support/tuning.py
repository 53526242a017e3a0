"""Examples that a network learns from, without a task, and tiny networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support import encoders

from configs.trust import Trust
from tasks.measures.tuning.batches import Batch, Encoded, Reading, batch_of, longest
from tasks.measures.tuning.draws import SharedDraws, draws_by_row, plain_attention
from tasks.measures.tuning.network import TaskNetwork
from tasks.models.load import load_model

CPU = torch.device("cpu")

COLUMNS = 3


def examples(count: int) -> list[Encoded]:
    """Of different lengths, read once, twice or three times."""
    draw = torch.Generator().manual_seed(0)
    told = []
    for number in range(count):
        ids = torch.randint(5, 40, (4 + number,), generator=draw).tolist()
        readings = tuple(
            Reading(place, place, range(COLUMNS), frozenset({(number + place) % COLUMNS}))
            for place in range(1 + number % 3)
        )
        told.append(Encoded(tuple(ids), readings, number, False))
    return told


def network_of(folder: Path, kind: str, device: torch.device = CPU, **changes: Any) -> TaskNetwork:
    """In training, with dropout as its family has it."""
    encoders.write(folder, kind, **changes)
    model = load_model(folder, torch.float32, device, Trust())
    network = TaskNetwork(model, COLUMNS, "last", torch.Generator().manual_seed(0))
    return network.train()


def _batch(part: list[Encoded], length: int, device: torch.device = CPU) -> Batch:
    return batch_of(part, length, COLUMNS, 0, device)


def by_row_of(network: TaskNetwork, device: torch.device = CPU) -> list[bool]:
    """Of each draw of the body, whether it is of examples."""
    first = examples(7)[0]
    return draws_by_row(lambda rows: network.states(_batch([first] * rows, len(first.ids), device)))


def require_rows_of_the_whole(network: TaskNetwork, device: torch.device, close: float) -> None:
    """Three processes drop, of their rows, what one drops of all."""
    whole = examples(7)
    length, by_row = longest(whole), by_row_of(network, device)
    owner_R = torch.tensor([row for row, entry in enumerate(whole) for _ in entry.readings])
    with torch.no_grad(), plain_attention(device):
        torch.manual_seed(3)
        wanted_RH = network.states(_batch(whole, length, device))
        assert not torch.equal(wanted_RH, network.states(_batch(whole, length, device)))
        for rank in range(3):
            mine = range(rank, len(whole), 3)
            torch.manual_seed(3)
            with SharedDraws(len(whole), mine, by_row):
                part = [whole[row] for row in mine]
                found_RH = network.states(_batch(part, length, device))
            here_R = torch.isin(owner_R, torch.tensor(list(mine))).to(device)
            torch.testing.assert_close(found_RH, wanted_RH[here_R], rtol=0, atol=close)
