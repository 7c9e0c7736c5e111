"""Where each record lives: the names of cells, counters, logs and indexes. The only place that knows them.

A run's records share the partition of its id. Indexes that belong to a run carry its id in their name; the others
span all runs. Entry keys that must sort by time begin with a fixed-width number of milliseconds.
"""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote, unquote

from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.records import Order, ScopePath, Timer, TimerKind
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Key

SYSTEM = "floxide"
"""Partition of records that belong to a server; the slot is `SYSTEM_SLOT`."""

RUNS = "runs"
TIMERS = "timers"
SET_ASIDE = "timers.aside"
CONDEMNED = "runs.condemned"
TOMBSTONES = "runs.tombstones"
RUNS_ASIDE = "runs.aside"
WORKERS = "workers"
QUARANTINE = "quarantine"
DEAD_LETTERS = "dead"

SCOPE_PREFIX = "s:"
"""What the names of scopes' cells begin with."""

ITEM_PREFIX = "i:"
"""What the names of items' cells begin with."""

LETTER_PREFIX = "d:"
"""What the names of dead letters' cells begin with."""

Kind: TypeAlias = tuple[str, str, str]
"""Workflow, version and node: what a worker must have to run an item."""

_LATEST = 10**14
"""Later than any time in milliseconds, so that ``_LATEST - t`` sorts the newest first."""


def header(run_id: RunId) -> Key:
    """The run's header cell."""
    return Key(run_id, "header")


def state(run_id: RunId) -> Key:
    """The run's state cell; its version is the epoch."""
    return Key(run_id, "state")


def item(run_id: RunId, item_id: WorkItemId) -> Key:
    """An item's cell; its version is the turn."""
    return Key(run_id, f"{ITEM_PREFIX}{item_id}")


def dead_letter(run_id: RunId, item_id: WorkItemId) -> Key:
    """The cell of an item's dead letter."""
    return Key(run_id, f"{LETTER_PREFIX}{item_id}")


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


def errors(run_id: RunId) -> Key:
    """The log of failed attempts."""
    return Key(run_id, "e")


def history(run_id: RunId) -> Key:
    """The log of ended items."""
    return Key(run_id, "h")


def live_items(run_id: RunId) -> str:
    """The index of the run's live items."""
    return f"live:{run_id}"


def arrivals(run_id: RunId, opener: str) -> str:
    """The index of values that reached a join, or with no opener the run's outputs."""
    return f"in:{run_id}:{opener}"


def arrival_entry(order: Order, item_id: WorkItemId) -> str:
    """An arrival's entry: fan-out order first."""
    return "".join(f"{n:08x}" for n in order) + f"~{item_id}"


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
        target = WorkItemId("run" if timer.kind is TimerKind.RUN_TIMEOUT else "resume")
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


def parked(queue: str) -> str:
    """The index of a task queue's items that wait for a worker with their workflow, version and node."""
    return f"parked:{queue}"


def kind_of_key(codec: str, key_id: str) -> Kind:
    """The kind of items that wait for a worker with a codec's key; no workflow has an empty name."""
    return "", codec, key_id


def parked_kind(kind: Kind) -> str:
    """What the entries of parked items of this workflow, version and node begin with; nothing else begins so."""
    return "".join(f"{quote(part, safe='')}/" for part in kind)


def parked_entry(kind: Kind, run_id: RunId, item_id: WorkItemId) -> str:
    """The entry of a parked item: those of one workflow, version and node lie together."""
    return parked_kind(kind) + place_entry(run_id, item_id)


def after_parked(kind: Kind) -> str:
    """An entry after every item of a kind and before those of every later one."""
    return parked_kind(kind)[:-1] + chr(ord("/") + 1)


def kind_of(entry: str) -> tuple[Kind, str]:
    """The workflow, version and node of a parked item's entry, and the item's own part of it."""
    workflow, version, node, place = entry.split("/", 3)
    return (unquote(workflow), unquote(version), unquote(node)), place


def run_entry(created_at_ms: int, run_id: RunId) -> str:
    """A run's entry in the lists of runs: newest first."""
    return f"{_LATEST - created_at_ms:014d}:{run_id}"


def run_of(entry: str) -> RunId:
    """The run an entry of a list of runs is about."""
    return RunId(entry.split(":", 1)[1])


def imported(run_id: RunId) -> Key:
    """What marks a run that is being imported, until it is whole."""
    return Key(run_id, "import")


def created_at_ms(entry: str) -> int:
    """When the run of an entry of a list of runs was started."""
    return _LATEST - int(entry.split(":", 1)[0])


def tombstone(run_id: RunId) -> Key:
    """What is left of a run that was deleted."""
    return Key(run_id, "tombstone")


def ended_runs(status: RunStatus) -> str:
    """The index of runs that ended so, by the time they did."""
    return f"runs.ended:{status.value}"


def timed_run(at_ms: int, run_id: RunId) -> str:
    """A run's entry in an index that is ordered by time: earliest first."""
    return f"{at_ms:014d}:{run_id}"


def time_and_run(entry: str) -> tuple[int, RunId]:
    """The time and the run of an entry of such an index."""
    at, _, run_id = entry.partition(":")
    return int(at), RunId(run_id)


def runs_with_status(status: RunStatus) -> str:
    """The index of runs with a stored status."""
    return f"runs.status:{status.value}"


def runs_of_workflow(workflow: str) -> str:
    """The index of a workflow's runs."""
    return f"runs.workflow:{workflow}"


def worker(worker_id: WorkerId) -> Key:
    """A worker's heartbeat record."""
    return Key(SYSTEM, f"worker:{worker_id}")


def returned_probe(queue: str) -> Key:
    """Up to where a task queue has delivered, by the latest probe that came back."""
    return Key(SYSTEM, f"probe:{queue}")


def maintenance_lease() -> Key:
    """The lease of the maintenance leader."""
    return Key(SYSTEM, "maintenance")
