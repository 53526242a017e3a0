"""What can be told of a plan before anything is computed: room for windows, text enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from configs.errors import ConfigurationError
from tasks.data import windows as token_windows
from tasks.data.texts import Windows, cut_once
from tasks.measures.registry import measures
from tasks.models.errors import UnsupportedModelError
from tasks.models.examine import contents_by_configuration, contents_by_headers, contents_of
from tasks.models.load import is_encoder, load_config, load_tokenizer
from tasks.models.prepare import needs_preparation, read_config, read_tokenizer, whole_config
from tasks.models.sources.hub_headers import HubHeaders, fetch_headers
from tasks.models.sources.sources import Contents, ResolvedModel
from tasks.plan.plan import ModelPlan, Plan, steps_of
from tasks.plan.possible import asks_contents
from tasks.store.context import Context


def check_plan(plan: Plan, context: Context, *, download: bool) -> dict[str, ResolvedModel]:
    """Make sure that every corpus is long enough and every measure can be computed.

    Args:
        download: ask the hub for configurations, tokenizers and the weights' headers of models that
            are not on this machine; else they go unchecked.

    Returns:
        Models of which more is known than the plan knows: plan again with them.

    Raises:
        ConfigurationError: naming the field, and how much there is.
    """
    learned: dict[str, ResolvedModel] = {}
    for index, model in enumerate(plan.models):
        windows = plan.windows(model)
        missing = [entry for entry in windows if not _there(entry, context)]
        unmeasured = any(context.find(step) is None for step in steps_of(model.measured))
        if model.model.kind == "hub" and not model.model.path and not download:
            continue
        unpruned = any(
            context.find(cell.pruned) is None for cell in plan.cells if cell.model is model
        )
        untold = model.model.contents is None and asks_contents(plan.config)
        if missing or unmeasured or (untold and unpruned):
            contents = _check_model(plan, index, missing, context)
            if contents != model.model.contents:
                learned[model.spec] = replace(model.model, contents=contents)
        for entry in windows:
            if entry.field.startswith("evaluation."):
                _check_processes(plan, entry, context)
    return learned


def _there(windows: Windows, context: Context) -> bool:
    """Whether the store has the windows, and as many as are asked for."""
    found = context.find(windows.step)
    return found is not None and windows.enough(found.facts["windows"])


def _check_model(
    plan: Plan, index: int, missing: list[Windows], context: Context
) -> Contents | None:
    """What the model's headers tell, of a hub's model once it is here."""
    model = plan.models[index]
    contents = model.model.contents
    try:
        headers = _headers(model, index, context)
        if contents is None:
            contents = _contents_of(plan, index, headers, context)
        config, tokenizer = _texts_side(model, headers, context)
    except UnsupportedModelError as error:
        raise ConfigurationError(
            f"models[{index}]", model.spec, f"this model cannot be used: {error}"
        ) from error
    for measure in measures().values():
        measure.check(model.subject, config)
    rows = contents.vocabulary if contents else token_windows.text_setting(config, "vocab_size")
    for windows in missing:
        token_windows.check_length(config, windows.length, f"{windows.field}.sequence_length")
        made = cut_once(context, windows, tokenizer, is_encoder(config)).windows_NL
        token_windows.check_vocabulary(
            made, rows, tokenizer, field=f"models[{index}]", given=model.spec, text=windows.name
        )
    return contents


def _headers(model: ModelPlan, index: int, context: Context) -> HubHeaders | None:
    """What is fetched of a hub's model before its weights are."""
    if model.model.kind != "hub" or model.model.path:
        return None
    field, revision = f"models[{index}]", model.model.revision
    return fetch_headers(model.spec, revision, field=field, trust=context.trust)


def _contents_of(
    plan: Plan, index: int, headers: HubHeaders | None, context: Context
) -> Contents | None:
    """Of a hub's model from its headers; of others from the configuration, where it is asked."""
    model, exclude, trust = plan.models[index], plan.config.exclude, context.trust
    field, given = f"models[{index}]", model.spec
    if headers:
        return contents_by_headers(
            headers.folder, headers.shapes, trust, exclude, field=field, given=given
        )
    if model.model.kind == "hub":
        folder = context.make(model.subject.weights).path
        return contents_of(folder, trust, exclude, field=field, given=given)
    if not asks_contents(plan.config):  # to read all of a GGUF file's header takes seconds
        return None
    found = context.find(model.subject.weights)
    config = load_config(found.path, trust) if found else whole_config(model.model)
    return contents_by_configuration(config, trust, exclude, given=given)


def _texts_side(model: ModelPlan, headers: HubHeaders | None, context: Context) -> tuple[Any, Any]:
    """(configuration, tokenizer) without the weights; of a GGUF file, from its header."""
    if headers:
        folder = headers.folder
    elif context.find(model.subject.weights) is None and needs_preparation(model.model):
        return read_config(model.model), read_tokenizer(model.model)
    else:
        folder = context.make(model.subject.weights).path
    return load_config(folder, context.trust), load_tokenizer(folder, context.trust)


def _check_processes(plan: Plan, windows: Windows, context: Context) -> None:
    """That every evaluation process has a window."""
    processes = plan.config.evaluation.processes or 1
    if processes == 1:
        return
    stored = context.find(windows.step)
    count = stored.facts["windows"] if stored else len(cut_once(context, windows, None).windows_NL)
    if processes > count:
        raise ConfigurationError(
            "evaluation.processes",
            processes,
            f"{windows.name} has {count} windows: at most {count}",
        )
