"""How long, how many, how often: the engine's limits and times, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeAlias

from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.stores.contexts import SNAPSHOT_AFTER
from floxide_amqp.stores.encoding import MAX_PACKED_BYTES

EXIT_STUCK = 75
"""Exit code of a worker process that ended itself because nodes block it: "try again", in the words of sysexits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a worker takes on.

    Attributes:
        concurrency: Steps in flight at a time; also the broker's prefetch. At least 1.
        threads: Threads for sync nodes. At least 1.
        processes: Processes for sync nodes with ``executor="process"``, each started when it is first needed. At
            least 1; about as many as there are CPUs for them.
        process_bodies: Bodies that run in one process before a fresh one takes its place, where native code leaks;
            0 for as many as there are.
        chain_steps: Steps that one message carries at most before its successor is published; bounds how much work
            one redelivery repeats the walk of.
        cached_runs: Runs whose header and context a worker remembers.
        lost_threads: Threads that sync nodes may hold for good, each replaced, before a worker that has its process
            for itself ends it: twice the threads, far from what a process can hold.
        payload_bytes: Largest encoded value that a node may return or be given, or change the context by. Far below
            what stores take; larger things belong into a blob store, with a reference as the payload.
            At most `MAX_PACKED_BYTES`.
        step_bytes: Most that one step may write, all values of a fan-out together: it is one commit, held in memory by
            the worker and the store.
        deaths: Owners that may die on an item before it counts as poison; the last of them with nothing else at work,
            so that nobody is condemned for a neighbour. At least 1.
        context_snapshot: Changes of a run's context before another snapshot of it is left in the store and the log of
            changes is trimmed; one of several kilobytes counts as several. What does not lie in event logs and appended
            lists, if it is large, waits for more, so that snapshots cost less than the log does. At least 1.
        mailbox: Values of signals that a run keeps at most which no step has taken; more are refused. A step that may
            hold reads them all. At least 1.
        dead_letters: Times in a row that the broker may give up on an item's message before the item waits for
            somebody to decide; each time it is published again later than the time before. At least 1.

    Raises:
        ConfigurationError: A number of bytes, or of changes, is not possible.
    """

    concurrency: int = 100
    threads: int = 8
    processes: int = 4
    process_bodies: int = 0
    lost_threads: int = 16
    payload_bytes: int = 16 * 1024 * 1024
    step_bytes: int = 128 * 1024 * 1024
    chain_steps: int = 1_000
    cached_runs: int = 1_000
    deaths: int = 3
    dead_letters: int = 5
    mailbox: int = 1_000
    context_snapshot: int = SNAPSHOT_AFTER

    def __post_init__(self) -> None:
        if not 0 < self.payload_bytes <= MAX_PACKED_BYTES:
            raise ConfigurationError(
                f"Limits(payload_bytes={self.payload_bytes}): one value can have {MAX_PACKED_BYTES} bytes, and has "
                "at least 1. Put larger things where large things belong, and pass a reference."
            )
        if self.step_bytes < 1:
            raise ConfigurationError(f"Limits(step_bytes={self.step_bytes}): give a number of bytes, at least 1.")
        if self.processes < 1 or self.process_bodies < 0:
            raise ConfigurationError(
                f"Limits(processes={self.processes}, process_bodies={self.process_bodies}): a worker has at least 1 "
                "process for nodes that want one, and each runs some number of bodies, or 0 for any."
            )
        if self.context_snapshot < 1:
            raise ConfigurationError(f"Limits(context_snapshot={self.context_snapshot}): give a number, at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The engine's times, in seconds.

    Attributes:
        early_acknowledge: A step that runs longer is noted in the store and its message acknowledged; far below the
            30 minutes after which RabbitMQ takes an unacknowledged message back.
        chain: Time one message carries steps for before its successor is published.
        cancel_grace: Time a cancelled node gets to clean up before it is left alone.
        heartbeat: Between two heartbeats.
        company: A suspected item runs alone for so long at most; then other work begins beside it.
        dead_after: Silence after which a worker counts as dead: several heartbeats, so that one slow commit of the
            store is not taken for a death.
        maintenance: Between two rounds of maintenance.
        probe: Between two probes of a task queue.
        publish_retry: Before a message that no queue took is published again.
        result_backstop: Between two looks at the store while waiting for an event.
        drain: Time steps in flight get to end when a worker stops.
        loop_blocked: Silence of the event loop after which the log says which node blocks it; no node that awaits as
            it should keeps it that long.
        loop_hung: Silence of the event loop after which a worker does not vouch for its items any more, and ends its
            process if it has it for itself. None for never. Longer than any pause that heals by itself, as short as
            the wait of the runs it holds may be.
    """

    early_acknowledge: float = 5.0
    chain: float = 30.0
    cancel_grace: float = 5.0
    company: float = 60.0
    heartbeat: float = 2.0
    dead_after: float = 15.0
    maintenance: float = 1.0
    probe: float = 10.0
    publish_retry: float = 5.0
    result_backstop: float = 2.0
    drain: float = 30.0
    loop_blocked: float = 5.0
    loop_hung: float | None = 60.0

    def with_polls_at_least(self, seconds: float) -> Timeouts:
        """Return the same times, with none of those that repeat shorter than `seconds`, and deaths noticed later."""
        heartbeat = max(self.heartbeat, seconds)
        return replace(
            self, heartbeat=heartbeat, maintenance=max(self.maintenance, seconds), probe=max(self.probe, seconds),
            result_backstop=max(self.result_backstop, seconds),
            dead_after=max(self.dead_after, heartbeat * self.dead_after / self.heartbeat),
        )  # fmt: skip


LEAST_TOMBSTONE_SECONDS = 600.0
"""What workers remember of a run is dropped after this long without a message about it; an id is not free earlier."""


Kept: TypeAlias = "timedelta | float | None"
"""How long runs stay: a `timedelta` or seconds, None for ever."""

ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
"""How a run may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended runs stay in the store, counted from their end; each a `timedelta` or seconds, None for ever.

        Retention(
            completed=timedelta(days=30),
            per_workflow={"Census": timedelta(days=7), "Payment": Retention(completed=timedelta(days=365))},
        )

    Attributes:
        completed: Runs that ended with their output.
        failed: Runs that failed; until then they can be resumed.
        cancelled: Runs that were cancelled.
        per_workflow: Workflows by name, of every version, for which this holds instead: one time however their runs
            ended, None for ever, or a `Retention` for each end (of which nothing else counts; what it leaves out stays
            for ever).
        tombstone: How long a deleted run's id is not free: starting it again with the same input returns the run that
            was deleted, with another input it is a conflict. At least 10 minutes.
        keep_inputs: Whether completed work items keep their input, for whoever looks into the store. Nothing that runs
            needs it: without, the commit that completes an item drops it. Inputs of the run itself, of joins, and of
            items that failed stay in any case.

    Raises:
        ConfigurationError: A time is negative, or too short; a workflow's retention has one per workflow.
    """

    completed: Kept = None
    failed: Kept = None
    cancelled: Kept = None
    per_workflow: Mapping[str, Kept | Retention] = field(default_factory=dict[str, "Kept | Retention"])
    tombstone: timedelta | float = timedelta(days=7)
    keep_inputs: bool = True

    def __post_init__(self) -> None:
        for end in ENDS:
            _check_time(end.value, getattr(self, end.value))
        for workflow, kept in self.per_workflow.items():
            if not isinstance(kept, Retention):
                _check_time(f"per_workflow={{{workflow!r}: …}}", kept, is_named=False)
            elif kept.per_workflow:
                raise ConfigurationError(
                    f"Retention(per_workflow={{{workflow!r}: …}}) names workflows itself; give it times for "
                    "completed, failed and cancelled only."
                )
        if not (_seconds(self.tombstone) or 0) >= LEAST_TOMBSTONE_SECONDS:
            raise ConfigurationError(
                f"Retention(tombstone=…) must be at least {LEAST_TOMBSTONE_SECONDS:g} seconds: workers remember runs "
                "for so long."
            )

    def keeps_ms(self, status: RunStatus, workflow: str = "") -> int | None:
        """Return how long runs of a workflow that ended so stay, milliseconds; None for ever."""
        kept = self.per_workflow.get(workflow, self)
        if isinstance(kept, Retention):
            kept = {
                RunStatus.COMPLETED: kept.completed, RunStatus.FAILED: kept.failed, RunStatus.CANCELLED: kept.cancelled
            }[status]  # fmt: skip
        seconds = _seconds(kept)
        return None if seconds is None else round(seconds * 1000)

    def times_ms(self, status: RunStatus) -> tuple[int, ...]:
        """Return the different times that runs which ended so stay, milliseconds, the shortest first."""
        kept = {self.keeps_ms(status, workflow) for workflow in ("", *self.per_workflow)}
        return tuple(sorted(each for each in kept if each is not None))

    @property
    def tombstone_ms(self) -> int:
        """How long a deleted run's id is not free, milliseconds."""
        return round((_seconds(self.tombstone) or 0) * 1000)


def _check_time(what: str, kept: Kept, *, is_named: bool = True) -> None:
    seconds = _seconds(kept)
    if seconds is not None and not seconds >= 0:
        named = f"{what}=…" if is_named else what
        raise ConfigurationError(f"Retention({named}) must not be negative, and is {seconds:g} seconds.")


def _seconds(given: Kept) -> float | None:
    return given.total_seconds() if isinstance(given, timedelta) else given
