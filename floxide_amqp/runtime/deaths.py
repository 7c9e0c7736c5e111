"""Tells dead workers from slow ones.

Proofs: the worker said goodbye (its record is gone); its process is gone from this very machine; its heartbeat says
that its event loop hangs; or its heartbeat has not moved for long enough on *this* process's monotonic clock while this
process's own heartbeats got through. The last condition keeps a store that is out of reach from looking like everyone's
death. A living worker may be dead to single items: its heartbeat names those that it does not vouch for any more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkerId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.ports.key_value import Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.liveness import DEAD, HUNG, worker_record
from floxide_amqp.stores.session import Session

LEAST_OWN_BEATS = 3
"""Own heartbeats that must have succeeded while another's stood still."""


class Verdict(Enum):
    """What is known of a worker."""

    ALIVE = "alive"
    """Nothing proves its death."""
    GONE = "gone"
    """It said goodbye."""
    DEAD = "dead"
    """It died with what it had in its hands."""


@dataclass(slots=True)
class _Seen:
    beat: int
    since: float
    own_beats: int


class DeathWatch:
    """Decides whether a worker is dead.

    Args:
        session: The store.
        dead_after_seconds: Silence that counts as death.
        own_beats: Returns how many heartbeats of this process have succeeded.
    """

    def __init__(self, session: Session, dead_after_seconds: float, own_beats: Callable[[], int]) -> None:
        self._session = session
        self._dead_after = dead_after_seconds
        self._own_beats = own_beats
        self._seen: dict[WorkerId, _Seen] = {}

    async def verdict(self, worker_id: WorkerId, held: tuple[RunId, WorkItem] | None = None) -> Verdict:
        """Return what is known of a worker; asking again later may prove its death.

        Args:
            worker_id: The worker.
            held: An item it owns, with its run: to this one a living worker is dead if it has given it up.
        """
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(keys.worker(worker_id),)))).cells[0]
        if cell.version == 0:
            self._seen.pop(worker_id, None)
            return Verdict.GONE
        record = worker_record(worker_id, cell)
        has_died = self.has_died(record) or (held is not None and gave_up(record, *held))
        return Verdict.DEAD if has_died else Verdict.ALIVE

    def beside(self, run_id: RunId) -> DeathWatch:
        """Return what watches the heartbeats that stand beside a run."""
        del run_id
        return self

    @property
    def has_own_beat(self) -> bool:
        """Whether a heartbeat of this process got through."""
        return self._own_beats() > 0

    def has_died(self, record: WorkerRecord) -> bool:
        """Return whether the worker of a heartbeat just read is known to be dead."""
        if record.status in (DEAD, HUNG) or is_gone(record):
            return True
        now, own = asyncio.get_running_loop().time(), self._own_beats()
        seen = self._seen.get(record.worker_id)
        if seen is None or seen.beat != record.beat:
            self._seen[record.worker_id] = _Seen(record.beat, now, own)
            return False
        return now - seen.since >= self._dead_after and own - seen.own_beats >= LEAST_OWN_BEATS

    def forget_all_but(self, listed: Iterable[WorkerId]) -> None:
        """Drop what was seen of workers that are no more."""
        self._seen = {worker_id: self._seen[worker_id] for worker_id in listed if worker_id in self._seen}


class DeathWatches:
    """Decides whether workers are dead where the store has several servers, each with heartbeats of its own.

    Args:
        session: The store.
        dead_after_seconds: Silence that counts as death.
        own_beats: Returns how many heartbeats of this process have succeeded on a server, by its number.

    Attributes:
        parts: One watch for each part of the session, in their order.
    """

    def __init__(self, session: Session, dead_after_seconds: float, own_beats: Callable[[int], int]) -> None:
        self._session = session
        self.parts = [
            DeathWatch(part, dead_after_seconds, partial(own_beats, number))
            for number, part in enumerate(session.parts)
        ]
        self._by_part = dict(zip(session.parts, self.parts, strict=True))

    def beside(self, run_id: RunId) -> DeathWatch:
        """Return what watches the heartbeats that stand beside a run."""
        return self._by_part[self._session.beside(run_id)]

    def knows_this_process(self, run_id: RunId) -> bool:
        """Whether an own heartbeat stands beside a run: without one, others take this process's items from it.

        Where the store has one server, nothing is begun before.
        """
        return len(self.parts) == 1 or self.beside(run_id).has_own_beat


def gave_up(record: WorkerRecord, run_id: RunId, item: WorkItem) -> bool:
    """Return whether a worker does not vouch for this try of an item any more, because the body does not end."""
    tried = (run_id, item.item_id, item.attempt, item.lost)
    given_up = (body for body in record.stuck if body.is_given_up)
    return any(tried == (body.run_id, body.item_id, body.attempt, body.lost) for body in given_up)


def is_gone(record: WorkerRecord) -> bool:
    """Return whether the worker ran on this machine, since its last boot, and its process is gone."""
    if not record.boot or record.host != socket.gethostname() or record.boot != boot_id():
        return False
    return process_start(record.pid) != record.process_started


def boot_id() -> str:
    """Return what tells this boot of this machine (and its process namespace) from others; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """Return what tells this process from an earlier one with its number; empty where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
