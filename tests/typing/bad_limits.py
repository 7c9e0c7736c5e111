"""Mistakes with limits, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Concurrency, Orchestrator, RateLimit, Workflow, node

Concurrency("account")  # expect: a limit without a number
Concurrency("account", 5)  # expect: a number without its name
Concurrency("account", limit="5")  # expect: a number that is a text
Concurrency("account", limit=5, key="account")  # expect: a key that is no function

RateLimit("mail-api", 100)  # expect: a rate without its time
RateLimit("mail-api", "100", per=1)  # expect: starts that are a text
RateLimit("mail-api", 100, per="1 s")  # expect: the time of a rate that is a text


@node(rate=Concurrency("mail", limit=5))  # expect: another kind of limit
async def pace(order: Order) -> Order:
    return order


@node(priority="high")  # expect: a level that is a text
async def hurry(order: Order) -> Order:
    return order


@node(concurrency=5)  # expect: a number in place of a limit
async def settle(order: Order) -> Order:
    return order


class Closing(Workflow[Order, Order], concurrency=5):  # expect: a number in place of a limit of runs
    start = hurry


class Opening(Workflow[Order, Order], concurrency=RateLimit("a", 1, per=1)):  # expect: another limit of runs
    start = hurry


async def steer(orchestrator: Orchestrator) -> None:
    await orchestrator.limits.set("account", "a")  # expect: no limit
    await orchestrator.limits.set("account", limit="3")  # expect: a limit that is a text
    await orchestrator.limits.set_rate("mail-api", limit=5, per="1 s")  # expect: another time of a rate that is a text
