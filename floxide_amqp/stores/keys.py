"""Where each record lives: the names of cells, counters, logs and indexes. The only place that knows them.

A run's records share the partition of its id. Indexes that belong to a run carry its id in their name; the others
span all runs. Entry keys that must sort by time begin with a fixed-width number of milliseconds.
"""

from __future__ import annotations

from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from floxide_amqp.core.ids import RunId, ScopeId, WorkerId, WorkItemId
from floxide_amqp.core.records import BY_HAND, Mail, Order, ScopePath, Timer, TimerKind
from floxide_amqp.core.set_aside import SET_ASIDE_PREFIX
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
LETTERS = "letters"
LIMITS = "limits"
RATES = "rates"
SCHEDULES = "schedules"
VERSIONS = "versions"
TASK_QUEUES = "queues"

SOURCES = "sources"

SOURCE_PREFIX = " source:"
"""What the partitions of sources begin with."""

SCHEDULE_PREFIX = " schedule:"
"""What the partitions of schedules begin with; no run's id begins with a blank."""

SCOPE_PREFIX = "s:"
"""What the names of scopes' cells begin with."""

ITEM_PREFIX = "i:"
"""What the names of items' cells begin with."""

DEAD_LETTER_PREFIX = "d:"
"""What the names of dead letters' cells begin with."""

CHILD_PREFIX = "k:"
"""What the names of cells begin with in which a run keeps what it knows of its children."""

RECEIVED_PREFIX = "g:"
"""What the names of the marks of received letters begin with."""

MAIL_PREFIX = "ml:"
"""What the names of the cells of values begin with that nobody has taken."""

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
    return Key(run_id, f"{DEAD_LETTER_PREFIX}{item_id}")


def letters_of(run_id: RunId) -> str:
    """The index of letters that a run has written and nobody has delivered yet."""
    return arrivals(run_id, POSTED)


def due_letter(look_at_ms: int, letter_id: str) -> str:
    """The entry of a letter in the list of all that are not delivered: those to be looked at first come first."""
    return f"{look_at_ms:014d}:{letter_id}"


def child(run_id: RunId, child_id: RunId) -> Key:
    """The cell of what a run knows of a child."""
    return Key(run_id, f"{CHILD_PREFIX}{child_id}")


def children(run_id: RunId) -> str:
    """The index of a run's children."""
    return arrivals(run_id, CHILDREN)


def tickets_of(run_id: RunId) -> str:
    """The index of a run's items that hold a concurrency key or wait for one."""
    return arrivals(run_id, TICKETS)


def queue_of(place: RunId) -> str:
    """The index of those who wait for a concurrency key, in the partition of the key."""
    return arrivals(place, TICKETS)


def child_entry(epoch: int, started_at_ms: int, child_id: RunId) -> str:
    """A child's entry: those come first that were started in an earlier epoch of the parent, and earlier within it."""
    return f"{epoch:012d}:{started_at_ms:014d}:{child_id}"


def children_until(epoch: int) -> str:
    """An entry just after every child started up to an epoch of the parent."""
    return f"{epoch + 1:012d}"


def child_of(entry: str) -> RunId:
    """The child an entry is about."""
    return RunId(entry.split(":", 2)[2])


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


def schedule_partition(name: str) -> RunId:
    """The partition of a schedule's records, which has its place among the slots as a run has."""
    return RunId(f"{SCHEDULE_PREFIX}{name}")


def schedule_of(partition: str) -> str | None:
    """The name of the schedule whose partition this is; None where it is none."""
    return partition.removeprefix(SCHEDULE_PREFIX) if partition.startswith(SCHEDULE_PREFIX) else None


def schedule_spec(name: str) -> Key:
    """The cell of what a schedule is to do."""
    return Key(schedule_partition(name), "spec")


def schedule_state(name: str) -> Key:
    """The cell of how far a schedule is."""
    return Key(schedule_partition(name), "progress")


def source_partition(name: str) -> RunId:
    """The partition of a source's records, which has its place among the slots as a run has."""
    return RunId(f"{SOURCE_PREFIX}{name}")


def source_of(partition: str) -> str | None:
    """The name of the source whose partition this is; None where it is none."""
    return partition.removeprefix(SOURCE_PREFIX) if partition.startswith(SOURCE_PREFIX) else None


def open_runs_of_source(name: str) -> str:
    """The index of a source's runs that were not over when it last looked."""
    return arrivals(source_partition(name), "open")


def mail_of(run_id: RunId) -> str:
    """The index of values that signals brought to a run and no item has taken: by name, then the oldest first."""
    return arrivals(run_id, MAIL)


def mail_entry(mail: Mail) -> str:
    """The entry of such a value."""
    return f"{mail.name}/{mail.sent_at_ms:014d}.{mail.number:06d}:{mail.signal_id}"


def waits_of(run_id: RunId) -> str:
    """The index of a run's items that wait for signals: by name, then those that wait longest first."""
    return arrivals(run_id, WAITS)


def wait_entry(name: str, since_ms: int, item_id: WorkItemId) -> str:
    """The entry of such an item."""
    return f"{name}/{since_ms:014d}:{item_id}"


def of_signal(name: str) -> tuple[str, str]:
    """Return `after` and `before` of a signal's entries in these two indexes."""
    return f"{name}/", f"{name}{chr(ord('/') + 1)}"


def waiter_of(entry: str) -> WorkItemId:
    """The item that an entry of the index of waiting items is about."""
    return WorkItemId(entry.rpartition(":")[2])


def signal_mark(run_id: RunId, signal_id: str) -> Key:
    """What marks a signal that a run has accepted."""
    return Key(run_id, f"sm:{signal_id}")


def mail(run_id: RunId, signal_id: str) -> Key:
    """The cell that is there while nobody has taken a value that was kept."""
    return Key(run_id, f"{MAIL_PREFIX}{signal_id}")


def mailbox(run_id: RunId) -> Key:
    """The cell whose version rises with each value that is kept."""
    return Key(run_id, "mailbox")


def waiters(run_id: RunId, name: str) -> Key:
    """The cell whose version rises whenever an item begins to wait for a signal."""
    return Key(run_id, f"w:{name}")


def unread(run_id: RunId) -> Key:
    """The counter of values that are kept."""
    return Key(run_id, "unread")


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


def set_aside(workflow: str | None = None) -> tuple[str, str]:
    """Return `after` and `before` of the entries of items that were set aside: of a workflow's, or of all."""
    first = quote(SET_ASIDE_PREFIX, safe="")
    if workflow is None:
        return first, first[:-1] + chr(ord(first[-1]) + 1)
    first = f"{quote(SET_ASIDE_PREFIX + workflow, safe='')}/"
    return first, first[:-1] + chr(ord("/") + 1)


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


def listed_as(workflow: str, version: str) -> bytes:
    """What a run's entry in the list of its status says of it; empty where that is not known."""
    return f"{workflow}\n{version}".encode() if workflow and version else b""


def listed_version(value: bytes) -> tuple[str, str] | None:
    """The workflow and version that such an entry says; None where it says nothing."""
    workflow, found, version = value.decode(errors="replace").partition("\n")
    return (workflow, version) if found else None


def runs_of_workflow(workflow: str) -> str:
    """The index of a workflow's runs."""
    return f"runs.workflow:{workflow}"


def attributes(run_id: RunId) -> Key:
    """The cell of the run's attributes."""
    return Key(run_id, "attributes")


def runs_with_attribute(name: str, lookup: str) -> str:
    """The index of the runs with an attribute, in the order of the lists of runs; no name has a colon in it."""
    return f"runs.attribute:{name}:{lookup}"


def entries_between(started_from_ms: int | None, started_before_ms: int | None) -> tuple[str, str | None]:
    """Return `after` and `before` of those entries in lists of runs that were started within a time.

    Args:
        started_from_ms: Not those started before; None for any.
        started_before_ms: Only those started before; None for any.
    """
    after = "" if started_before_ms is None else _place_in_list(started_before_ms - 1)
    return after, None if started_from_ms is None or started_from_ms <= 1 else _place_in_list(started_from_ms - 1)


def _place_in_list(created_at_ms: int) -> str:
    """Return a place just before the entries of runs that were started then."""
    return f"{min(max(_LATEST - created_at_ms, 0), _LATEST - 1):014d}"


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
