"""Which methods can prune which models to which targets."""

from __future__ import annotations

from itertools import product

from configs.schema import SweepConfig
from tasks.models.sources.sources import Contents, ResolvedModel
from tasks.plan import encoders
from tasks.pruning.core.methods import Method
from tasks.pruning.core.targets import SemiStructured, Target


def impossible(method: Method, target: Target, model: ResolvedModel, length: int) -> str | None:
    """Why a method cannot prune a model to a target; None where nothing speaks against it.

    Args:
        length: tokens of a training window.
    """
    if reason := method.refuses(target):
        return reason
    if encoders.is_one(model) and (reason := encoders.refusal(method, length)):
        return reason
    return _misfit(method, target, model.contents) if model.contents else None


def asks_contents(config: SweepConfig) -> bool:
    """Whether a sweep cannot be planned without what models' headers or configurations tell."""
    methods = [config.method(name) for name in config.entries]
    return bool(config.exclude) or any(
        (method.structured or isinstance(target, SemiStructured)) and not method.refuses(target)
        for method, target in product(methods, config.parsed_targets())
    )


def _misfit(method: Method, target: Target, contents: Contents) -> str | None:
    """Why a model's parts or sizes are none that a method and a target take."""
    if method.structured and contents.unstructured:
        return f"{method.name} removes heads and channels: {contents.unstructured}"
    if isinstance(target, SemiStructured):
        odd = [str(width) for width in contents.widths if width % target.group]
        if odd:
            return f"{target} needs rows of a multiple of {target.group}; some have {odd[0]}"
    return None
