"""A workflow whose second step waits until a test lets it go: something happens to the run while it is at work."""

from __future__ import annotations

import asyncio

from floxide_amqp import Workflow, node


class SecondStep:
    """What the step has done, and may do.

    Attributes:
        begun: Set once it is at work, in whichever worker.
        go: Set by the test when it may end.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()


def two_steps() -> tuple[type[Workflow[int, int]], SecondStep]:
    """Return a workflow of a step that is done at once and one that waits; its output is its input."""
    second = SecondStep()

    @node
    async def quick(x: int) -> int:
        return x

    @node
    async def waits(x: int) -> int:
        second.begun.set()
        await second.go.wait()
        return x

    class TwoSteps(Workflow[int, int]):
        start = quick
        edges = (quick >> waits,)

    return TwoSteps, second
