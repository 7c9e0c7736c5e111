"""An application whose runs stand still where a test wants them to, so that they can be moved half done."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from floxide_amqp import (
    Codec,
    Context,
    Encryption,
    EventLog,
    Floxide,
    Limits,
    NextAll,
    Timeouts,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)

GATE_VARIABLE = "FLOXIDE_TEST_GATE"
"""Names the file whose number says which items may end: those below it."""

ITEMS = 12
SECRET = "the crown jewels"


def gate() -> int:
    """Below which number items may end."""
    return int(Path(os.environ[GATE_VARIABLE]).read_text())


class Told(Context):
    said: str = ""
    log: EventLog[int] = EventLog()


@node
async def spread(ctx: WorkflowCtx[Told], said: str) -> NextAll[int]:
    ctx.state.said = said
    return NextAll(range(ITEMS))


@node
async def square(ctx: WorkflowCtx[Told], n: int) -> str:
    while n >= gate():  # noqa: ASYNC110 - a file says
        await asyncio.sleep(0.02)
    ctx.state.log.append(n)
    return f"{ctx.state.said} {n * n}"


@node
async def join(parts: list[str]) -> str:
    return ", ".join(parts)


class Squares(Workflow[str, str, Told]):
    start = spread
    edges = (spread >> square >> gather(join),)


EXPECTED = ", ".join(f"{SECRET} {n * n}" for n in range(ITEMS))


def an_app(*codecs: Codec) -> Floxide:
    return Floxide(
        workflows=[Squares],
        codec=codecs,
        limits=Limits(concurrency=200, context_snapshot=3),
        timeouts=Timeouts(
            heartbeat=0.4,
            maintenance=0.2,
            probe=0.5,
            drain=0.2,
            cancel_grace=0.2,
            early_acknowledge=0.3,
            dead_after=3.0,
        ),
    )


plain, sealed = an_app(), an_app(Encryption({"k": bytes(range(32))}))
