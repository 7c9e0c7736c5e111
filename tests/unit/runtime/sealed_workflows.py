"""Workflows with a secret in everything that a run keeps: input, output, context, error texts, notes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from floxide_amqp import (
    Append,
    Context,
    EventLog,
    FailureInfo,
    Hold,
    NextAll,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)

SECRET = "correct horse battery staple"


class Told(Context):
    said: str = ""
    log: EventLog[str] = EventLog()
    parts: Annotated[list[str], Append()] = []


class WrongError(Exception):
    pass


@node
async def split(ctx: WorkflowCtx[Told], text: str) -> NextAll[str]:
    ctx.state.said = text
    return NextAll(f"{text} {n}" for n in range(4))


@node
async def part(ctx: WorkflowCtx[Told], text: str) -> str:
    ctx.state.parts = [*ctx.state.parts, text]
    if text.endswith("3"):
        raise WrongError(f"part: {text}")
    return text


@node
async def rescue(ctx: WorkflowCtx[Told], text: str) -> str:
    assert isinstance(ctx.failure, FailureInfo)
    assert ctx.failure.message == f"part: {text}"
    return f"{text} rescued because of {ctx.failure.message}"


@node
async def total(ctx: WorkflowCtx[Told], texts: list[str]) -> str:
    return "+".join(texts)


@node
async def wait(ctx: WorkflowCtx[Told], text: str) -> str | Hold:
    if ctx.state.log:
        return text
    ctx.state.log.append(text)
    return Hold(for_=timedelta(seconds=5))


@node
async def end(text: str) -> str:
    return text


class Everything(Workflow[str, str, Told]):
    """A fan-out, a fallback inside it, a join, a hold."""

    start = split
    edges = (
        split >> part >> gather(total),
        part.on_failure(WrongError) >> rescue >> gather(total),
        total >> wait >> end,
    )


EXPECTED = "+".join([*(f"{SECRET} {n}" for n in range(3)), f"{SECRET} 3 rescued because of part: {SECRET} 3"])


@node
async def failing(ctx: WorkflowCtx[Told], text: str) -> str:
    raise WrongError(f"I will not tell {text}")


class Failing(Workflow[str, str, Told]):
    start = failing


@node
async def one(text: str) -> str:
    return text


@node
async def two(text: str) -> str:
    return text


class Two(Workflow[str, str]):
    start = one
    edges = (one >> two,)
