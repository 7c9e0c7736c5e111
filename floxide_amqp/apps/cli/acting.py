"""The commands that do something: run, worker, start, cancel, pause, resume."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import ExitCode, UsageError, say
from floxide_amqp.apps.cli.filters import SetAttributeOption, attributes_from, instant_from
from floxide_amqp.apps.cli.inputs import parse_context, parse_input
from floxide_amqp.apps.cli.options import (
    ContextOption,
    DedupeForOption,
    DedupeKeyOption,
    DelayOption,
    Frame,
    InputOption,
    PriorityOption,
    RunIdArgument,
    RunIdOption,
    RunTimeoutOption,
    StartAtOption,
    TimeoutOption,
    WatchOption,
    WorkflowName,
    command,
)
from floxide_amqp.apps.cli.orchestrating import graph_of, with_orchestrator
from floxide_amqp.apps.cli.printing import in_words, print_text, result_as_json
from floxide_amqp.apps.cli.running import Stop, run_to_end
from floxide_amqp.apps.cli.watch import watch as watch_run
from floxide_amqp.apps.cli.whoever import By, whoever
from floxide_amqp.apps.log_setup import LogLevel
from floxide_amqp.apps.settings import HTTP_VARIABLE
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import InvalidRunStateError, ResultTimeoutError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.views import RunInfo

STEER_SECONDS = 2.0
"""Longest wait for the broker by default where all it would do is to carry a hint: the store has what is done."""

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the run.")]


@command(log_level=LogLevel.WARNING)
def run(
    frame: Frame,
    *,
    workflow: WorkflowName = None,
    input: InputOption = None,
    context: ContextOption = None,
    run_id: RunIdOption = None,
    timeout: TimeoutOption = None,
    watch: WatchOption = False,
) -> None:
    """Run a workflow here and print its output.

    It runs in this process and without a broker; the output is printed as JSON.

    APP may also name a workflow class. With a store and --run-id, the same command goes on where it was.
    """
    app, chosen = frame.local(workflow)
    value, state = parse_input(chosen.graph, input), parse_context(chosen.graph.context, context)

    async def act(orchestrator: Orchestrator) -> str:
        handle = await orchestrator.start(chosen, value, context=state, run_id=run_id)
        try:
            if watch:
                result = await watch_run(orchestrator, handle, timeout=timeout)
            else:
                result = await handle.result(timeout)
        except (ResultTimeoutError, asyncio.CancelledError) as error:
            await _leave_local(app, handle, error)
            raise
        return result_as_json(chosen.graph, result)

    print_text(with_orchestrator(app, act, with_worker=True))


async def _leave_local(app: Floxide, handle: RunHandle[Any], why: BaseException) -> None:
    """Say what becomes of a run that this process stops working on."""
    if not app.is_in_memory:
        say(
            f"Run {handle.run_id!r} stays in the store; the same command with --run-id {handle.run_id} goes on with it."
        )
        return
    await handle.cancel()  # its nodes are interrupted: nobody waits for them any more
    if isinstance(why, ResultTimeoutError):
        seconds: float = getattr(why, "timeout_seconds", 0.0)
        say(
            f"The run did not end within {seconds:g} s and was given up; nothing of it is kept. With --store and "
            "--run-id it could go on later."
        )
        raise typer.Exit(ExitCode.TIMEOUT)


@command(log_level=LogLevel.INFO)
def worker(
    frame: Frame,
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Steps in flight at a time; by default the application's limit."),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A task queue to serve, once each; by default all of the workflows'."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="What this worker has that nodes ask for, such as gpu; once each."),
    ] = None,
    only_labelled: Annotated[
        bool, typer.Option("--only-labelled", help="Leave nodes that ask for no label to other workers.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The worker's id; by default host, process, random part.")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=f"Serve /livez, /readyz and /metrics there; also {HTTP_VARIABLE}."),
    ] = None,
) -> None:
    """Work for an application until SIGTERM or Ctrl-C.

    It then takes nothing new and finishes what it has begun. A second signal ends it at once; what it was doing is
    done again elsewhere.
    """
    app = frame.app(patience=None)

    async def main(stop: Stop) -> None:
        async with app.worker(
            concurrency=concurrency, queues=queue or (), labels=frozenset(label) if label else None,
            only_labelled=only_labelled, name=name, owns_process=True, http=http or frame.settings.http,
        ) as opened:  # fmt: skip
            stop.instead(opened.stop)
            await opened.run_forever()

    run_to_end(main)


@command()
def start(
    frame: Frame,
    *,
    workflow: WorkflowName = None,
    input: InputOption = None,
    context: ContextOption = None,
    run_id: RunIdOption = None,
    attribute: SetAttributeOption = None,
    delay: DelayOption = None,
    start_at: StartAtOption = None,
    run_timeout: RunTimeoutOption = None,
    dedupe_key: DedupeKeyOption = None,
    dedupe_for: DedupeForOption = None,
    priority: PriorityOption = Priority.NORMAL,
    timeout: TimeoutOption = None,
    watch: WatchOption = False,
) -> None:
    """Start a run for the workers; print its id.

    With --watch it waits for the end and prints the output instead. Starting the same id again with the same input
    is fine, and with --watch a way to wait for its result. The id of a run that was deleted is refused for a while.
    """
    app, chosen = frame.workflow(workflow)
    if timeout is not None and not watch:
        raise UsageError("--timeout is the longest wait for the result: it needs --watch.")
    value, state = parse_input(chosen.graph, input), parse_context(chosen.graph.context, context)
    attributes = attributes_from(attribute)

    async def act(orchestrator: Orchestrator) -> str:
        handle = await orchestrator.start(
            chosen, value, context=state, run_id=run_id, attributes=attributes, delay=delay,
            start_at=instant_from(start_at), timeout=run_timeout, dedupe_key=dedupe_key, dedupe_for=dedupe_for,
            priority=priority,
        )  # fmt: skip
        return await _watched(app, orchestrator, handle, timeout) if watch else handle.run_id

    print_text(with_orchestrator(app, act, with_worker=app.is_embedded and watch))


@command()
def cancel(frame: Frame, *, run_id: RunIdArgument, reason: Reason = "", by: By = "") -> None:
    """Cancel a run.

    Steps in flight are interrupted, the others never begin. What steps with a compensation have done is undone first.
    """

    async def act(orchestrator: Orchestrator) -> str:
        is_done = await orchestrator.cancel(run_id, reason=reason, by=whoever(by))
        status = await orchestrator.status(run_id)
        if status is RunStatus.COMPENSATING:
            then = "is being cancelled" if is_done else "ends already"
            return f"Run {run_id} {then}: what it did is undone first, as `floxide status` shows."
        if is_done:
            return f"Run {run_id} is cancelled."
        if status is RunStatus.CANCELLED:
            return f"Run {run_id} was cancelled already."
        raise InvalidRunStateError(run_id=run_id, action="cancel", status=status.value)

    print_text(with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=BrokerUse.IF_REACHABLE))


@command()
def pause(frame: Frame, *, run_id: RunIdArgument, reason: Reason = "", by: By = "") -> None:
    """Pause a run.

    Steps in flight end and are kept, nothing new begins.
    """

    async def act(orchestrator: Orchestrator) -> str:
        await orchestrator.pause(run_id, reason=reason, by=whoever(by))
        return f"Run {run_id} is paused; `floxide resume` lets it go on."

    print_text(with_orchestrator(frame.app(patience=STEER_SECONDS), act, broker=BrokerUse.IF_REACHABLE))


@command()
def resume(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    timeout: TimeoutOption = None,
    watch: WatchOption = False,
    reason: Reason = "",
    by: By = "",
) -> None:
    """Let a paused or failed run go on.

    Failed items are tried again. With --watch it waits for the end and prints the output. A run that waits for a
    retry, a hold or a worker is not brought on by this, and it says so.
    """
    app = frame.app(patience=STEER_SECONDS)
    if timeout is not None and not watch:
        raise UsageError("--timeout is the longest wait for the result: it needs --watch.")

    async def act(orchestrator: Orchestrator) -> str:
        was_stopped = await orchestrator.resume(run_id, reason=reason, by=whoever(by))
        info = await orchestrator.run_info(run_id)
        if not was_stopped and info.status is RunStatus.WAITING:
            raise InvalidRunStateError(
                run_id=run_id, action="resume", status="waiting, neither paused nor failed",
                cure=f"It {in_words(info.waits)}.",
            )  # fmt: skip
        if not watch:
            return _resumed(info, was_stopped=was_stopped)
        graph = await graph_of(app, orchestrator, run_id)
        if graph is None:
            raise UsageError(f"{frame.reference} lacks the workflow of run {run_id!r}: its output cannot be read here.")
        return await _watched(app, orchestrator, orchestrator.handle_of(graph, run_id), timeout)

    brings_worker = app.is_embedded and watch
    print_text(with_orchestrator(app, act, with_worker=brings_worker, broker=BrokerUse.IF_REACHABLE))


def _resumed(info: RunInfo, *, was_stopped: bool) -> str:
    if not was_stopped:
        return f"Run {info.run_id} is {info.status.value}: there was nothing to resume."
    if info.status is RunStatus.WAITING:
        return f"Run {info.run_id} is resumed; it {in_words(info.waits)}."
    return f"Run {info.run_id} goes on."


async def _watched(app: Floxide, orchestrator: Orchestrator, handle: RunHandle[Any], timeout: float | None) -> str:
    try:
        return result_as_json(handle.graph, await watch_run(orchestrator, handle, timeout=timeout))
    except asyncio.CancelledError:
        if app.is_embedded:
            say(f"Run {handle.run_id!r} stays in the store; a worker, or the same command, goes on with it.")
        else:
            say(f"Run {handle.run_id!r} goes on without being watched; `floxide cancel` would end it.")
        raise
