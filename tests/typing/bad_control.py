"""Mistakes with compensations and with what is done by hand, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Compensation, Orchestrator, RunFilter, Workflow, WorkflowCtx, node


@node
async def give_back(of: Compensation[Order, Receipt]) -> None: ...


@node(compensation=give_back)  # expect: the step returns something else than the compensation undoes
async def take(order: Order) -> int:
    return 1


@node(compensation=give_back)  # expect: the step takes something else than the compensation undoes
async def take_text(order: str) -> Receipt:
    raise NotImplementedError


@node(compensation=charge)  # expect: no compensation, but a step
async def take_more(order: Order) -> Receipt:
    raise NotImplementedError


class Wrong(Workflow[Order, Receipt, OrderContext]):
    start = charge
    on_cancel = charge  # expect: a node that takes something else


async def by_hand(orchestrator: Orchestrator) -> None:
    await orchestrator.cancel_many("all of them")  # expect: a text instead of a filter
    await orchestrator.pause_many(RunFilter(), rate="fast")  # expect: a rate that is no number
    await orchestrator.edit_context(Wrong, "run", lambda state: state.colour)  # expect: a field there is not
