"""What readers of a result must know of how it was pruned: figures of a run as sentences."""

from __future__ import annotations

from collections.abc import Mapping

WITHOUT_TOKENS = "experts_without_tokens"
FEWEST_TOKENS, MEDIAN_TOKENS = "fewest_tokens_of_an_expert", "median_tokens_of_an_expert"
DAMPED_MORE = "hessians_damped_more"
LEAST, MOST = "least_of_a_block", "most_of_a_block"


def notes_of(figures: Mapping[str, float]) -> list[str]:
    """The sentences, in an order of their own; empty where there is nothing to tell.

    They are told of every row, whoever computed it: a warning is seen once, by whoever looks.
    """
    said = []
    if experts := figures.get(WITHOUT_TOKENS):
        said.append(
            f"no calibration token reached {experts:.0f} experts, which are pruned by the "
            "magnitude of their weights. More calibration windows reach more."
        )
    if fewest := figures.get(FEWEST_TOKENS):
        said.append(
            f"the least reached expert saw {fewest:.0f} calibration tokens, half of those reached "
            f"at most {figures[MEDIAN_TOKENS]:.0f}."
        )
    if hessians := figures.get(DAMPED_MORE):
        said.append(
            f"{hessians:.0f} Hessians were not positive definite in float32 with the damping "
            "that was asked for, and were damped more."
        )
    if MOST in figures:
        said.append(
            f"blocks lost from {figures[LEAST]:.3g} to {figures[MOST]:.3g} of their weights."
        )
    return said
