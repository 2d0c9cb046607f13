"""What a configuration key allows, in words.

The models state types and ranges once; their JSON schema is walked here along a key, so that an error, `config show`
and the parsing of environment variables all say and do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from aml100.config.models import Section


class Keys(NamedTuple):
    """Names that an object has; `is_open` where it takes names of the operator's own."""

    names: tuple[str, ...]
    is_open: bool


@dataclass(frozen=True, slots=True)
class FieldWords:
    """A key for people: what it is for, what it allows, and whether its value is text."""

    description: str
    allowed: str
    is_text: bool


def keys_at(model: type[Section], key: Sequence[str], tree: Mapping[str, Any]) -> Keys | None:
    """The keys of the object at `key`; None where no object stands there. `tree` fills in names of open objects."""
    node = _node_at(model, key)
    if node is None or node.get("type") != "object":
        return None
    if "properties" in node:
        return Keys(tuple(node["properties"]), is_open=False)
    value: Any = tree
    for word in key:
        value = value.get(word) if isinstance(value, dict) else None
    names = tuple(str(name) for name in value) if isinstance(value, dict) else ()
    return Keys(names, is_open=_resolve(model, node["additionalProperties"]).get("type") != "object")


def field_at(model: type[Section], key: Sequence[str]) -> FieldWords:
    """Words of the value at `key`; of an unknown key, empty ones."""
    node = _node_at(model, key)
    if node is None:
        return FieldWords("", "nothing of that name", is_text=False)
    options = node.get("anyOf", [node])
    is_text = any(option.get("type") == "string" for option in options)
    return FieldWords(str(node.get("description", "")), _allowed(node), is_text)


def allowed_at(model: type[Section], key: Sequence[str]) -> str:
    """What may stand at `key`, as `a number from 0 to 100`."""
    return field_at(model, key).allowed


@cache
def _schema(model: type[Section]) -> dict[str, Any]:
    return model.model_json_schema()


def _resolve(model: type[Section], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    if reference is None:
        return node
    target = _schema(model)["$defs"][str(reference).rpartition("/")[2]]
    return {**target, **{name: value for name, value in node.items() if name != "$ref"}}


def _node_at(model: type[Section], key: Sequence[str]) -> dict[str, Any] | None:
    node: dict[str, Any] = _schema(model)
    for word in key:
        child = node.get("properties", {}).get(word)
        if child is None:
            child = node.get("additionalProperties")
        if not isinstance(child, dict):
            return None
        node = _resolve(model, child)
    return node


def _allowed(node: Mapping[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(_allowed(option) for option in node["anyOf"])
    if "enum" in node:
        return ", ".join(f'"{value}"' for value in node["enum"])
    kind = node.get("type")
    if kind in ("number", "integer"):
        noun = "a number" if kind == "number" else "a whole number"
        return f"{noun}{_range(node)}"
    words = {"boolean": "true or false", "string": "text", "null": "null", "object": "an object of keys"}
    pattern = f" that matches {node['pattern']}" if "pattern" in node else ""
    return words.get(str(kind), str(kind)) + pattern


def _range(node: Mapping[str, Any]) -> str:
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    parts = []
    if low is not None:
        parts.append(f"from {low:.13g}")
    if above is not None:
        parts.append(f"above {above:.13g}")
    if high is not None:
        parts.append(f"to {high:.13g}")
    if below is not None:
        parts.append(f"below {below:.13g}")
    return f" {' '.join(parts)}" if parts else ""
