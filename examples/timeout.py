"""Timeouts: of one attempt of a node, and of a whole run, waiting included."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from floxide_amqp import Context, Hold, NodeTimeoutError, RunTimeoutError, Workflow, WorkflowCtx, node


@node(timeout=0.05)
async def ask_the_oracle(ctx: WorkflowCtx[Context], question: str) -> str:
    if question.endswith("?"):
        await ctx.sleep(3_600)
    return "yes"


@node
async def guess(ctx: WorkflowCtx[Context], question: str) -> str:
    assert ctx.failure is not None
    return f"{question} perhaps ({ctx.failure.message})"


class Oracle(Workflow[str, str]):
    start = ask_the_oracle
    edges = (ask_the_oracle.on_failure(NodeTimeoutError) >> guess,)


@node
async def wait_for(name: str) -> str | Hold:
    return Hold(for_=timedelta(days=1)) if name == "Godot" else f"{name} came"


class Waiting(Workflow[str, str], timeout=0.5):
    start = wait_for


async def main() -> list[str]:
    told = [await Oracle.run("now!"), await Oracle.run("when?"), await Waiting.run("Pozzo")]
    try:
        await Waiting.run("Godot")
    except RunTimeoutError as error:
        told.append(f"a run had {error.timeout_seconds:g} s")
    return told


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
