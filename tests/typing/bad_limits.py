"""Mistakes with limits, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Concurrency, Orchestrator, node

Concurrency("account")  # expect: a limit without a number
Concurrency("account", 5)  # expect: a number without its name
Concurrency("account", limit="5")  # expect: a number that is a text
Concurrency("account", limit=5, key="account")  # expect: a key that is no function


@node(concurrency=5)  # expect: a number in place of a limit
async def settle(order: Order) -> Order:
    return order


async def steer(orchestrator: Orchestrator) -> None:
    await orchestrator.limits.set("account", "a")  # expect: no limit
    await orchestrator.limits.set("account", limit="3")  # expect: a limit that is a text
