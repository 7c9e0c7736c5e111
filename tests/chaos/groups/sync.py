"""Group 11: a client without an event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from floxide_amqp import FloxideError, Hold, InvalidRunStateError, RunError, Signal, Workflow, WorkflowCtx, node
from floxide_amqp.sync import Client
from tests.chaos.groups.desk import AGAIN_SECONDS, Desk, Group

T = TypeVar("T")
STAMP = Signal("stamp", str)


@node
async def hand_in(ctx: WorkflowCtx, form: str) -> str | Hold:
    stamp = ctx.received(STAMP)
    return f"{form} with {stamp}" if stamp is not None else Hold(until=STAMP)


class HandingIn(Workflow[str, str], version="1"):
    start = hand_in
    signals = (STAMP,)


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Do all of it from a thread."""
    await asyncio.to_thread(_from_a_thread, desk, f"sync-{kind}-{number}")


def _from_a_thread(desk: Desk, run_id: str) -> None:
    with Client(desk.app) as client:
        _hand_in(desk, client, run_id)


def _hand_in(desk: Desk, client: Client, run_id: str) -> None:
    run = _ask(desk, lambda: client.start(HandingIn, run_id, run_id=run_id, attributes={"form": run_id}))
    desk.journal.write(f"started {run_id}")
    with suppress(InvalidRunStateError):  # a client before this one sent it
        is_new = _ask(desk, lambda: run.signal(STAMP, "a stamp", signal_id="stamp"))
        desk.tell("signalled", run_id, ["stamp", is_new])
    desk.tell("output", run_id, _ask(desk, run.result))
    found = _ask(desk, lambda: client.list_runs(attributes={"form": run_id}))
    desk.tell("listed", run_id, [each.run_id for each in found.runs])
    desk.tell("events", run_id, _ask(desk, lambda: [type(event).__name__ for event in client.events(run_id)]))


def _ask(desk: Desk, call: Callable[[], T]) -> T:
    while True:
        try:
            return call()
        except RunError:
            raise
        except FloxideError as error:
            desk.tell("refused", "-", f"sync: {type(error).__name__} {error}")
            time.sleep(AGAIN_SECONDS)


GROUP = Group(11, "sync", ("thread",), (HandingIn,), deed)
