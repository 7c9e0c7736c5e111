"""The runs of schedules: what is kept to start them, and starting one."""

from __future__ import annotations

from dataclasses import replace

from floxide_amqp.core.compensation import hook_of
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.core.records import ItemInput, RunHeader, WorkItem
from floxide_amqp.core.schedules import PlannedRun, RunTemplate, ScheduleSpec
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.versions import is_newer
from floxide_amqp.exceptions import RunConflictError, RunDeletedError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.other_versions import is_served
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.starting import StartRequest, start_parts, store
from floxide_amqp.stores import schedule_keys
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.record_codec import decode_compensable, encode_compensable
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealed_places import SCHEDULED_CONTEXT, SCHEDULED_INPUT
from floxide_amqp.stores.task_queues import TaskQueueStore

_log = get_logger("floxide_amqp.schedules")


def template_of(graph: Graph) -> RunTemplate:
    """Return what runs of a workflow are started with, without input and context."""
    hook, timeout = hook_of(graph), graph.options.timeout
    return RunTemplate(
        workflow=graph.workflow, version=graph.version, start=graph.start, queue=graph.nodes[graph.start].options.queue,
        timeout_ms=None if timeout is None else round(timeout.total_seconds() * 1000), input=b"", context=b"",
        hook=b"" if hook is None else encode_compensable(hook),
    )  # fmt: skip


async def start_planned(services: Services, spec: ScheduleSpec, planned: PlannedRun) -> None:
    """Start a run of a schedule; one that is there already, or was, is left as it is.

    Its task queue is noted, for whoever starts it may not have the workflow, and the name may be forgotten by now.

    Raises:
        MissingKeyError: This process lacks the key to the schedule's input.
    """
    await services.session.learn_times([planned.run_id])
    request = await _request(services, spec, planned)
    header = request.header
    await TaskQueueStore(services.session.beside(header.run_id)).note([request.item.queue])
    try:
        first = await store(services, request)
    except (RunConflictError, RunDeletedError) as error:  # it was started before the schedule got another content
        _log.info("schedule.run_was_there", schedule=spec.name, run_id=planned.run_id, reason=str(error))
        return
    if first is None:
        return
    _log.info("schedule.started", schedule=spec.name, run_id=planned.run_id)
    services.news.tell_started(header.workflow, header.version, (header.run_id,))
    await publish(services, header, (first,), position=0)


async def _request(services: Services, spec: ScheduleSpec, planned: PlannedRun) -> StartRequest:
    partition, sealing = schedule_keys.schedule_partition(spec.name), services.sealing
    template, run_id = await template_for_here(services, spec.template, partition), planned.run_id
    payload = sealing.open(template.input, Place(partition, SCHEDULED_INPUT))
    context = sealing.open(template.context, Place(partition, SCHEDULED_CONTEXT))
    now, start_item = services.now_ms(run_id), derive_item_id(run_id, "", "start")
    header = RunHeader(
        run_id=run_id, workflow=template.workflow, version=template.version, input=payload,
        input_digest=sealing.digest(*start_parts(template.workflow, template.version, payload, context)),
        context=context, created_at_ms=now,
        deadline_ms=None if template.timeout_ms is None else now + template.timeout_ms, reply_to="",
        start_item=start_item,
    )  # fmt: skip
    item = WorkItem(
        item_id=start_item, node=template.start, queue=template.queue, status=WorkItemStatus.PENDING,
        input=ItemInput(payload=payload),
    )  # fmt: skip
    hook = decode_compensable(template.hook) if template.hook else None
    return StartRequest(header=header, item=item, hook=hook)


async def template_for_here(services: Services, template: RunTemplate, partition: RunId) -> RunTemplate:
    """Return the template for the version that this process has, where it does not have the schedule's very version.

    A newer one than it has is left as it is while a living worker has that: its input is for no older one.

    Args:
        services: The process's parts, with the whole store.
        template: The schedule's.
        partition: Where the schedule lies.
    """
    registry = services.registry
    graph = registry.latest(template.workflow)
    if graph is None or registry.has(template.workflow, template.version):
        return template
    if is_newer(template.version, graph.version):
        liveness = LivenessStore(services.session.beside(partition))  # workers beat on every server
        if await is_served(liveness, template.workflow, template.version, template.queue):
            return template
    return replace(template_of(graph), input=template.input, context=template.context)
