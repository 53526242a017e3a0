"""YAML as sweep files and ``--set`` may use it: plain, small, and read in a second at most."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

from configs.errors import ConfigurationError

MOST_CHARACTERS = 64_000
"""PyYAML is slow: what is longer would be read for seconds."""
DEEPEST = 20
_PLAIN = "it must be plain YAML: no tags, no anchors of lists or mappings, no <<, each key once"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``2:4`` is a text (YAML 1.1 reads 124) and a key may stand once.

    An alias that stands for a list or mapping, which may hold aliases itself, can grow without
    bounds: there are none.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise ComposerError(None, None, f"the tag {event.tag}", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent) and event.anchor:
            problem = "an anchor of a list or mapping; only a text's may be repeated"
            raise ComposerError(None, None, problem, event.start_mark)
        if self.depth > DEEPEST:
            problem = f"entries nested more than {DEEPEST} deep"
            raise ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


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


def parse(text: str, where: str) -> Any:
    """Plain data.

    Args:
        where: what an error's message begins with: the file, or the option.

    Raises:
        ConfigurationError: it is no plain YAML, too long, or nested too deep.
    """
    if len(text) > MOST_CHARACTERS:
        allowed = f"it may have {MOST_CHARACTERS:,} characters"
        raise ConfigurationError(where, f"{len(text):,} characters", allowed)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"{where}{place}", problem, _PLAIN) from None
