"""From a run that has ended to its result, or to the error that says why there is none."""

from __future__ import annotations

from typing import Any

from floxide_amqp.core.failure import kind_of
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
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


async def result_of(
    services: Services, graph: Graph, run_id: RunId, state: RunState, output: tuple[Entry, ...] | None
) -> Any:
    """Return the output of a run that has ended: one value, or the list of all where the workflow may have many.

    Args:
        services: The process's parts.
        graph: Its workflow.
        run_id: The run.
        state: Its state, as it ended.
        output: Its only output as it is stored, where that was read with its state.

    Raises:
        RunFailedError: The run failed.
        RunTimeoutError: The run failed by its own timeout.
        RunCancelledError: The run was cancelled.
        RunOutputError: There is not exactly one output where one is declared.
    """
    if state.status is RunStatus.FAILED:
        raise failure_of((await services.runs.load(run_id)).header, state)
    if state.status is RunStatus.CANCELLED:
        raise RunCancelledError(run_id=run_id, reason=state.reason)
    if output is None:
        payloads = await outputs_of(services, run_id, state)
    else:
        payloads = [payload for _, payload in services.runs.arrived(run_id, "", output)]
    if not graph.many_outputs and len(payloads) != 1:
        header = (await services.runs.load(run_id)).header
        raise RunOutputError(run_id=run_id, workflow=header.workflow, outputs=len(payloads))
    values = [decode_payload(graph.output, payload) for payload in payloads]
    return values if graph.many_outputs else values[0]


async def outputs_of(services: Services, run_id: RunId, state: RunState) -> list[bytes]:
    """Return the outputs of a run that completed, encoded."""
    return await services.runs.all_arrivals(run_id, BY_HAND if state.is_by_hand else "")


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
