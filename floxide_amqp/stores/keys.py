"""Where each record lives: the names of cells, counters, logs and indexes.

Only this module and those beside it whose names end in ``_keys`` know them. A run's records share the partition of its
id. Indexes that belong to a run carry its id in their name; the others span all runs. Entry keys that must sort by time
begin with a fixed-width number of milliseconds.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.records import BY_HAND, Order, ScopePath
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.ports.key_value import Key

SYSTEM = "floxide"
"""Partition of records that belong to a server; the slot is `SYSTEM_SLOT`."""

TIMERS = "timers"
SET_ASIDE = "timers.aside"
CONDEMNED = "runs.condemned"
TOMBSTONES = "runs.tombstones"
RUNS_ASIDE = "runs.aside"
WORKERS = "workers"
QUARANTINE = "quarantine"
DEAD_LETTERS = "dead"
LETTERS = "letters"
LIMITS = "limits"
RATES = "rates"
VERSIONS = "versions"
TASK_QUEUES = "queues"

SCOPE_PREFIX = "s:"
"""What the names of scopes' cells begin with."""

ITEM_PREFIX = "i:"
"""What the names of items' cells begin with."""

DEAD_LETTER_PREFIX = "d:"
"""What the names of dead letters' cells begin with."""

RECEIVED_PREFIX = "g:"
"""What the names of the marks of received letters begin with."""

BEGUN = "begun"
"""What steps whose bodies may have run arrive at, in place of a join."""

POSTED = "posted"
"""What letters arrive at that a run has written, in place of a join, until they are delivered."""

MAIL = "mail"
"""What values of signals arrive at that nobody has taken yet."""

TICKETS = "tickets"
"""What items arrive at, in place of a join, that hold a concurrency key or wait for one."""

CHILDREN = "children"
"""What the runs arrive at that a run has started, in place of a join."""

WAITS = "waits"
"""What items arrive at that wait for signals."""

ALWAYS: Final[tuple[str, ...]] = ("", BY_HAND, BEGUN, POSTED, MAIL, WAITS, CHILDREN, TICKETS)
"""What may have arrived in any run: outputs, those given by hand, steps that have begun, letters, signals, who waits
for one, children, and items with tickets for concurrency keys."""


def header(run_id: RunId) -> Key:
    """The run's header cell."""
    return Key(run_id, "header")


def state(run_id: RunId) -> Key:
    """The run's state cell; its version is the epoch."""
    return Key(run_id, "state")


def item(run_id: RunId, item_id: WorkItemId) -> Key:
    """An item's cell; its version is the turn."""
    return Key(run_id, f"{ITEM_PREFIX}{item_id}")


def item_input(run_id: RunId, item_id: WorkItemId) -> Key:
    """The cell of an item's input, where that is large."""
    return Key(run_id, f"v:{item_id}")


def dead_letter(run_id: RunId, item_id: WorkItemId) -> Key:
    """The cell of an item's dead letter."""
    return Key(run_id, f"{DEAD_LETTER_PREFIX}{item_id}")


def letters_of(run_id: RunId) -> str:
    """The index of letters that a run has written and nobody has delivered yet."""
    return arrivals(run_id, POSTED)


def due_letter(look_at_ms: int, letter_id: str) -> str:
    """The entry of a letter in the list of all that are not delivered: those to be looked at first come first."""
    return f"{look_at_ms:014d}:{letter_id}"


def tickets_of(run_id: RunId) -> str:
    """The index of a run's items that hold a concurrency key or wait for one."""
    return arrivals(run_id, TICKETS)


def queue_of(place: RunId) -> str:
    """The index of those who wait for a concurrency key, in the partition of the key."""
    return arrivals(place, TICKETS)


def received(run_id: RunId, letter_id: str) -> Key:
    """What marks a letter as applied to a run."""
    return Key(run_id, f"{RECEIVED_PREFIX}{letter_id}")


def scope(run_id: RunId, scope_id: ScopeId) -> Key:
    """A scope's cell; its version is the scope's epoch."""
    return Key(run_id, f"{SCOPE_PREFIX}{scope_id}")


def opener_of(scope: Key) -> str:
    """The item that opened the fan-out of a scope: what arrives at its join lies under this item's id."""
    return scope.name.removeprefix(SCOPE_PREFIX).partition(".")[0]


def scope_count(run_id: RunId, path: ScopePath) -> Key:
    """The counter of a scope's live items."""
    return Key(run_id, f"n:{path[-1] if path else ''}")


def count(run_id: RunId, name: str) -> Key:
    """One of the run's counters."""
    return Key(run_id, f"c:{name}")


def page(run_id: RunId, opener: str, number: int) -> Key:
    """One page of a large fan-out's outputs."""
    return Key(run_id, f"p:{opener}:{number}")


def context_log(run_id: RunId) -> Key:
    """The log of the context's deltas."""
    return Key(run_id, "x")


def context_snapshots(run_id: RunId) -> tuple[Key, Key]:
    """The two places for snapshots of the context."""
    return Key(run_id, "xs"), Key(run_id, "xt")


def context_segment(run_id: RunId, number: int) -> Key:
    """A part of the context that no later snapshot writes again."""
    return Key(run_id, f"xc:{number}")


def joined(run_id: RunId, name: str) -> Key:
    """A counter of joins of edges, and the log of what is counted: see `floxide_amqp.core.joins`."""
    return Key(run_id, name)


def errors(run_id: RunId) -> Key:
    """The log of failed attempts."""
    return Key(run_id, "e")


def history(run_id: RunId) -> Key:
    """The log of ended items."""
    return Key(run_id, "h")


def moments(run_id: RunId) -> Key:
    """The log of what happened to the run that no other log tells."""
    return Key(run_id, "moments")


def audit(run_id: RunId) -> Key:
    """The log of what somebody did to the run."""
    return Key(run_id, "a")


def compensables(run_id: RunId) -> Key:
    """The log of completed steps that are to be undone if the run fails or is cancelled."""
    return Key(run_id, "u")


def live_items(run_id: RunId) -> str:
    """The index of the run's live items."""
    return f"live:{run_id}"


def arrivals(run_id: RunId, opener: str) -> str:
    """The index of values that reached a join, or with no opener the run's outputs."""
    return f"in:{run_id}:{opener}"


def begun(run_id: RunId) -> str:
    """The index of steps with a compensation whose bodies may have run, and which have not completed."""
    return arrivals(run_id, BEGUN)


def arrival_entry(order: Order, item_id: WorkItemId) -> str:
    """An arrival's entry: fan-out order first."""
    return "".join([f"{n:08x}" for n in order]) + f"~{item_id}"


def messages(queue: str) -> str:
    """The index of messages published to a task queue."""
    return f"messages:{queue}"


def owned(worker: WorkerId) -> str:
    """The index of items that a worker holds without a message."""
    return f"owned:{worker}"


def place_entry(run_id: RunId, item_id: WorkItemId) -> str:
    """The entry of an item that a worker holds, or that is parked."""
    return f"{item_id}:{run_id}"


def timer_entry(timer: Timer) -> str:
    """A timer's entry: earliest first, and of one item one per turn, so that dropping an old one spares the new."""
    target = timer.item_id
    if timer.kind.is_of_run:
        target = WorkItemId("run" if timer.kind is TimerKind.RUN_TIMEOUT else timer.kind.value)
    return f"{timer.due_ms:014d}:{target}:{timer.turn}:{timer.run_id}"


def set_aside_entry(again_at_ms: int, entry: str) -> str:
    """The entry of a timer that could not be fired: those to be tried first come first."""
    return f"{again_at_ms:014d}:{entry}"


def aside_run(again_at_ms: int, index: str, entry: str) -> str:
    """The entry of a run that could not be deleted: those to be tried first come first."""
    return f"{again_at_ms:014d}:{quote(index, safe='')}:{entry}"


def run_aside(entry: str) -> tuple[str, str]:
    """The index and the entry where such a run stood."""
    _, index, original = entry.split(":", 2)
    return unquote(index), original


def timers_until(now_ms: int) -> str:
    """An entry just after every timer that is due."""
    return f"{now_ms + 1:014d}"


def imported(run_id: RunId) -> Key:
    """What marks a run that is being imported, until it is whole."""
    return Key(run_id, "import")


def tombstone(run_id: RunId) -> Key:
    """What is left of a run that was deleted."""
    return Key(run_id, "tombstone")


def attributes(run_id: RunId) -> Key:
    """The cell of the run's attributes."""
    return Key(run_id, "attributes")


def version(workflow: str, version: str) -> Key:
    """The description of a workflow's version."""
    return Key(SYSTEM, f"version:{version_entry(workflow, version)}")


def version_entry(workflow: str, version: str) -> str:
    """The entry of a workflow's version in the list of those that are described."""
    return f"{quote(workflow, safe='')}/{quote(version, safe='')}"


def version_of(entry: str) -> tuple[str, str]:
    """The workflow and the version that an entry of that list is about."""
    workflow, _, version = entry.partition("/")
    return unquote(workflow), unquote(version)


def worker(worker_id: WorkerId) -> Key:
    """A worker's heartbeat record."""
    return Key(SYSTEM, f"worker:{worker_id}")


def returned_probe(queue: str) -> Key:
    """Up to where a task queue has delivered, by the latest probe that came back."""
    return Key(SYSTEM, f"probe:{queue}")


def maintenance_lease() -> Key:
    """The lease of the maintenance leader."""
    return Key(SYSTEM, "maintenance")
