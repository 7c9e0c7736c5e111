"""Which keys of a JSON document its type does not have: pydantic drops them, and a misspelt field with them.

Only what can be told for sure is reported: a model that allows extra keys, rewrites its input or has an alias that is
no plain name is taken at its word.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import BaseModel

from floxide_amqp.core.shapes import Shape

UNREAD: Final = object()
"""In place of a value that is not there: the document does not fit its type, or the type rewrote this part."""


def unknown_keys(shape: Shape, document: object, value: object = UNREAD, place: str = "") -> list[str]:
    """Return a sentence for every key of a document that its type does not have.

    Args:
        shape: The type.
        document: What the JSON text says, as ``json.loads`` returns it.
        value: What was read from it; decides which member of a union is meant.
        place: Where in the document this part stands: ``items.0``.
    """
    if shape.kind == "union":
        return _of_union(shape, document, value, place)
    if isinstance(document, dict):
        members = cast("dict[str, object]", document)
        if shape.kind == "record":
            return _of_record(shape, members, value, place)
        if shape.kind == "dict":
            return _joined(
                unknown_keys(shape.items[1], part, _read(value, key), _below(place, key))
                for key, part in members.items()
            )
    if isinstance(document, list) and shape.items:
        parts = cast("list[object]", document)
        if shape.is_fixed:
            shapes: Sequence[Shape] = shape.items
        elif shape.kind in {"list", "tuple", "sequence", "set", "frozenset"}:
            shapes = shape.items * len(parts)
        else:
            return []
        read = cast("list[object]", value) if isinstance(value, list | tuple) else []
        values: list[object] | None = read if len(read) == len(parts) else None
        return _joined(
            unknown_keys(inner, part, UNREAD if values is None else values[index], _below(place, index))
            for index, (inner, part) in enumerate(zip(shapes, parts, strict=False))
        )
    return []


def _of_union(shape: Shape, document: object, value: object, place: str) -> list[str]:
    """The member that is meant is one that the value belongs to; of several, the one that knows most of the keys."""
    fitting = [inner for inner in shape.items if value is UNREAD or isinstance(value, inner.runtime)]
    found = [unknown_keys(inner, document, value, place) for inner in fitting]
    return min(found, key=len) if found else []


def _of_record(shape: Shape, document: Mapping[str, object], value: object, place: str) -> list[str]:
    names = _names_by_key(shape)
    if names is None:
        return []
    found = [_sentence(key, names, shape, place) for key in document if key not in names]
    for key, part in document.items():
        if key in names:
            name = names[key]
            found += unknown_keys(shape.fields[name][0], part, _read(value, name), _below(place, key))
    return found


def _names_by_key(shape: Shape) -> dict[str, str] | None:
    """Return the fields of a record by the keys that are read for them; None where any key may mean something."""
    owner: Any = shape.runtime if shape.runtime is not dict else shape.annotation
    config: Any = getattr(owner, "model_config", None) or getattr(owner, "__pydantic_config__", None) or {}
    decorators: Any = getattr(owner, "__pydantic_decorators__", None)
    rewrites = decorators is not None and any(d.info.mode != "after" for d in decorators.model_validators.values())
    if config.get("extra") == "allow" or rewrites:
        return None
    names = {name: name for name in shape.fields}
    fields: Mapping[str, Any] = getattr(owner, "__pydantic_fields__", {})
    for name, field in fields.items():
        alias = field.validation_alias or field.alias
        if alias is not None and not isinstance(alias, str):
            return None
        if alias is not None and name in shape.fields:
            names[alias] = name
    return names


def _sentence(key: str, names: Mapping[str, str], shape: Shape, place: str) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    owner = getattr(shape.annotation, "__name__", None) or shape.runtime.__name__
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names) or 'none'}"
    return f"{_below(place, key)}: {owner} has no field of this name, {hint}"


def _read(value: object, name: str) -> object:
    """Return the part of a value under a name."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value).get(name, UNREAD)
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return getattr(value, name, UNREAD)
    return UNREAD


def _below(place: str, step: object) -> str:
    return f"{place}.{step}" if place else str(step)


def _joined(parts: Iterable[list[str]]) -> list[str]:
    return [sentence for part in parts for sentence in part]
