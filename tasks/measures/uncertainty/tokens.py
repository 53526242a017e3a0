"""Next tokens as lists: what is asked where there is no task.

At :data:`POSITIONS` places of each perplexity window, evenly spread, the list is the
:data:`TOP` tokens that the dense model finds likeliest there, scored by logits. That the dense
model chooses them lets a member score them in its one pass. What is right is the text's own token;
how good a window's lists are is minus its mean loss there.

Shapes: ``N`` windows, ``L`` tokens of a window, ``P`` places, ``A`` candidates, ``T`` members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tasks.data.texts import Windows, load_tokens
from tasks.measures.base import Subject
from tasks.measures.computing import network
from tasks.measures.perplexity.measure import windows_of
from tasks.measures.uncertainty.judging import Judged
from tasks.measures.uncertainty.lidu import FORMS, Form, entropy, lidu, margin
from tasks.measures.uncertainty.ranks import spearman
from tasks.models.architecture.head import input_device
from tasks.models.next_tokens import halves_of
from tasks.store.steps import Facts, Step, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOP, POSITIONS = 20, 32
VERSION = 1
FILE = "scores.safetensors"


@dataclass(frozen=True)
class Scored:
    """
    Attributes:
        ids_NPA: candidates, those that the dense model finds likelier first.
        logits_NPA: float32.
        losses_NP: of the text's own next token, in nats.
        hit_NP: place of the text's own token among the candidates; −1 where it is none of them.
    """

    ids_NPA: Tensor
    logits_NPA: Tensor
    losses_NP: Tensor
    hit_NP: Tensor

    def save(self, path: Path) -> None:
        save_file({name: value.contiguous() for name, value in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path) -> Scored:
        return cls(**load_file(path))


def texts_of(subject: Subject) -> dict[str, Windows]:
    """Corpus → its windows, of every perplexity corpus."""
    entries = enumerate(subject.evaluation.perplexity)
    return {entry.name: windows_of(subject, index) for index, entry in entries}


def candidate_steps(dense: Subject) -> dict[str, Step]:
    """Corpus → the step that asks the dense model for the candidates."""
    return {
        name: Step(
            name="candidates",
            version=VERSION,
            inputs={"dtype": dense.dtype, "top": TOP, "places": POSITIONS},
            needs={"weights": dense.weights, "tokens": windows.step},
            produce=lambda work: _produce(work, dense),
            label=f"candidates {name}",
            group=dense.label,
        )
        for name, windows in texts_of(dense).items()
    }


def _produce(work: Work, dense: Subject) -> Facts:
    tokens_NL = load_tokens(work.need("tokens"))
    found = score(network(work, dense), tokens_NL, None, dense.evaluation.batch_size)
    found.save(work.out / FILE)
    return {"windows": len(tokens_NL)}


@torch.inference_mode()
def score(
    model: PreTrainedModel, windows_NL: Tensor, ids_NPA: Tensor | None, batch_size: int
) -> Scored:
    """Logits of the candidates at every place.

    Args:
        ids_NPA: the candidates; None: the model's own.
    """
    halves, device = halves_of(model), input_device(model)
    length = windows_NL.shape[1]
    places_P = torch.linspace(0, length - 2, min(POSITIONS, length - 1)).round().long()
    own: list[Tensor] = []
    logits: list[Tensor] = []
    losses: list[Tensor] = []
    for begin in range(0, len(windows_NL), batch_size if halves.split else 1):
        ids_BL = windows_NL[begin : begin + (batch_size if halves.split else 1)].long()
        states_BPX = halves.states(ids_BL.to(device))[:, places_P.to(device)]
        next_BP = ids_BL[:, places_P + 1].to(device)
        for states_PX, next_P in zip(states_BPX, next_BP, strict=True):
            logits_PV = halves.logits(states_PX).float()
            losses.append(functional.cross_entropy(logits_PV, next_P, reduction="none").cpu())
            if ids_NPA is None:
                top = min(TOP, logits_PV.shape[-1])
                own.append(logits_PV.argsort(dim=-1, descending=True, stable=True)[:, :top].cpu())
            chosen_PA = own[-1] if ids_NPA is None else ids_NPA[len(logits)]
            logits.append(logits_PV.gather(-1, chosen_PA.to(device)).cpu())
    found_NPA = torch.stack(own) if ids_NPA is None else ids_NPA
    same_NPA = found_NPA == windows_NL[:, places_P + 1].long()[..., None]
    hit_NP = torch.where(same_NPA.any(-1), same_NPA.int().argmax(-1), -1)
    return Scored(found_NPA, torch.stack(logits), torch.stack(losses), hit_NP)


def judge_tokens(
    members: Sequence[Scored], dense: Scored, *, form: Form, k: int
) -> tuple[list[Judged], float | None]:
    """Every place of a text, and Spearman of −U with minus the loss over its windows."""
    scores_NPTA = torch.stack([member.logits_NPA for member in members], dim=2)
    told = {f: lidu(scores_NPTA, k, form=f).values for f in FORMS}
    u_NP, others = told.pop(form), told
    others["std"] = scores_NPTA.double().std(2, unbiased=True).mean(-1)
    answers_NP = scores_NPTA.double().mean(2).argmax(-1)
    votes_NP = (scores_NPTA.argmax(-1) == answers_NP[..., None]).double().mean(-1)
    ahead_NP, spread_NP = margin(scores_NPTA), entropy(scores_NPTA)
    judged = [
        Judged(
            document=place,
            u=u,
            others={name: values.flatten()[place].item() for name, values in others.items()},
            entropy=spread_NP.flatten()[place].item(),
            margin=ahead_NP.flatten()[place].item(),
            answer=int(answers_NP.flatten()[place]),
            agrees=int(answers_NP.flatten()[place]) == 0,
            right=int(answers_NP.flatten()[place]) == int(dense.hit_NP.flatten()[place]),
            vote=votes_NP.flatten()[place].item(),
            tied=ahead_NP.flatten()[place].item() == 0,
        )
        for place, u in enumerate(u_NP.flatten().tolist())
    ]
    losses_N = torch.stack([member.losses_NP.mean(-1) for member in members]).mean(0)
    return judged, spearman(-u_NP.mean(-1), -losses_N)
