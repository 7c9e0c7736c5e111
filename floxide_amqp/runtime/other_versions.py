"""Items of runs whose version of their workflow this process lacks: what it may do with them, by the workflow's policy.

Asked only where the very version is not there, so it costs nothing where it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from floxide_amqp.core.agreement import Agreement, agree, stand_in
from floxide_amqp.core.descriptions import describe_graph
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import MigrationError, MissingKeyError, StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.upgrading import AnyWorkflow, Raised, upgrade
from floxide_amqp.runtime.waits import disagreeing_version, later_upgrade, missing_node, older_worker
from floxide_amqp.stores.liveness import DEAD, LivenessStore

_log = get_logger("floxide_amqp.versions")


class Meeting(Enum):
    """What is to be done with an item whose version is not here."""

    AGAIN = "again"
    """Look at it again: now this process can run it, or it was raised."""
    LATER = "later"
    """Steps of its run are at work that must end first: ask again after a pause."""
    PARK = "park"
    """Leave it to a worker that can run it."""
    SET_ASIDE = "set aside"
    """Nobody takes it before it is requeued."""


@dataclass(frozen=True, slots=True)
class Met:
    """What is to be done, and why; where it is later, after how many seconds."""

    meeting: Meeting
    reason: str = ""
    pause_seconds: float = 0.0


async def meet(services: Services, header: RunHeader, item: WorkItem) -> Met:
    """Say what is to be done with an item that this process cannot run as it is.

    Raises:
        StoreError: The run cannot be read.
    """
    lacks = Met(Meeting.PARK, missing_node(header, item))
    registry = services.registry
    if registry.has(header.workflow, header.version):
        return lacks
    newer = registry.newer(header.workflow, header.version)
    policy = VersionPolicy.STRICT if newer is None else newer.graph.options.versions
    if newer is None or policy is VersionPolicy.STRICT:
        return lacks
    if policy is VersionPolicy.COMPATIBLE:
        agreement = await agreement_with(services, header.workflow, header.version, newer.graph)
        if agreement is None:
            return lacks
        why = agreement.why_not(item.node)
        if why is None:
            return Met(Meeting.AGAIN)
        return Met(Meeting.PARK, disagreeing_version(header, item, newer.graph.version, why))
    return await _raise(services, header, item, newer)


async def _raise(services: Services, header: RunHeader, item: WorkItem, newer: AnyWorkflow) -> Met:
    run_id, put_off, now = header.run_id, services.put_off_upgrades, asyncio.get_running_loop().time()
    try:
        raised = Raised.LATER
        if not put_off.is_known(run_id, now):
            raised = await upgrade(services, run_id, newer)
            if raised is Raised.LATER:
                put_off.note(run_id, now)
            else:
                put_off.forget(run_id)
    except (MissingKeyError, StoreError):
        raise
    except USER_ERRORS as error:  # the user's migrate, and the user's types
        put_off.forget(run_id)
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, MigrationError) and await is_left_to_older(
            services, header.workflow, header.version, item.queue
        ):
            return Met(Meeting.PARK, older_worker(header, item, str(error)))
        reason = f"Run {run_id!r} cannot be raised from version {header.version} to {newer.graph.version}. "
        return Met(Meeting.SET_ASIDE, reason + problem)
    if raised is not Raised.LATER:
        return Met(Meeting.AGAIN)
    pause = put_off.pause_seconds(run_id, services.timeouts.publish_retry)
    return Met(Meeting.LATER, later_upgrade(header, newer.graph.version), pause)


async def is_left_to_older(services: Services, workflow: str, version: str, queue: str) -> bool:
    """Whether items of an older version that are parked in a task queue are left to a living worker that has it.

    Runs are raised by whoever gets a message of theirs. One that cannot be, and was parked, older workers bring on.
    """
    registry = services.registry
    newer = None if registry.find(workflow, version) is not None else registry.newer(workflow, version)
    if newer is None or newer.graph.options.versions is not VersionPolicy.AUTO_UPGRADE:
        return False
    return await is_served(services.liveness, workflow, version, queue)


async def is_served(liveness: LivenessStore, workflow: str, version: str, queue: str) -> bool:
    """Whether a living worker has this very version of a workflow, and serves a task queue."""
    named = f"{workflow}@{version}"
    return any(
        named in record.workflows and queue in record.queues and record.status != DEAD and not is_gone(record)
        for record in await liveness.all()
    )


async def may_run(services: Services, workflow: str, version: str, node: str) -> bool:
    """Whether this process can run items of a workflow's version and node, or raise their runs to what it has."""
    registry = services.registry
    graph = registry.find(workflow, version)
    if graph is not None:
        return node in graph.nodes
    newer = registry.newer(workflow, version)
    if newer is None or newer.graph.options.versions is VersionPolicy.STRICT:
        return False
    if newer.graph.options.versions is VersionPolicy.AUTO_UPGRADE:
        return True
    agreement = await agreement_with(services, workflow, version, newer.graph)
    return agreement is not None and agreement.why_not(node) is None


async def agreement_with(services: Services, workflow: str, version: str, graph: Graph) -> Agreement | None:
    """Compare an older version with a newer one, once; what agrees is run from then on by the newer one's graph.

    Returns:
        None where nothing is known of the older version.
    """
    registry = services.registry
    known = registry.agreements.get((workflow, version))
    if known is not None:
        return known
    old = await services.versions.find(workflow, version)
    if old is None:
        return None
    agreement = agree(old, describe_graph(graph))
    if agreement.nodes:
        registry.let_stand_in(workflow, version, stand_in(graph, old, agreement))
    registry.agreements[workflow, version] = agreement
    _log.info(
        "workflow.compared", workflow=workflow, old=version, new=graph.version, agreeing=len(agreement.nodes),
        differing=len(agreement.problems),
    )  # fmt: skip
    return agreement
