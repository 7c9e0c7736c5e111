"""Mistakes with labels and executors, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Floxide, node


@node(labels="gpu")  # expect: one word in place of a set
async def one_word(order: Order) -> Order:
    return order


@node(labels=["gpu"])  # expect: a list in place of a set
async def listed(order: Order) -> Order:
    return order


@node(labels={1})  # expect: a label that is a number
async def numbered(order: Order) -> Order:
    return order


@node(executor="fork")  # expect: no such executor
def forked(order: Order) -> Order:
    return order


async def work(app: Floxide) -> None:
    app.worker(labels="gpu")  # expect: one word in place of a worker's set
    app.pool(2, labels=["gpu"])  # expect: a list in place of a pool's set
