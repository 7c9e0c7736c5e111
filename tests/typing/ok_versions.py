"""Versions of a workflow: policies, and a migrate that reads old types and writes new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, assert_type

from shop import *

from floxide_amqp import Context, Orchestrator, RunToMigrate, StepToMigrate, Sum, VersionPolicy, Workflow, node
from floxide_amqp.runtime.requeuing import Requeued, SetAsideItem
from floxide_amqp.runtime.version_views import VersionInfo


class OldLedger(Context):
    spent: Annotated[int, Sum()] = 0


@node
async def settle(order: Order) -> Receipt:
    return Receipt(order.id)


class Compatible(Workflow[Order, Receipt], name="Settling", version="2", versions=VersionPolicy.COMPATIBLE):
    start = settle


class Raised(Workflow[Order, Receipt], name="Settling", version="3", versions=VersionPolicy.AUTO_UPGRADE):
    start = settle
    old_contexts: ClassVar[Mapping[str, type[Context]]] = {"1": OldLedger}

    @classmethod
    def migrate(cls, run: RunToMigrate) -> None:
        assert_type(run.read_context(OldLedger), OldLedger)
        assert_type(run.version, str)
        run.context["spent"] = 1
        for step in run.steps:
            assert_type(step, StepToMigrate)
            receipt = step.read(Receipt)
            assert_type(receipt, Receipt)
            step.move_to("settle", receipt)


async def look(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.versions(workflow="Settling"), Sequence[VersionInfo])
    assert_type(await orchestrator.set_aside.list(node="settle"), Sequence[SetAsideItem])
    assert_type(await orchestrator.set_aside.requeue(workflow="Settling", by="me"), Requeued)
    assert_type(await orchestrator.set_aside.requeue_run("run", item_id="item"), Requeued)
