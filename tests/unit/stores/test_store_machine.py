"""The typed stores against plain Python: Hypothesis invents what is written, paged through and read, on any driver.

Replies of commits are lost now and then: what a session says of a commit must be so all the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from floxide_amqp import Context, EventLog, Sum, Union
from floxide_amqp.core import changes as c
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.log_changes import AppendDelta, AppendHistory
from floxide_amqp.core.log_records import HistoryEntry
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, EnterOwner, LeaveMessage, LeaveOwner, SetTimer
from floxide_amqp.core.records import ItemInput, RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Batch, Committed, Conflict, KeyValueStore, Outcome
from floxide_amqp.stores import context_snapshots, contexts, keys
from floxide_amqp.stores.checkpoints import CheckpointStore
from floxide_amqp.stores.contexts import ContextStore, apply_page
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.indexes import IndexStore
from floxide_amqp.stores.items import ItemStore
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.runs import RunStore
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import BatchWriter
from floxide_amqp.testing.faults import FaultyKeyValueStore, StoreFaults

T = TypeVar("T")
WORKER = WorkerId("worker")
ITEMS = [WorkItemId(f"item-{number}") for number in range(4)]
MOST_VIEWS = 4
NEVER = 10**9

item_numbers = st.integers(0, len(ITEMS) - 1)
small = st.integers(0, 9)
times = st.integers(1_000, 1_020)


class Told(Context):
    total: Annotated[int, Sum()] = 0
    log: EventLog[int] = EventLog()
    names: Annotated[set[str], Union()] = set()


class StoreMachine(RuleBasedStateMachine):
    """One run, its context, its indexes, the lease and the quarantine; made for one store by `compare`."""

    runner: ClassVar[asyncio.Runner]
    store: ClassVar[KeyValueStore]
    number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        self.name = f"{self.number:06d}"
        self.run_id = RunId(f"run-{self.name}")
        self.faulty = FaultyKeyValueStore(self.store, random.Random(self.number), StoreFaults(lost_reply=0.2))
        self.session = Session(self.faulty, SystemClock())
        self.items = ItemStore(self.session)
        self.runs = RunStore(self.session)
        self.contexts = ContextStore(self.session, snapshot_after=4)
        self.indexes = IndexStore(self.session)
        self.liveness = LivenessStore(self.session)
        self.quarantine = QuarantineStore(self.session)
        self.header = RunHeader(
            run_id=self.run_id, workflow="W", version="1", input=b"", input_digest="", created_at_ms=self.number,
            context=pack(context_to_plain(Told())), deadline_ms=None, reply_to="", start_item=ITEMS[0],
        )  # fmt: skip
        self.writer = BatchWriter(self.run_id, self.number)
        # what must be so
        self.turns: dict[WorkItemId, int] = {}
        self.written: dict[WorkItemId, WorkItem] = {}
        self.history: list[WorkItemId] = []
        self.told: list[tuple[int, str]] = []
        self.messages: set[str] = set()
        self.timers: set[Timer] = set()
        self.owned: set[WorkItemId] = set()
        self.kept: dict[str, Quarantined] = {}
        # what readers hold
        self.views: list[Told] = []
        self.looks = 0
        self.caches: list[tuple[ContextState[Told], int]] = []
        state = RunState(status=RunStatus.PENDING, updated_at_ms=0)
        begun = self.commit((EpochIs(0),), (c.PutHeader(self.header), c.PutRun(state, None), self.put(0)), ITEMS[0])
        assert isinstance(begun, Committed)
        self.turns[ITEMS[0]] = 1

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def put(self, number: int, **what: Any) -> c.PutItem:
        item = WorkItem(
            item_id=ITEMS[number],
            node="n",
            queue="q",
            status=WorkItemStatus.PENDING,
            input=ItemInput(payload=b"p"),
            **what,
        )
        self.last_put = item
        if not self.written:
            self.written[item.item_id] = item
        return c.PutItem(item, is_listed=True)

    async def committed(self, conditions: tuple[Any, ...], changes: tuple[Any, ...], witness: WorkItemId) -> Any:
        token = self.session.new_token()
        return await self.session.commit(self.writer.batch(conditions, changes, token=token, witness=witness))

    def commit(self, conditions: tuple[Any, ...], changes: tuple[Any, ...], witness: WorkItemId) -> Any:
        return self.do(self.committed(conditions, changes, witness))

    # --- items and the context

    def tell(self, n: int, name: str, *, from_view: int | None = None) -> bytes:
        """The delta of a step that told something, on what it saw: the newest context, or one read long ago."""
        state, _ = self.do(self.contexts.load(self.header, Told))
        view: Any = state.view(f"step-{len(self.told)}-{n}-{name}")
        if from_view is not None and self.views:
            view = self.views.pop(from_view % len(self.views))
        view.total += n
        view.log.append(n)
        view.names.add(name)
        return pack(delta_of(view))

    @rule(number=item_numbers, is_stale=st.booleans(), n=small, name=st.sampled_from("abc"), view=st.none() | small)
    def step(self, number: int, *, is_stale: bool, n: int, name: str, view: int | None) -> None:
        """A step commits on the turn it was admitted with: it stands, or it conflicts."""
        item_id = ITEMS[number]
        turn = self.turns.get(item_id, 0)
        put = self.put(number, attempt=n, note=name)
        entry = HistoryEntry(
            item_id=item_id, node="n", status=WorkItemStatus.COMPLETED, attempts=1, ended_at_ms=0, duration_us=1,
            worker="w", parent="",
        )  # fmt: skip
        delta = self.tell(n, name, from_view=view)
        checked = turn + (1 if is_stale else 0)
        changes = (put, AppendDelta(item_id, delta), AppendHistory(entry), c.Count("completed", 1))
        outcome = self.commit((TurnIs(item_id, checked),), changes, item_id)
        if is_stale:
            assert isinstance(outcome, Conflict)
            return
        assert isinstance(outcome, Committed)
        self.turns[item_id], self.written[item_id] = turn + 1, put.item
        self.history.append(item_id)
        self.told.append((n, name))

    @rule(names=st.lists(st.sampled_from("abc"), min_size=len(ITEMS), max_size=len(ITEMS)), n=small)
    def step_side_by_side(self, names: list[str], n: int) -> None:
        """Steps commit at the same moment: they go in groups, and each stands on its own."""
        work: list[Awaitable[Any]] = []
        for number, name in enumerate(names):
            put = self.put(number, attempt=n, note=name)
            delta = AppendDelta(ITEMS[number], self.tell(number, name))
            turn = self.turns.get(ITEMS[number], 0)
            work.append(
                self.committed((TurnIs(ITEMS[number], turn),), (put, delta, c.Count("completed", 1)), ITEMS[number])
            )
            self.turns[ITEMS[number]], self.written[ITEMS[number]] = turn + 1, put.item

        async def at_once() -> list[Any]:
            return await asyncio.gather(*work)

        assert all(isinstance(outcome, Committed) for outcome in self.do(at_once()))
        self.told += list(enumerate(names))

    @rule()
    def look(self) -> None:
        """A step begins: its view of the context may be old when it ends."""
        state, _ = self.do(self.contexts.load(self.header, Told))
        self.views = [
            *self.views[-MOST_VIEWS:],
            state.view(f"old-{len(self.told)}-{random.Random(len(self.views)).random()}"),
        ]

    @rule()
    def remember(self) -> None:
        """A worker caches the context."""
        self.caches = [*self.caches[-MOST_VIEWS:], self.do(self.contexts.load(self.header, Told))]

    @rule(which=small, limit=st.integers(1, 3))
    @precondition(lambda self: self.caches)
    def refresh(self, which: int, limit: int) -> None:
        """A worker brings its cache up to the log's end, a few deltas at a time."""
        state, position = self.caches[which % len(self.caches)]
        while True:
            page = self.do(self.contexts.tail(self.run_id, position, limit))
            if page.first > position:  # trimmed behind a snapshot that somebody left meanwhile
                state, position = self.do(self.contexts.load(self.header, Told))
                break
            position = apply_page(state, position, page)
            if position >= page.length:
                break
        self.caches[which % len(self.caches)] = state, position
        self.check_context(state)

    @invariant()
    def what_is_stored_is_what_was_committed(self) -> None:
        """Items, turns, counters and lists are as the commits left them."""
        found = self.do(self.items.find(self.run_id, ITEMS))
        assert [0 if each is None else each.turn for each in found] == [self.turns.get(each, 0) for each in ITEMS]
        for each in found:
            if each is not None:
                assert replace(each.item, token=b"") == self.written[each.item.item_id]
        run = self.do(self.runs.load(self.run_id))
        assert run.counts.completed == len(self.told)
        assert self.do(self.items.live_ids(self.run_id)) == sorted(self.turns)

    @invariant()
    def a_checkpoint_is_what_a_run_without_interruption_would_have(self) -> None:
        """What a run goes on from has everything that was told, once, and every item."""
        checkpoint = self.do(CheckpointStore(self.session).load(self.run_id, Told))
        self.check_told(checkpoint.context)
        assert [item.item_id for item in checkpoint.pending] == sorted(self.turns)

    def check_context(self, state: ContextState[Told]) -> None:
        view: Any = state.view("check")
        self.check_told(view)

    def check_told(self, context: Told) -> None:
        assert context.total == sum(n for n, _ in self.told)
        assert sorted(context.log) == sorted(n for n, _ in self.told)
        assert context.names == {name for _, name in self.told}

    # --- indexes

    @rule(at=times, number=item_numbers, leaves=st.booleans())
    def note_message(self, at: int, number: int, *, leaves: bool) -> None:
        """A message is noted, or forgotten."""
        self.do(self.change_message(at, number, leaves=leaves))

    async def change_message(self, at: int, number: int, *, leaves: bool) -> None:
        entry = f"{at:014d}:{ITEMS[number]}:1"
        change = LeaveMessage(self.name, entry) if leaves else EnterMessage(self.name, entry, ITEMS[number], 1, WORKER)
        await self.session.commit(self.writer.batch((), (change,)))
        (self.messages.discard if leaves else self.messages.add)(entry)

    @rule(at=times, number=item_numbers, kind=st.sampled_from(TimerKind), leaves=st.booleans())
    def set_timer(self, at: int, number: int, kind: TimerKind, *, leaves: bool) -> None:
        """A timer is set, or dropped."""
        item_id = WorkItemId("") if kind.is_of_run else ITEMS[number]
        timer = Timer(due_ms=at, run_id=self.run_id, item_id=item_id, kind=kind, turn=NEVER + number)
        self.commit_plainly(DropTimer(timer) if leaves else SetTimer(timer))
        self.timers = {each for each in self.timers if keys.timer_entry(each) != keys.timer_entry(timer)}
        if not leaves:
            self.timers.add(timer)

    @rule(number=item_numbers, leaves=st.booleans())
    def own(self, number: int, *, leaves: bool) -> None:
        """A worker takes an item without a message, or lets it go."""
        owner = WorkerId(self.name)
        self.commit_plainly(LeaveOwner(owner, ITEMS[number]) if leaves else EnterOwner(owner, ITEMS[number]))
        (self.owned.discard if leaves else self.owned.add)(ITEMS[number])

    def commit_plainly(self, change: c.Change) -> None:
        assert isinstance(self.do(self.session.commit(self.writer.batch((), (change,)))), Committed)

    @rule(limit=st.integers(1, 3), meanwhile=st.lists(st.tuples(times, item_numbers, st.booleans()), max_size=5))
    def page_through(self, limit: int, meanwhile: list[tuple[int, int, bool]]) -> None:
        """A sweep goes through a list in pages while others write to it: nothing that stays is skipped or repeated."""
        always, ever, found = set(self.messages), set(self.messages), list[str]()

        async def sweep() -> None:
            after = ""
            while True:
                page = await self.indexes.messages(self.name, after=after, limit=limit)
                found.extend(note.entry for note in page)
                if len(page) < limit:
                    return
                after = page[-1].entry
                if meanwhile:
                    at, number, leaves = meanwhile.pop()
                    await self.change_message(at, number, leaves=leaves)
                    always.intersection_update(self.messages)
                    ever.update(self.messages)

        self.do(sweep())
        assert found == sorted(set(found))
        assert always <= set(found) <= ever

    @rule(limit=st.integers(1, 3), now=times)
    def look_for_due_timers(self, limit: int, now: int) -> None:
        """What is due comes in order, and all of it; what is not due stays away."""
        found: list[Timer] = []
        after = ""
        while True:
            page = self.do(self.indexes.due_timers(now, after=after, limit=limit))
            found += [due.timer() for due in page if due.timer().run_id == self.run_id]
            if len(page) < limit:
                break
            after = page[-1].entry
        assert [timer.due_ms for timer in found] == sorted(timer.due_ms for timer in found)
        assert set(found) == {timer for timer in self.timers if timer.due_ms <= now}
        assert len(found) == len(set(found))

    @rule()
    def look_at_what_a_worker_holds(self) -> None:
        """The owner entries are those that were entered and not left."""
        places = self.do(self.indexes.owned(WorkerId(self.name)))
        assert [place.item_id for place in places] == sorted(self.owned)

    # --- the lease and the quarantine

    @rule(candidates=st.integers(2, 4))
    def run_for_the_lease(self, candidates: int) -> None:
        """Whoever saw the same version: one gets it."""
        _, version = self.do(self.liveness.lease_holder())
        names = [WorkerId(f"{self.name}-{number}") for number in range(candidates)]
        self.faulty.faults = (
            StoreFaults()
        )  # it has no witness: a lost reply may leave the lease to nobody, until it is old

        async def at_once() -> list[bool]:
            return await asyncio.gather(*(self.liveness.take_lease(name, version) for name in names))

        took = self.do(at_once())
        self.faulty.faults = StoreFaults(lost_reply=0.2)
        assert sum(took) == 1
        holder, now = self.do(self.liveness.lease_holder())
        assert (holder, now) == (names[took.index(True)], version + 1)

    @rule(number=st.integers(0, 5), body=st.binary(max_size=20), removes=st.booleans())
    def quarantine_a_message(self, number: int, body: bytes, *, removes: bool) -> None:
        """A message is kept, or let go."""
        name = f"{self.name}-{number}"
        if removes:
            self.do(self.quarantine.remove(name))
            self.kept.pop(name, None)
            return
        message = Quarantined(quarantine_id=name, queue="q", reason="no", body=body, at_ms=number)
        self.do(self.quarantine.add(message))
        self.kept[name] = message

    @rule(limit=st.integers(1, 3))
    def list_the_quarantine(self, limit: int) -> None:
        """The list has what is kept, in order, and finds each."""
        found: list[Quarantined] = []
        after = self.name
        while page := self.do(self.quarantine.list(after=after, limit=limit)):
            found += [each for each in page if each.quarantine_id.startswith(self.name)]
            after = page[-1].quarantine_id
        assert found == [self.kept[name] for name in sorted(self.kept)]
        for name in self.kept:
            assert self.do(self.quarantine.find(name)) == self.kept[name]

    def teardown(self) -> None:
        """Leave nothing to later examples in the indexes that span all runs."""
        for timer in self.timers:
            self.commit_plainly(DropTimer(timer))


def compare(open_store: Callable[[], Awaitable[KeyValueStore]], *, examples: int, **options: Any) -> None:
    async def opened() -> KeyValueStore:
        return await open_store()

    with asyncio.Runner() as runner:
        store = runner.run(opened())
        machine = type("Machine", (StoreMachine,), {"runner": runner, "store": store, "number": 0})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples, stateful_step_count=20, deadline=None,
                    suppress_health_check=list(HealthCheck), **options,
                ),
            )  # fmt: skip
        finally:
            runner.run(store.aclose())


@pytest.fixture(autouse=True)
def frequent_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "PAGE", 3)


@pytest.mark.timeout(300)
@pytest.mark.fault(27)
def test_the_stores_on_memory_are_what_plain_python_says() -> None:
    async def open_store() -> KeyValueStore:
        return MemoryKeyValueStore()

    compare(open_store, examples=max(20, settings().max_examples // 4))


@pytest.mark.timeout(300)
@pytest.mark.fault(27)
def test_the_stores_on_sqlite_are_what_plain_python_says(tmp_path: Path) -> None:
    compare(
        lambda: SqliteKeyValueStore.open(str(tmp_path / "store.db"), synchronous=Synchronous.NORMAL),
        examples=max(8, settings().max_examples // 12),
    )


# --- the machine can fail


async def believe_the_worst(self: Session, batch: Batch) -> Outcome:
    """Take a commit whose reply was lost for one that was not applied."""
    return (await self._commit_group([batch]))[0]  # type: ignore[return-value]


def one_too_many(position: int, *rest: Any) -> bytes:
    return ENCODE_SNAPSHOT(position + 1, *rest)


async def drop_the_last(self: IndexStore, queue: str, *, after: str = "", limit: int = 500) -> list[Any]:
    return (await MESSAGES(self, queue, after=after, limit=limit + 1))[:-1]


ENCODE_SNAPSHOT, MESSAGES = context_snapshots.encode_snapshot, IndexStore.messages
MUTANTS: dict[str, tuple[object, str, object]] = {
    "that a lost reply is not looked into": (Session, "_settle", believe_the_worst),
    "that a snapshot reaches further than it says": (context_snapshots, "encode_snapshot", one_too_many),
    "that a page lacks its last entry": (IndexStore, "messages", drop_the_last),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_machine_notices(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_store() -> KeyValueStore:
        return MemoryKeyValueStore()

    monkeypatch.setattr(*MUTANTS[mutant])
    with pytest.raises((AssertionError, IndexError, BaseExceptionGroup)):
        compare(open_store, examples=100, phases=[Phase.generate], derandomize=True, database=None)
