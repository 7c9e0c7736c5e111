"""Where items stand that wait for a worker that can run them, each among those of its kind."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote, unquote

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.set_aside import SET_ASIDE_PREFIX
from floxide_amqp.stores.keys import place_entry

Kind: TypeAlias = tuple[str, str, str]
"""Workflow, version and node: what a worker must have to run an item."""


def parked(queue: str) -> str:
    """The index of a task queue's items that wait for a worker with their workflow, version and node."""
    return f"parked:{queue}"


def kind_of_key(codec: str, key_id: str) -> Kind:
    """The kind of items that wait for a worker with a codec's key; no workflow has an empty name."""
    return "", codec, key_id


def parked_kind(kind: Kind) -> str:
    """What the entries of parked items of this workflow, version and node begin with; nothing else begins so."""
    return "".join(f"{quote(part, safe='')}/" for part in kind)


def parked_entry(kind: Kind, run_id: RunId, item_id: WorkItemId) -> str:
    """The entry of a parked item: those of one workflow, version and node lie together."""
    return parked_kind(kind) + place_entry(run_id, item_id)


def after_parked(kind: Kind) -> str:
    """An entry after every item of a kind and before those of every later one."""
    return parked_kind(kind)[:-1] + chr(ord("/") + 1)


def set_aside(workflow: str | None = None) -> tuple[str, str]:
    """Return `after` and `before` of the entries of items that were set aside: of a workflow's, or of all."""
    first = quote(SET_ASIDE_PREFIX, safe="")
    if workflow is None:
        return first, first[:-1] + chr(ord(first[-1]) + 1)
    first = f"{quote(SET_ASIDE_PREFIX + workflow, safe='')}/"
    return first, first[:-1] + chr(ord("/") + 1)


def kind_of(entry: str) -> tuple[Kind, str]:
    """The workflow, version and node of a parked item's entry, and the item's own part of it."""
    workflow, version, node, place = entry.split("/", 3)
    return (unquote(workflow), unquote(version), unquote(node)), place
