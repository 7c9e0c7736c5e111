"""What the store remembers of a worker: its heartbeat, and the bodies it did not get rid of."""

from __future__ import annotations

from typing import NamedTuple

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId


class StuckBody(NamedTuple):
    """A node's body that did not end in time.

    Attributes:
        since_ms: Store time at which the body began.
        attempt, lost: Of the item then, so that a later try of it is not taken for this one.
        is_given_up: Whether its step is still in the worker's hands: the worker does not vouch for the item any more,
            so others take it. Otherwise the step is over and only the body was left behind.
    """

    run_id: RunId
    item_id: WorkItemId
    node: str
    since_ms: int
    attempt: int
    lost: int
    is_given_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """What a worker says of itself at each heartbeat.

    Attributes:
        beat: Rises by one each time; a watcher compares it with its own monotonic clock.
        at_ms: Store time of the beat, for people.
        host, boot, pid, process_started: Let a watcher on the same machine see at once that the process is gone.
        current_items: Up to 20 of the items in its hands, as ``run/item``.
        life: Tells this process's worker from others of its name.
        stuck: Bodies that did not end in time.
        loop_lag_ms: How late its event loop is.
        threads_lost: Threads held by bodies of sync nodes that nobody waits for any more.
        late_commits: Results that came too late and were refused.
        labels: What it can be asked for.
    """

    worker_id: WorkerId
    beat: int
    at_ms: int
    started_at_ms: int
    host: str
    boot: str
    pid: int
    process_started: str
    status: str
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    concurrency: int
    current_items: tuple[str, ...] = ()
    items_done: int = 0
    errors: int = 0
    life: str = ""
    stuck: tuple[StuckBody, ...] = ()
    loop_lag_ms: int = 0
    threads_lost: int = 0
    late_commits: int = 0
    labels: tuple[str, ...] = ()
