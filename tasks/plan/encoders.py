"""What a sweep may ask of encoders, told before anything of it is fetched."""

from __future__ import annotations

from collections.abc import Sequence

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from tasks.measures.registry import measures
from tasks.models.load import is_encoder_type
from tasks.models.sources.sources import ResolvedModel
from tasks.plan.plan import ModelPlan
from tasks.pruning.core.methods import Method


def is_one(model: ResolvedModel) -> bool:
    """Whether a model is an encoder; of the hub's, before it is here, by its type."""
    if model.contents is not None:
        return model.contents.encoder
    return is_encoder_type(model.model_type)


def require_measurable(config: SweepConfig, models: Sequence[ResolvedModel]) -> None:
    """Refuse what no encoder has: the prediction of a next token.

    Raises:
        ConfigurationError: naming the field.
    """
    for index, model in enumerate(models):
        if not is_one(model):
            continue
        if "coreset" in config.samplings:
            raise ConfigurationError(
                "selections" if config.selections else "calibration.sampling",
                "coreset",
                f"{model.spec} is an encoder, which predicts no next token, and that loss chooses "
                "a coreset: contiguous, random or spread",
            )
        for measure in measures().values():
            if setting := measure.asks_of_encoders(config.evaluation):
                field = setting.partition("=")[0]
                raise ConfigurationError(
                    f"models[{index}]",
                    model.spec,
                    f"it is an encoder, which predicts no next token: {field} needs a decoder",
                    f"Set {setting} and measure {_suggested('encoders')}",
                )


def _suggested(whose: str) -> str:
    """The field of the measure that whoever asks for none is pointed to."""
    found = next(name for name, measure in measures().items() if measure.suggested_for == whose)
    return f"evaluation.{found}"


def refusal(method: Method, length: int) -> str:
    """Why a method prunes no encoder; empty where it does.

    Args:
        length: tokens of a training window. An encoder's begins and ends as its tokenizer frames a
            text, and pieces of it would not.
    """
    if method.refuses_encoders:
        return f"{method.name}: {method.refuses_encoders}"
    sequence = method.training_length
    if method.cuts_training and sequence != length:
        return (
            f"{method.name} learns from sequences of {sequence} tokens, and an encoder's training "
            f"windows, here of {length}, are not cut: set training.sequence_length={sequence}"
        )
    return ""


def require_measured(model: ModelPlan) -> None:
    """Refuse a sweep that prunes a model and measures nothing of it.

    Raises:
        ConfigurationError: no measure looks at it.
    """
    if all(measures()[name].always for name in model.measured):
        measure = _suggested("encoders" if is_one(model.model) else "decoders")
        raise ConfigurationError(
            "evaluation",
            "nothing",
            f"no measure of this sweep looks at {model.spec}, which it prunes",
            f"Ask for {measure}, or another of those that secateur measures lists",
        )
