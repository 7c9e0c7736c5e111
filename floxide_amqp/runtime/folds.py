"""Folds: a join that is given what it gathers a page at a time; between the pages its state is in the store."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.outcomes import Folded
from floxide_amqp.core.records import InputKind
from floxide_amqp.core.reduce_node import Folding
from floxide_amqp.exceptions import CodecError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.payload_limits import check_payload
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.runs import PAGE
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_records import input_of

YIELD_EVERY: Final = 200
"""Values decoded before the event loop gets a turn."""

_END: Final = b"\n"
"""Between the arrival that a fold has come to and its state; no entry of an arrival has one."""


async def next_values(services: Services, admitted: Admitted, node: GraphNode) -> Folding:
    """Return what the next step of a fold is given.

    Raises:
        CodecError: The state cannot be read.
    """
    run_id, item, element = admitted.run.header.run_id, admitted.item, node.element
    if element is None:
        raise CodecError(f"Node {node.name!r} gathers nothing any more.")
    after, state = "", None
    if item.input.kind is InputKind.FOLD:
        entry, _, packed = input_of(services.sealing, run_id, item).partition(_END)
        after, state = entry.decode(), decode_stored(node.output, packed, f"What node {node.name!r} has folded")
    page = await services.runs.arrivals(run_id, item.input.opener, after=after, limit=PAGE)
    values: list[Any] = []
    for number, (_, payload) in enumerate(page):
        if number % YIELD_EVERY == YIELD_EVERY - 1:
            await asyncio.sleep(0)
        values.append(decode_stored(element, payload, f"What arrived at node {node.name!r}"))
    return Folding(
        state=state, values=values, is_first=not after, after=page[-1][0] if len(page) == PAGE else "",
    )  # fmt: skip


def so_far(services: Services, admitted: Admitted, node: GraphNode, folding: Folding, state: Any) -> Folded:
    """Return what a step of a fold came to that is not the last.

    Raises:
        PayloadMismatchError: The state is not of the type that the fold returns.
        PayloadTooLargeError: It is too large to be stored.
    """
    packed = encode_payload(node.output, state)
    check_payload(packed, services.limits, f"what node {node.name!r} has folded so far")
    return Folded(Unsealed(folding.after.encode() + _END + packed), admitted.item.input.number + len(folding.values))
