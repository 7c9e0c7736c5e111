"""What a worker says of itself, from its own event loop to the heartbeat's thread and from there to the store."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, replace

from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.worker_records import StuckBody, WorkerRecord
from floxide_amqp.runtime.deaths import boot_id, process_start

SHOWN_STUCK = 200
"""Stuck bodies that a heartbeat names at most, given up ones first: the rest is counted when these are done with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedStep:
    """A step in hand whose body should have ended by some time.

    Attributes:
        body: How it is named once it is overdue.
        due: From when on the worker does not vouch for it any more, by the event loop's clock.
    """

    body: StuckBody
    due: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a worker says of itself; replaced as a whole, so that another thread may read it."""

    status: str = "starting"
    current_items: tuple[str, ...] = ()
    items_done: int = 0
    errors: int = 0
    watched: tuple[WatchedStep, ...] = ()
    left_behind: tuple[StuckBody, ...] = ()
    threads_lost: int = 0
    late_commits: int = 0

    def stuck(self, loop_time: float) -> tuple[StuckBody, ...]:
        """Return the bodies that did not end in time: first those of steps that are not vouched for any more."""
        given_up = tuple(step.body for step in self.watched if step.due <= loop_time)
        return (*given_up, *self.left_behind)[:SHOWN_STUCK]


def new_record(
    worker_id: WorkerId,
    *,
    now_ms: int,
    queues: tuple[str, ...],
    workflows: tuple[str, ...],
    concurrency: int,
    labels: tuple[str, ...] = (),
) -> WorkerRecord:
    """Return a worker's first record."""
    return WorkerRecord(
        worker_id=worker_id, beat=0, at_ms=now_ms, started_at_ms=now_ms, host=socket.gethostname(), boot=boot_id(),
        pid=os.getpid(), process_started=process_start(os.getpid()), status="starting", queues=queues,
        workflows=workflows, concurrency=concurrency, life=secrets.token_hex(8), labels=labels,
    )  # fmt: skip


def next_beat(
    record: WorkerRecord, vitals: Vitals, now_ms: int, *, loop_time: float, lag_seconds: float = 0.0, status: str = ""
) -> WorkerRecord:
    """Return a worker's next heartbeat record.

    Args:
        record: The last one.
        vitals: What the worker said last.
        now_ms: Store time.
        loop_time: What the worker's event loop would say the time is.
        lag_seconds: How late that loop is.
        status: Said instead of the worker's own word.
    """
    return replace(
        record, beat=record.beat + 1, at_ms=now_ms, status=status or vitals.status,
        current_items=vitals.current_items, items_done=vitals.items_done, errors=vitals.errors,
        stuck=vitals.stuck(loop_time), loop_lag_ms=round(1000 * lag_seconds), threads_lost=vitals.threads_lost,
        late_commits=vitals.late_commits,
    )  # fmt: skip
