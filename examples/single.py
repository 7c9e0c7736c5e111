"""Single terminal node: the smallest workflow there is, and the smallest test of its node."""

from __future__ import annotations

import asyncio

from floxide_amqp import Workflow, node


@node
def double(number: int) -> int:  # a plain function runs in a thread
    return 2 * number


class Doubling(Workflow[int, int]):
    start = double


async def main() -> int:
    assert double(4) == 8  # called, a node is still its function
    return await Doubling.run(21)


if __name__ == "__main__":
    print(asyncio.run(main()))
