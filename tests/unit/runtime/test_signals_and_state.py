"""Who receives a signal sees what the step that sent it wrote to the run's context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from floxide_amqp import Context, Hold, Signal, Workflow, WorkflowCtx, all_of, node
from floxide_amqp.runtime import steps
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.step_mail import StepMail, read_mail
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

NEWS = Signal("news", str)


class Board(Context):
    number: int = 0


@node
async def begin(number: int) -> int:
    return number


@node
async def write(ctx: WorkflowCtx[Board], number: int) -> str:
    ctx.state.number = number
    ctx.signal(ctx.run_id, NEWS, f"it is {number}")
    return "written"


@node
async def hear(ctx: WorkflowCtx[Board], number: int) -> str | Hold:
    news = ctx.received(NEWS)
    return Hold(until=NEWS) if news is None else f"{news}, and {ctx.state.number} is seen"


@node
async def told(both: tuple[str, str]) -> str:
    return both[0]


class Telling(Workflow[int, str, Board]):
    start = begin
    edges = (begin >> (hear, write), all_of(hear, write) >> told)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_signal_that_comes_while_its_receiver_begins_is_not_older_than_what_its_sender_wrote(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    async def read_late(services: Services, admitted: Admitted) -> StepMail:
        run_id = admitted.run.header.run_id
        while admitted.item.node == "hear" and not (await services.mailbox.unread(run_id)).mail:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return await read_mail(services, admitted)

    monkeypatch.setattr(steps, "read_mail", read_late)
    here = cluster(Telling)
    for _ in range(workers):
        await here.start_worker()
    run = await here.client().start(Telling, 7, run_id="run")
    assert await run.result(60) == "it is 7, and 7 is seen"
    await here.check_completed("run")
