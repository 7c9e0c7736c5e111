"""From a run that has ended to its result, or to the error that says why there is none."""

from __future__ import annotations

from typing import Any

from floxide_amqp.core.failure import kind_of
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.records import BY_HAND, RunHeader, RunState
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import (
    RunCancelledError,
    RunError,
    RunFailedError,
    RunOutputError,
    RunTimeoutError,
)
from floxide_amqp.ports.key_value import Entry
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.encoding import decode_payload
from floxide_amqp.stores.runs import StoredRun


async def result_of(services: Services, graph: Graph, run: StoredRun, output: tuple[Entry, ...] | None = None) -> Any:
    """Return the output of a run that has ended: one value, or the list of all where the workflow may have many.

    Args:
        services: The process's parts.
        graph: Its workflow.
        run: The run.
        output: Its outputs as they are stored, where they were read with it.

    Raises:
        RunFailedError: The run failed.
        RunTimeoutError: The run failed by its own timeout.
        RunCancelledError: The run was cancelled.
        RunOutputError: There is not exactly one output where one is declared.
    """
    if run.state.status is RunStatus.FAILED:
        raise failure_of(run.header, run.state)
    if run.state.status is RunStatus.CANCELLED:
        raise RunCancelledError(run_id=run.header.run_id, reason=run.state.reason)
    if output is None:
        payloads = await outputs_of(services, run)
    else:
        payloads = [payload for _, payload in services.runs.arrived(run.header.run_id, "", output)]
    if not graph.many_outputs and len(payloads) != 1:
        raise RunOutputError(run_id=run.header.run_id, workflow=run.header.workflow, outputs=len(payloads))
    values = [decode_payload(graph.output, payload) for payload in payloads]
    return values if graph.many_outputs else values[0]


async def outputs_of(services: Services, run: StoredRun) -> list[bytes]:
    """Return the outputs of a run that completed, encoded."""
    return await services.runs.all_arrivals(run.header.run_id, BY_HAND if run.state.is_by_hand else "")


def failure_of(header: RunHeader, state: RunState) -> RunError:
    """Return the error of a failed run."""
    failure = state.failure
    if failure is None:
        return RunError(f"Run {header.run_id!r} failed; no reason was recorded.")
    if failure.error.kinds and failure.error.kinds[0] == kind_of(RunTimeoutError):
        seconds = ((header.deadline_ms or header.begins_at_ms) - header.begins_at_ms) / 1000
        return RunTimeoutError(run_id=header.run_id, timeout_seconds=seconds)
    return RunFailedError(
        run_id=header.run_id, node=failure.node, item_id=failure.item_id, error_type=failure.error.error_type,
        error_message=failure.error.message, traceback_text=failure.error.traceback, attempts=failure.attempts,
        was_undone=state.was_undone,
    )  # fmt: skip
