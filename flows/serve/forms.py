"""The Prefect form of a sweep, derived from the schema: nothing about a field is said again here.

Prefect makes a form from the JSON schema of a flow's signature. What its page shows badly is put in
another way: references are written out (a card with its own defaults), ``X | null`` becomes an X
that may stay empty, and every default is the one that pressing Run uses. Values are not validated
by these types but by the schema itself when the flow starts, with the command line's messages.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import WithJsonSchema

from configs.overrides import apply
from configs.schema import SweepConfig
from configs.yaml_file import load
from flows.serve.access import trust_allowed
from tasks.measures.registry import measures

QUICKSTART = "quickstart"
SETTINGS = "settings"
REQUIRED = ("name", "models", "methods", "targets")
SHOWN = {
    "": (*REQUIRED, "seeds", "calibration", "evaluation", "trust", SETTINGS),
    "Calibration": ("corpus", "samples", "sequence_length", "sampling"),
    "Corpus": ("source", "files"),
    "Evaluation": tuple(field for measure in measures().values() for field in measure.on_form),
    "Tasks": ("tasks",),
}
"""Part of a sweep → the fields that the page shows of it: what with what, how far, measured how.
All others can be sent as well, and are rows of the page's settings. A part that is not here is
shown as a whole."""
LEFT_OUT = ("reported",)
"""Nobody types a paper's figures into a page."""
_NOTHING: Any = object()


def quickstart() -> dict[str, Any]:
    """The preset's fields, but those that are empty, as plain data: the form's defaults."""
    fields = load(QUICKSTART).model_dump(mode="json")
    return {name: _filled(value) for name, value in fields.items()}


def form_schema() -> dict[str, dict[str, Any]]:
    """Field of a sweep → JSON schema for the form; ``trust`` only where the operator allows it."""
    schema = SweepConfig.model_json_schema()
    definitions, defaults, fields = schema["$defs"], quickstart(), schema["properties"]
    order = [*SHOWN[""], *(name for name in fields if name not in SHOWN[""])]
    return {
        name: _ROWS
        if name == SETTINGS
        else _shown(fields[name], definitions, defaults.get(name, _NOTHING))
        for name in order
        if name not in LEFT_OUT and (name != "trust" or trust_allowed())
    }


_ROWS = {
    "type": "array",
    "items": {"type": "string"},
    "default": [],
    "description": "Any other field, one a row: field=value, such as dtype=float32, "
    "on_overlap=refuse, options.swiftprune.tokens=4096 or calibration.corpus.dataset=NAME. "
    "`secateur methods` and `secateur measures` list them.",
}


def with_form(body: Callable[..., Any]) -> Callable[..., Any]:
    """``body``, which takes the fields as keywords, with the form as its signature."""
    fields, defaults = form_schema(), {**quickstart(), SETTINGS: []}
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults[name],
            annotation=Annotated[Any, WithJsonSchema(entry)],
        )
        for name, entry in fields.items()
    ]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Prefect takes the lines below the fields from the docstring.
    lines = [f"    {name}: {entry['description']}" for name, entry in fields.items()]
    body.__doc__ = "\n".join([inspect.getdoc(body) or "", "", "Args:", *lines])
    return body


def page(schema: Mapping[str, Any], shown: Collection[str], required: Collection[str]) -> Any:
    """A form as the page shows it, from the schema of all that can be sent.

    Args:
        required: what the page calls no option; whoever sends nothing for it has its default.
    """
    return _only(dict(schema), shown) | {"required": list(required)}


def _only(schema: dict[str, Any], shown: Collection[str]) -> dict[str, Any]:
    """The schema of the same data with some fields shown; a misspelt one is still refused."""
    properties = schema["properties"]
    hidden = {f"^{name}$": entry for name, entry in properties.items() if name not in shown}
    return {
        **schema,
        "properties": {name: entry for name, entry in properties.items() if name in shown},
        "additionalProperties": False,
        **({"patternProperties": hidden} if hidden else {}),
    }


def requested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep that a form asks for, with its rows of settings, as plain data.

    Raises:
        ConfigurationError: a row is no setting.
    """
    raw = given({name: value for name, value in fields.items() if name != SETTINGS})
    for setting in fields.get(SETTINGS) or ():
        raw = apply(raw, setting, None)
    return raw


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the form sent without what was left empty; an empty field has its default."""
    return {name: _filled(value) for name, value in fields.items() if not _empty(value)}


def _filled(node: Any) -> Any:
    if isinstance(node, Mapping):
        return given(node)
    if isinstance(node, list | tuple):
        return [_filled(entry) for entry in node]
    return node


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and not value)


def _shown(node: Mapping[str, Any], definitions: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """``node`` with references written out and ``default`` in the place where the page looks."""
    shown = copy.deepcopy(dict(node))
    shown.pop("default", None)
    optional = [entry for entry in shown.get("anyOf", ()) if entry.get("type") != "null"]
    if len(optional) == 1:
        del shown["anyOf"]
        shown = {**optional[0], **shown}
    if reference := shown.pop("$ref", ""):
        defined = definitions[reference.rpartition("/")[2]]
        shown = {**copy.deepcopy(dict(defined)), **shown}
    if properties := shown.get("properties"):
        values = default if isinstance(default, Mapping) else {}
        # A card that may stay empty has no defaults of its own: they would fill it in.
        blank = _NOTHING if default is None else None
        shown["properties"] = {
            name: _placed(entry, definitions, values, name, blank, position)
            for position, (name, entry) in enumerate(properties.items())
        }
        _without_empty_cards(shown)
        if (part := shown.get("title")) in SHOWN:
            shown = _only(shown, SHOWN[part])
    elif default is not None and default is not _NOTHING:
        shown["default"] = default
    for pattern, entry in shown.get("patternProperties", {}).items():
        shown["patternProperties"][pattern] = _shown(entry, definitions, _own(entry, definitions))
    if isinstance(shown.get("items"), dict):
        shown["items"] = _shown(shown["items"], definitions, _own(shown["items"], definitions))
    return shown


def _without_empty_cards(shown: dict[str, Any]) -> None:
    """Drop cards without a field, such as a method's without options; they may still be sent."""
    properties = shown["properties"]
    filled = {name: entry for name, entry in properties.items() if entry.get("properties") != {}}
    if len(filled) < len(properties):
        shown["properties"] = filled
        shown.pop("additionalProperties", None)


def _placed(
    entry: Mapping[str, Any],
    definitions: Mapping[str, Any],
    values: Mapping[str, Any],
    name: str,
    blank: Any,
    position: int,
) -> dict[str, Any]:
    value = blank if blank is _NOTHING else values.get(name)
    shown = _shown(entry, definitions, value)
    return {**shown, "title": name, "position": position}


def _own(item: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """The defaults of a row that the user adds to a list: those of the schema."""
    if "$ref" not in item:
        return None
    properties = definitions[item["$ref"].rpartition("/")[2]].get("properties", {})
    return {name: entry.get("default") for name, entry in properties.items()}
