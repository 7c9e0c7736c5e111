"""What is logged and counted of a step when it has been committed, refused or discarded."""

from __future__ import annotations

from floxide_amqp.core.decisions import Effects
from floxide_amqp.core.outcomes import Failed
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Check
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.steps import Performed
from floxide_amqp.stores import keys

_log = get_logger("floxide_amqp.chain")


def note_committed(services: Services, admitted: Admitted, performed: Performed, effects: Effects) -> None:
    """A step's result stands: it succeeded, holds, or failed."""
    item = admitted.item
    header = admitted.run.header
    figures = services.figures.node(header.workflow, item.node)
    figures.durations.add(performed.duration_us / 1e6)
    if isinstance(performed.outcome, Failed):
        will_retry = effects.timer is not None and effects.timer.kind is TimerKind.RETRY
        figures.failed += 1
        figures.retried += will_retry
        error = performed.outcome.error
        log = _log.warning if effects.finished is RunStatus.FAILED else _log.info
        log(
            "work_item.attempt_failed", attempt=item.attempt + 1, error_type=error.error_type,
            message=services.sealing.logged(error.message), will_retry=will_retry, run_id=header.run_id,
            item_id=item.item_id, node=item.node,
        )  # fmt: skip
    else:
        figures.committed += 1
        _log.debug(
            "work_item.committed", duration_us=performed.duration_us, run_id=header.run_id, item_id=item.item_id,
            node=item.node,
        )  # fmt: skip
    if effects.finished is not None:
        _log.info("run.finished", run_id=header.run_id, status=effects.finished.value)


def note_late(services: Services, admitted: Admitted, check: Check) -> None:
    """A result came after others had been given the item: say whose it was."""
    item, run_id = admitted.item, admitted.run.header.run_id
    if check.key != keys.item(run_id, item.item_id):
        return
    services.figures.late_commits += 1
    _log.warning("step.came_late", run_id=run_id, item_id=item.item_id, node=item.node, worker_id=services.name)


def note_discarded(services: Services, admitted: Admitted) -> None:
    """A step's result is void."""
    item, header = admitted.item, admitted.run.header
    _log.info("step.discarded", run_id=header.run_id, item_id=item.item_id, node=item.node)
    services.figures.node(header.workflow, item.node).discarded += 1
