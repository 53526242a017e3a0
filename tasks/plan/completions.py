"""Where completions alone are to count: refused where nothing can count them."""

from __future__ import annotations

from collections.abc import Iterable

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from tasks.models.sources.sources import ResolvedModel
from tasks.plan import encoders
from tasks.pruning.core.methods import Method

_EVERY = "Set loss: all to count every token"


def require_counted(
    config: SweepConfig, methods: Iterable[Method], models: Iterable[ResolvedModel]
) -> None:
    """Refuse ``loss: completion`` of a corpus that no loss is taken on, or by who counts all.

    Raises:
        ConfigurationError: naming the field.
    """
    learning = [method for method in methods if method.uses_training]
    own = config.training.corpus
    seen = "coreset" in config.samplings or (own is None and learning)
    if config.calibration.corpus.counts_completions and not seen:
        raise ConfigurationError(
            "calibration.corpus.loss",
            "completion",
            "only learning and a coreset's gradients take a loss, and here is neither: other "
            "calibration looks at what layers are fed, of every token",
            "Set calibration.sampling: coreset, or loss: all",
        )
    if not learning or not (own or config.calibration.corpus).counts_completions:
        return
    field = "calibration.corpus.loss" if own is None else "training.corpus.loss"
    for method in learning:
        if not method.counts_tokens:
            allowed = f"{method.name} learns from every token of its windows: all"
            raise ConfigurationError(field, "completion", allowed, _EVERY)
    for model in models:
        if encoders.is_one(model):
            allowed = f"{model.spec} is an encoder, which predicts no token: all"
            raise ConfigurationError(field, "completion", allowed, _EVERY)
