"""Mistakes with versions, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Orchestrator, RunToMigrate, Workflow, node


@node
async def settle(order: Order) -> Receipt:
    return Receipt(order.id)


class Unknown(Workflow[Order, Receipt], version="2", versions="compatible"):  # expect: a text in place of a policy
    start = settle


class Number(Workflow[Order, Receipt], version=2):  # expect: a number in place of a text
    start = settle


class Raised(Workflow[Order, Receipt], version="3"):
    start = settle

    @classmethod
    def migrate(cls, run: RunToMigrate) -> None:
        run.read_context(Order)  # expect: no context
        run.steps[0].move_to("settle")  # expect: no input
        run.steps[0].move_to(settle, 1)  # expect: a node in place of its name


class Wrong(Workflow[Order, Receipt], version="4"):
    start = settle

    @classmethod
    def migrate(cls, run: Order) -> None:  # expect: another argument
        del run


async def look(orchestrator: Orchestrator) -> None:
    await orchestrator.versions("Settling")  # expect: by position
    await orchestrator.set_aside.requeue_run()  # expect: no run
