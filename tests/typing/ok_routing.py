"""Labels and executors are options of nodes and workflows; what a node takes and returns stays as it is."""

from __future__ import annotations

from typing import Any

from shop import *

from floxide_amqp import Floxide, Node, Workflow, WorkflowCtx, node


@node(labels={"gpu"})
async def settle(order: Order) -> Receipt:
    return Receipt(order.id)


@node(queue="mail", labels=frozenset({"eu", "gpu"}), executor="process", timeout=60)
def tell(receipt: Receipt) -> str:
    return "told"


@node(labels=set(), executor="thread")
def write(text: str) -> str:
    return text


class Stamp(Node[str, str], labels={"gpu"}, executor="process"):
    def process(self, ctx: WorkflowCtx[Any], input: str, /) -> str:
        return input


class Charging(Workflow[Order, str], labels={"eu"}):
    start = settle
    edges = (settle >> tell >> write.with_options(labels={"big"}) >> Stamp(),)


async def work(app: Floxide) -> None:
    async with app.worker(labels={"gpu", "eu"}, only_labelled=True) as worker:
        worker.stop()
    app.pool(2, labels=frozenset({"gpu"})).stop()
