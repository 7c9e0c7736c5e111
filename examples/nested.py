"""Nested workflow: a whole workflow as one node of another. Its steps belong to the outer run and share its context."""

from __future__ import annotations

import asyncio

from floxide_amqp import CompositeNode, Context, EventLog, Workflow, WorkflowCtx, node


class Journal(Context):
    steps: EventLog[str] = EventLog()


@node
async def wash(ctx: WorkflowCtx[Journal], fruit: str) -> str:
    ctx.state.steps.append(ctx.node)
    return f"clean {fruit}"


@node
async def peel(ctx: WorkflowCtx[Journal], fruit: str) -> str:
    ctx.state.steps.append(ctx.node)
    return f"peeled {fruit}"


class Preparing(Workflow[str, str, Journal]):
    start = wash
    edges = (wash >> peel,)


@node
async def press(ctx: WorkflowCtx[Journal], fruit: str) -> str:
    return f"juice of a {fruit}, by way of {' and '.join(ctx.state.steps)}"


prepare = CompositeNode(Preparing, name="prepare")


class Juice(Workflow[str, str, Journal]):
    start = prepare
    edges = (prepare >> press,)


async def main() -> list[str]:
    return [await Preparing.run("pear"), await Juice.run("apple")]  # the inner one runs on its own as well


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
