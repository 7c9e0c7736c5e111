"""Large inputs of items: in a cell of their own, written once, however often the item's record is.

An item is put when something leads to it, and again when it is completed, held, retried or owned; its input stays the
same. With 64 KiB of it in the record, the second writing was half of all bytes that a chain of steps wrote.

Both cells are read as one snapshot. The record says that the input lies apart, which an older release takes for the
format of a newer one; inputs that it wrote into records are read as they are.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.records import InputKind, ItemInput, WorkItem

LARGE_INPUT_BYTES: Final = 4_096
"""An input of more bytes lies apart. A further cell costs a store about as much as to write 4 KiB once more."""


class Carried(bytes):
    """A payload of a step, as this process has it.

    Attributes:
        apart: The item as whose input it was put into a cell of its own, or read from there; empty of none.
    """

    apart: str = ""


def carried(payload: bytes) -> bytes:
    """Return a payload such that it can be noted where it was put, if it is large enough for that to matter."""
    return Carried(payload) if len(payload) > LARGE_INPUT_BYTES else payload


class Apart(bytes):
    """Stands in an item's record for an input that lies apart; empty."""


APART: Final = Apart()


def lies_apart(input_: ItemInput) -> bool:
    """Say whether an input goes into a cell of its own."""
    return len(input_.payload) > LARGE_INPUT_BYTES and input_.kind is InputKind.PAYLOAD


def without_input(item: WorkItem) -> WorkItem:
    """Return an item as its record is, where its input lies apart."""
    return replace(item, input=replace(item.input, payload=APART))


def mark_as_put(payload: bytes, item_id: WorkItemId) -> None:
    """Note that a payload is put apart as an item's input: whoever rewrites the item later leaves that as it is.

    That the commit may fail does no harm. An item is rewritten by commits that check its turn, and it has one only if
    this commit was applied, or another worker's whose record this process then reads.
    """
    if isinstance(payload, Carried) and not payload.apart:
        payload.apart = item_id


def is_put(payload: bytes, item_id: WorkItemId) -> bool:
    """Say whether the cell of an item's input has this payload, if the item is as this process knows it."""
    return isinstance(payload, Carried) and payload.apart == item_id
