"""Reads a sweep file: YAML, then ``--set``, then validation, with errors that name the field.

Relative paths are made absolute here, relative to the sweep file, or to the working folder when
they come with ``--set``; nothing after this depends on where it runs.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import ConfigurationError
from configs.schema import SweepConfig, Variant

PRESETS = Path(__file__).parent / "presets"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``2:4`` is a text (YAML 1.1 reads 124) and a key may stand once."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(r"[-+]?(0|[1-9][0-9_]*)$") if tag.endswith(":int") else pattern)
        for tag, pattern in resolvers
        if not tag.endswith((":float", ":timestamp"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"a field's name must be a text, not {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"{key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return {
        loader.construct_object(k, deep=True): loader.construct_object(v, deep=True)
        for k, v in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def presets() -> dict[str, Path]:
    """The sweep files that come with the package, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def find(name: str) -> Path:
    """A sweep file by path, or a preset by name.

    Raises:
        ConfigurationError: when there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = presets()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else ""
    allowed = f"it must be a sweep file that exists, or a preset: {', '.join(known)}"
    raise ConfigurationError("CONFIG.yaml", name, allowed, hint)


def load(name: str, settings: Iterable[str] = ()) -> SweepConfig:
    """Read and validate a sweep; as :func:`read`, then :func:`validate`."""
    return validate(read(name, settings, base=Path.cwd()))


def read(name: str, settings: Iterable[str] = (), *, base: Path | None) -> dict[str, Any]:
    """Read a sweep file as plain data, not validated.

    Args:
        name: path of a sweep file, or the name of a preset.
        settings: ``dotted.field=value`` entries; the value is YAML, so lists work.
        base: what relative paths in ``settings`` are relative to; None leaves them as they are.

    Raises:
        ConfigurationError: for what cannot be read, is no YAML, or names a list entry not there.
    """
    path = find(name)
    try:
        raw = _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "CONFIG.yaml", path, "it must be a UTF-8 text file that can be read", str(error)
        ) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(
            "CONFIG.yaml", raw, "a sweep file is a mapping of fields such as 'name: my-sweep'"
        )
    raw = _absolute(raw, path.resolve().parent)
    for setting in settings:
        raw = _apply(raw, setting, base)
    return raw


def validate(raw: Mapping[str, Any]) -> SweepConfig:
    """Validate an already parsed sweep.

    Raises:
        ConfigurationError: naming the first wrong field, and how many more there are.
    """
    try:
        return SweepConfig.model_validate(raw)
    except ValidationError as error:
        raise _translated(error) from None


def dump(config: SweepConfig) -> str:
    """The sweep as YAML that :func:`load` reads back to an equal sweep."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(
            f"{where}{place}", problem, "it must be plain YAML: no python tags, each key once"
        ) from None


def looks_like_path(spec: str) -> bool:
    """Whether a model's or data set's name is meant as a local path."""
    return spec.startswith((".", "/", "~")) or "\\" in spec or spec.endswith(".gguf")


def _absolute(raw: Any, base: Path) -> Any:
    """A copy of ``raw`` whose local paths are absolute."""
    raw = copy.deepcopy(raw)

    def resolve(text: Any) -> Any:
        return str((base / Path(text).expanduser()).absolute()) if isinstance(text, str) else text

    def is_local(text: Any) -> bool:
        return isinstance(text, str) and (looks_like_path(text) or (base / text).is_dir())

    def visit(node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return {name: visit(value, str(name)) for name, value in node.items()}
        if isinstance(node, list):
            return [visit(value, key) for value in node]
        # A builder such as json reads local files; a hub data set's files lie in its repository.
        if key == "data_files" and looks_like_path(str(node)):
            return resolve(node)
        if key == "files" or (key in ("models", "dataset") and is_local(node)):
            return resolve(node)
        if key == "include_path" and node is not None:
            return resolve(node)
        return node

    return visit(raw, "")


def _apply(raw: dict[str, Any], setting: str, base: Path | None) -> dict[str, Any]:
    field, separator, text = setting.partition("=")
    keys = [key for key in re.split(r"\.|\[(\d+)\]", field.strip()) if key]
    if not separator or not keys:
        raise ConfigurationError("--set", setting, "write field=value, such as seeds=[0,1]")
    value: Any = _parse(text, f"--set {field}") if text.strip() else ""
    for key in reversed(keys):
        value = {key: value}
    if base is not None:
        value = _absolute(value, base)
    return _merge(raw, value, keys, field, SweepConfig)


def _merge(
    target: Any, change: Any, keys: list[str], field: str, schema: type[BaseModel] | None
) -> Any:
    """``target`` with the one value that ``change`` holds at ``keys`` put in."""
    key, rest = keys[0], keys[1:]
    if isinstance(target, list):
        if not key.isdigit() or int(key) >= len(target):
            raise ConfigurationError(
                f"--set {field}", key, f"this list has entries 0 to {len(target) - 1}"
            )
        result: Any = list(target)
        index: Any = int(key)
        current = result[index]
    else:
        result = dict(target) if isinstance(target, dict) else {}
        index = key
        current = result.get(key, _default(schema, key) if rest else None)
    inner = _model_of(schema, key)
    result[index] = _merge(current, change[key], rest, field, inner) if rest else change[key]
    return result


def _default(schema: type[BaseModel] | None, key: str) -> Any:
    """The default of a field as plain data, so that --set can change one entry of it."""
    entry = schema.model_fields.get(key) if schema else None
    if entry is None or entry.is_required():
        return {}
    default = entry.default
    if isinstance(default, BaseModel):
        return {}
    if isinstance(default, tuple):
        return [
            item.model_dump(mode="json") if isinstance(item, BaseModel) else item
            for item in default
        ]
    return {}


def _model_of(schema: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    entry = schema.model_fields.get(key) if schema else None
    default = entry.default if entry else None
    return type(default) if isinstance(default, BaseModel) else None


def _translated(error: ValidationError) -> ConfigurationError:
    # A misspelt field explains a missing one, so it is told first.
    problems = sorted(
        error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    first = problems[0]
    field = _dotted(first["loc"]) or "sweep"
    hint = _nearest(first)
    others = [_dotted(p["loc"]) for p in problems[1:] if first["loc"][: len(p["loc"])] != p["loc"]]
    if others:
        hint = f"{hint} Also wrong: {', '.join(dict.fromkeys(others))}".strip()
    given = first["input"] if first["type"] != "missing" else None
    allowed = _allowed(first)
    if not first["loc"] and (named := re.match(r"(variants\.[^:]+): (.*)", allowed, re.DOTALL)):
        # A validator of the whole sweep names its field itself.
        field, given, allowed = named[1], None, named[2]
    return ConfigurationError(field, given, allowed, hint)


def _dotted(location: tuple[int | str, ...]) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in location))


def _allowed(problem: Any) -> str:
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        known = ", ".join(_siblings(problem["loc"])) or "none"
        return f"there is no such field; the fields here are: {known}"
    if kind == "string_pattern_mismatch":
        return "it takes letters, digits, dot, dash and underscore, at most 64, no leading dot"
    if kind == "literal_error":
        return f"it must be {problem['ctx']['expected']}"
    if kind == "missing":
        return "this field is required"
    if kind == "too_short":
        return "the list needs at least one entry"
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    schema: Any = SweepConfig
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        entry = getattr(schema, "model_fields", {}).get(part)
        if entry is None:
            return list(Variant.model_fields)  # below a variant's own name
        default = entry.default
        if isinstance(default, tuple) and default:
            default = default[0]
        schema = type(default)
    return list(getattr(schema, "model_fields", Variant.model_fields))


def _nearest(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        wrong, known = str(problem["loc"][-1]), _siblings(problem["loc"])
    elif problem["type"] == "literal_error":
        wrong = str(problem["input"])
        known = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
    else:
        return ""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
