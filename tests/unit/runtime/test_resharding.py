"""The runs of a store move to other servers, whatever state they are in and wherever the move dies, and go on there."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from floxide_amqp import AmqpSource, NextAll, Schedule, Workflow, gather, node
from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, WorkItemId, slot_of
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.core.sources import SourceCounts
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    InvalidRunStateError,
    ReshardingError,
    RunDeletedError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import Batch, Clear, Delete, Enter, KeyValueStore, Leave, Put, Read
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import import_commits, keys, run_list_keys, schedule_keys, source_keys
from floxide_amqp.stores import versions as versions_store
from floxide_amqp.stores.identity import identity_of
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.places import PLACE
from floxide_amqp.stores.quarantine import QuarantineStore
from floxide_amqp.stores.resharding import Move, plan, reshard
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sharded_session import session_with
from floxide_amqp.stores.task_queues import TaskQueueStore
from floxide_amqp.stores.versions import VersionStore
from floxide_amqp.testing.faults import FaultyKeyValueStore
from floxide_amqp.testing.simulation.random_pieces import Tally
from floxide_amqp.testing.simulation.random_workflows import random_workflow
from floxide_amqp.testing.virtual_time import VirtualClock, run
from tests.unit.runtime.cluster import QUICK, Cluster, GuardedStore, Member

ALONE = ""
WATCH = QUICK.heartbeat * 2.5


class MovingCluster(Cluster):
    """Workers on a store whose servers are others after a while."""

    def __init__(self, *workflows: Any, **options: Any) -> None:
        super().__init__(*workflows, **options)
        self.disks: dict[str, GuardedStore] = {ALONE: self.store}
        self.links: dict[str, list[FaultyKeyValueStore]] = {}
        self._link_count = 0

    def _session(self, store: FaultyKeyValueStore) -> Session:
        links = {name: FaultyKeyValueStore(disk, random.Random(2)) for name, disk in self.disks.items()}
        self._link_count += 1
        self.links[str(self._count)] = list(links.values())
        return session_with(stored_on(links), VirtualClock(), patience_seconds=20.0)

    async def kill(self, member: Member) -> None:
        for link in self.links[member.name.rpartition("-")[2]]:
            link.cut()
        await member.kill()
        await asyncio.gather(member.task, return_exceptions=True)

    def disk_of(self, run_id: str) -> GuardedStore:
        store = stored_on(self.disks)
        name = store.shard_of(slot_of(RunId(run_id))) if isinstance(store, ShardedKeyValueStore) else ALONE
        return self.disks[name]

    def _loose_ends(self) -> dict[str, list[str]]:
        return {
            f"{name} {index}": entries
            for name, disk in self.disks.items()
            for index, entries in disk.leftovers("messages:", "owned:", "parked:", "timers").items()
        }

    async def check_completed(self, run_id: str) -> None:
        stored = await self.client().services.runs.load(RunId(run_id))
        assert stored.state.status is RunStatus.COMPLETED, (run_id, stored.state, self._loose_ends())
        ended = [(entry.item_id, entry.status) for entry in await self.history(run_id)]
        assert len(ended) == len(set(ended)), "an item ended twice"
        assert self.disk_of(run_id).scope_counts(run_id) == {}
        assert (stored.counts.live, stored.counts.waiting) == (0, 0)
        assert await self.settle() == {}
        assert [disk.violations for disk in self.disks.values()] == [[]] * len(self.disks)


def stored_on(servers: Mapping[str, KeyValueStore]) -> KeyValueStore:
    return servers[ALONE] if ALONE in servers else ShardedKeyValueStore(servers)


async def identity(servers: Mapping[str, KeyValueStore]) -> str:
    return await identity_of(session_with(stored_on(servers), VirtualClock()))


@asynccontextmanager
async def unguarded(*disks: MemoryKeyValueStore) -> AsyncIterator[None]:
    """Records come as they are, not by the moves that the stores of a cluster watch."""
    for disk in disks:
        disk.__class__ = MemoryKeyValueStore
    try:
        yield
    finally:
        for disk in disks:
            disk.__class__ = GuardedStore


async def move(
    here: Mapping[str, MemoryKeyValueStore], there: Mapping[str, MemoryKeyValueStore], **options: Any
) -> Sequence[Move]:
    async with unguarded(*here.values(), *there.values()):
        return await reshard(here, ShardedKeyValueStore(there), VirtualClock(), **{"watch_seconds": WATCH, **options})


async def move_and_die(
    here: Mapping[str, MemoryKeyValueStore],
    there: Mapping[str, MemoryKeyValueStore],
    commits: int,
    *,
    reply_is_lost: bool = False,
) -> bool:
    """Move until so many commits have been sent; return whether it came to its end before."""
    links: dict[int, FaultyKeyValueStore] = {}
    left = commits

    async def count(batches: Sequence[Batch]) -> None:
        nonlocal left
        left -= len(batches)
        if left < 0:
            for link in links.values():
                link.cut()
            if not reply_is_lost:
                raise StoreUnavailableError(store="cut", reason="it died")

    for disk in (*here.values(), *there.values()):
        link = links.setdefault(id(disk), FaultyKeyValueStore(disk, random.Random(3)))
        if reply_is_lost:
            link.after_commit = count
        else:
            link.before_commit = count
    through = [{name: links[id(disk)] for name, disk in servers.items()} for servers in (here, there)]
    async with unguarded(*here.values(), *there.values()):
        try:
            await reshard(
                through[0], ShardedKeyValueStore(through[1]), VirtualClock(), watch_seconds=WATCH, patience_seconds=0.01
            )
        except (StoreUnavailableError, CommitOutcomeUnknownError):
            return False
    return True


def is_marked(*servers: Mapping[str, MemoryKeyValueStore]) -> bool:
    slots = [disk._slots.get(SYSTEM_SLOT) for each in servers for disk in each.values()]
    return any(b'"targets"' in slot.cells[PLACE].value for slot in slots if slot and PLACE in slot.cells)


def left_on(disk: MemoryKeyValueStore) -> list[str]:
    """What a server still has."""
    records = [
        str(key)
        for slot in disk._slots.values()
        for key in (*slot.cells, *slot.logs, *(key for key, count in slot.counters.items() if count))
    ]
    return sorted(records) + [name for name, entries in disk._indexes.items() if len(entries)]


# --- random runs, in every state, moved again and again


@pytest.mark.parametrize("seed", range(6))
def test_random_runs_in_every_state_move_from_servers_to_others_and_end_as_if_they_never_had(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_commits, "MOST_WRITES", 7)
    run(_play(seed))


async def _play(seed: int) -> None:
    chance = random.Random(seed)
    workflow, tell = random_workflow(seed)
    told = tell(7)
    here = MovingCluster(workflow, seed=seed, limits=Limits(concurrency=4))
    store_id = await identity(here.disks)
    a, b, c, d, e = (GuardedStore() for _ in range(5))
    ways = [
        {"a": here.disks[ALONE], "b": b, "c": c},
        {"a": here.disks[ALONE], "b": b, "c": c, "d": d},
        {"d": d, "e": e},
        {"d": d, "a": a},
    ]
    run_ids: list[str] = []
    for number, there in enumerate(ways):
        members = [await here.start_worker(), await here.start_worker(queues=["other"])]
        client = here.client()
        for _ in range(5):
            run_ids.append(f"run-{len(run_ids)}")
            await client.start(workflow, 7, run_id=run_ids[-1], attributes={"tenant": "acme", "run": run_ids[-1]})
            await asyncio.sleep(chance.choice([0, 0.01, 0.1, 0.5]))
        with suppress(InvalidRunStateError):
            await client.pause(chance.choice(run_ids))
        for member in members:
            await here.kill(member)
        if number == 2:
            await QuarantineStore(Session(here.disks["b"], VirtualClock())).add(
                Quarantined(quarantine_id="q1", queue="default", reason="no message", body=b"x" * 100_000, at_ms=1)
            )
        for attempt in itertools.count():
            is_done = await move_and_die(
                here.disks, there, chance.randint(0, 30 + 30 * attempt), reply_is_lost=chance.random() < 0.3
            )
            if is_done:
                break
            if is_marked(here.disks, there):
                for servers in (here.disks, there):
                    with pytest.raises(ConfigurationError):
                        await identity(servers)
        for name, disk in here.disks.items():
            if disk not in there.values():
                assert left_on(disk) == ["Key(partition='floxide', name='shard')"]
                with pytest.raises(ConfigurationError, match="has emptied this server"):
                    await identity({name: disk})
        await check_shared(there)
        here.disks = dict(there)
        if chance.random() < 0.5:  # the broker was emptied too
            here.queue = MemoryWorkQueue()
        assert await identity(here.disks) == store_id
        assert await move(here.disks, there) == ()
    client = here.client()
    await here.start_worker()
    await here.start_worker(queues=["other"])
    assert [each.quarantine_id for each in await client.services.quarantine.list()] == ["q1"]
    for run_id in run_ids:
        if await client.status(run_id) is RunStatus.PAUSED:
            await client.resume(run_id)
        assert await client.handle(workflow, run_id).result(timeout=900) == told.value
        context = await client.context(workflow, run_id)
        assert isinstance(context, Tally)
        assert context.steps == told.steps
        await here.check_completed(run_id)
    listed = await client.list_runs(limit=100, attributes={"tenant": "acme"})  # their children have no attributes
    assert sorted(info.run_id for info in listed.runs) == sorted(run_ids)
    await here.close()


# --- one scene, with a death at every commit


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def slow(n: int) -> int:
    await asyncio.sleep(n)
    return n


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class Small(Workflow[int, int]):
    start = spread
    edges = (spread >> slow >> gather(total),)


async def scene() -> MovingCluster:
    """A store of one server with runs that go on, a paused one, one that has ended and deleted ones; nobody lives."""
    here = MovingCluster(Small)
    member = await here.start_worker()
    client = here.client()
    await identity(here.disks)
    for run_id in ("done", "deleted", "condemned"):
        assert await (await client.start(Small, 2, run_id=run_id)).result(timeout=60) == 1
    await client.delete("deleted")
    await client.start(Small, 6, run_id="open")
    await client.start(Small, 6, run_id="paused")
    await asyncio.sleep(2.5)
    await client.pause("paused")
    await client.start(Small, 3, run_id="new")
    await here.kill(member)
    loaded = await client.services.runs.load(RunId("condemned"))
    assert await client.services.removal.condemn(loaded, client.services.now_ms())
    return here


def servers_for(one: GuardedStore) -> dict[str, GuardedStore]:
    return {"anna": one, "bert": GuardedStore(), "cleo": GuardedStore()}


def copied(disk: GuardedStore) -> GuardedStore:
    other = GuardedStore()
    other._slots, other._indexes = copy.deepcopy((disk._slots, disk._indexes))
    return other


def everything(servers: Mapping[str, MemoryKeyValueStore]) -> dict[tuple[str, ...], object]:
    """All that servers hold, but for the moment at which messages count as put, and versions in the system's slot."""
    found: dict[tuple[str, ...], object] = {}
    for server, disk in servers.items():
        for number, slot in disk._slots.items():
            for key, cell in slot.cells.items():
                found[server, str(number), *key] = cell.value if number == SYSTEM_SLOT else cell
            found |= {(server, str(number), "counter", *key): n for key, n in slot.counters.items() if n}
            for key, log in slot.logs.items():
                found[server, str(number), "log", *key] = (log.first, tuple(log.entries))
        for name, entries in disk._indexes.items():
            for entry, _, value in entries.between("", None, reverse=False):
                at = entry.partition(":")[2] if name.startswith("messages:") else entry
                found[server, "index", name, at] = value
    return found


@pytest.mark.parametrize("reply_is_lost", [False, True])
def test_a_move_that_dies_at_any_commit_and_is_repeated_leaves_what_an_undisturbed_one_leaves(
    reply_is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_commits, "MOST_WRITES", 12)

    async def play() -> int:
        here = await scene()
        start = copied(here.disks[ALONE])
        undisturbed = servers_for(copied(start))
        await move({ALONE: undisturbed["anna"]}, undisturbed)
        wanted = everything(undisturbed)
        assert {name for name, *_ in wanted} == {"anna", "bert", "cleo"}
        for commits in itertools.count():
            one = copied(start)
            there = servers_for(one)
            if await move_and_die({ALONE: one}, there, commits, reply_is_lost=reply_is_lost):
                return commits
            if is_marked(there):
                with pytest.raises(ConfigurationError, match=r"`floxide store reshard`"):
                    await identity({ALONE: one})
                with pytest.raises(ConfigurationError):
                    await identity(there)
            await move({ALONE: one}, there)
            assert everything(there) == wanted
        raise AssertionError

    assert run(play()) > 50


@pytest.mark.parametrize("messages_are_lost", [False, True])
async def test_runs_keep_their_status_and_go_on_where_they_are(messages_are_lost: bool) -> None:
    here = await scene()
    here.queue = MemoryWorkQueue() if messages_are_lost else here.queue
    there = servers_for(here.disks[ALONE])
    moves = await plan(here.disks, ShardedKeyValueStore(there), VirtualClock())
    assert await move(here.disks, there) == moves
    here.disks = dict(there)
    client = here.client()
    assert {run_id: await client.status(run_id) for run_id in ("done", "open", "paused", "new")} == {
        "done": RunStatus.COMPLETED, "open": RunStatus.RUNNING, "paused": RunStatus.PAUSED, "new": RunStatus.PENDING,
    }  # fmt: skip
    open_items = await client.pending_work("open")
    assert {item.status for item in open_items} == {WorkItemStatus.PENDING}
    for run_id in ("deleted", "condemned"):
        with pytest.raises(RunDeletedError):
            await client.status(run_id)
    await here.start_worker()
    assert await client.handle(Small, "open").result(timeout=300) == 15
    assert await client.handle(Small, "new").result(timeout=300) == 3
    await client.resume("paused")
    assert await client.handle(Small, "paused").result(timeout=300) == 15
    for run_id in ("open", "new", "paused", "done"):
        await here.check_completed(run_id)
    assert {index for disk in there.values() for index in disk.leftovers(keys.CONDEMNED)} == set()
    with pytest.raises(RunDeletedError):
        await client.start(Small, 2, run_id="deleted")
    await here.close()


async def test_an_item_that_cannot_be_read_fails_its_run_where_it_is_now() -> None:
    here = await scene()
    client = here.client()
    (item, *_) = await client.pending_work("open")
    batch = Batch(
        slot=slot_of(RunId("open")), writes=(Put(keys.item(RunId("open"), WorkItemId(item.item_id)), b"damaged"),)
    )
    async with unguarded(here.disks[ALONE]):
        await here.disks[ALONE].commit([batch])
    there = {"x": GuardedStore(), "y": GuardedStore()}
    await move(here.disks, there)
    here.disks, here.queue = dict(there), MemoryWorkQueue()
    async with unguarded(*there.values()):
        await here.start_worker()
        assert await here.client().handle(Small, "open").wait(300) is RunStatus.FAILED
        await here.close()


async def test_a_plan_tells_what_would_move_and_changes_nothing() -> None:
    here = await scene()
    there = servers_for(here.disks[ALONE])
    before = everything(there)
    member = await here.start_worker()
    before = everything({"bert": there["bert"], "cleo": there["cleo"]})
    moves = await plan(here.disks, ShardedKeyValueStore(there), VirtualClock())
    assert {(each.source, each.target) for each in moves} <= {("anna", "bert"), ("anna", "cleo")}
    away = [
        run
        for run in ("done", "open", "paused", "new")
        if ShardedKeyValueStore(there).shard_of(slot_of(RunId(run))) != "anna"
    ]
    assert sum(each.runs for each in moves) == len(away) > 0
    assert all(each.bytes > 0 for each in moves)
    assert everything({"bert": there["bert"], "cleo": there["cleo"]}) == before == {}
    await here.kill(member)


# --- what every server has


async def known_to(disk: GuardedStore) -> tuple[list[tuple[str, str]], list[str]]:
    """The versions that a server describes, in what can be read, and the task queues that it knows."""
    session = Session(disk, VirtualClock())
    versions = VersionStore(session)
    return (
        [each for each in await versions.all() if await versions.find(*each) is not None],
        await TaskQueueStore(session).known(),
    )


async def check_shared(servers: Mapping[str, GuardedStore]) -> None:
    (versions, queues), *others = [await known_to(disk) for disk in servers.values()]
    assert versions
    assert {"default", "other"} <= set(queues)
    assert others == [(versions, queues)] * len(others)


async def test_every_server_has_the_versions_and_task_queues_of_those_whose_runs_it_may_get() -> None:
    here = await scene()
    versions, queues = await known_to(here.disks[ALONE])
    assert (len(versions), "default" in queues) == (1, True)
    first = servers_for(here.disks[ALONE])
    await move(here.disks, first)  # one stays
    assert [await known_to(disk) for disk in first.values()] == [(versions, queues)] * 3
    await TaskQueueStore(Session(first["cleo"], VirtualClock())).note(["only cleo's"])
    there = {"x": GuardedStore(), "bert": first["bert"]}
    await move(first, there)  # two leave
    assert [await known_to(disk) for disk in there.values()] == [(versions, sorted([*queues, "only cleo's"]))] * 2
    assert left_on(first["cleo"]) == left_on(first["anna"]) == ["Key(partition='floxide', name='shard')"]


async def test_a_server_keeps_its_own_description_of_a_version_and_gets_those_beyond_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions_store, "COPIED_AT_ONCE", 2)
    here, there = (Session(GuardedStore(), VirtualClock()) for _ in range(2))
    for number in range(5):
        await VersionStore(here).put("W", str(number), b"new")
    await here.commit(Batch(slot=SYSTEM_SLOT, writes=(Delete(keys.version("W", "4")),)))  # damaged: only listed
    await VersionStore(there).put("W", "1", b"own")
    await versions_store.copy_versions(here, there)
    assert await VersionStore(there).all() == [("W", str(number)) for number in range(4)]
    cells = tuple(keys.version("W", str(number)) for number in range(5))
    found = (await there.read(Read(slot=SYSTEM_SLOT, cells=cells))).cells
    assert [cell.value for cell in found] == [b"new", b"own", b"new", b"new", b""]


# --- refused


async def test_workers_that_live_are_named_and_nothing_is_changed() -> None:
    here = MovingCluster(Small)
    members = [await here.start_worker(), await here.start_worker()]
    await asyncio.sleep(5)
    there = {"x": GuardedStore(), "y": GuardedStore()}
    with pytest.raises(ReshardingError, match=r"workers 'worker-1', 'worker-2' are alive\. Stop all workers") as caught:
        await move(here.disks, there)
    assert "again to finish" not in str(caught.value)
    assert (everything(there), is_marked(here.disks)) == ({}, False)
    for member in members:
        await here.kill(member)
    await move(here.disks, there)


async def test_a_worker_that_came_in_as_the_servers_were_marked_is_named_and_its_runs_are_not_touched() -> None:
    here = await scene()
    there = {"x": GuardedStore(), "y": GuardedStore()}
    late: list[Member] = []

    class Watched(FaultyKeyValueStore):
        async def commit(self, batches: Sequence[Batch]) -> Any:
            reply = await super().commit(batches)
            if not late:
                here.disks[ALONE].__class__ = GuardedStore
                late.append(await here.start_worker())
            return reply

    link = Watched(here.disks[ALONE], random.Random(1))
    before = {at: value for at, value in everything(here.disks).items() if "done" in at}
    with pytest.raises(ReshardingError, match=r"worker 'worker-\d+' is alive\. .* again to finish"):
        await reshard({ALONE: link}, ShardedKeyValueStore(there), VirtualClock(), watch_seconds=WATCH)
    assert {at: value for at, value in everything(here.disks).items() if "done" in at} == before
    await here.kill(late[0])
    await move(here.disks, there)
    here.disks = dict(there)
    await here.start_worker()
    assert await here.client().handle(Small, "open").result(timeout=300) == 15
    await here.close()


@pytest.mark.parametrize("who", ["a worker", "another mover"])
async def test_nothing_is_removed_once_somebody_else_has_come(who: str) -> None:
    here = await scene()
    there = {"x": GuardedStore(), "y": GuardedStore()}
    removed: list[Batch] = []
    others: list[asyncio.Task[Any]] = []

    async def come(batches: Sequence[Batch]) -> None:
        removed.extend(batch for batch in batches for write in batch.writes if isinstance(write, Clear | Leave))
        if others or all(batch.slot == SYSTEM_SLOT for batch in batches):
            return
        if who == "a worker":
            session = Session(here.disks[ALONE], VirtualClock())
            record = (await LivenessStore(session).all())[0]
            others.append(asyncio.create_task(LivenessStore(session).beat(replace(record, beat=record.beat + 1))))
        else:
            again = reshard(here.disks, ShardedKeyValueStore(there), VirtualClock(), watch_seconds=WATCH)
            others.append(asyncio.create_task(again))
        await asyncio.sleep(WATCH / 2)

    links = [FaultyKeyValueStore(disk, random.Random(1)) for disk in (here.disks[ALONE], *there.values())]
    for link in links:
        link.before_commit = come
    through = ShardedKeyValueStore(dict(zip(there, links[1:], strict=True)))
    problem = "is alive" if who == "a worker" else "another `floxide store reshard`"
    async with unguarded(here.disks[ALONE], *there.values()):
        with pytest.raises(ReshardingError, match=problem):
            await reshard({ALONE: links[0]}, through, VirtualClock(), watch_seconds=WATCH)
        assert removed == []
        await asyncio.gather(*others)
    await move(here.disks, there)
    here.disks = dict(there)
    await here.start_worker()
    assert await here.client().handle(Small, "open").result(timeout=300) == 15
    await here.close()


async def test_a_damaged_run_is_named_before_anything_is_written() -> None:
    here = await scene()
    there = {"x": GuardedStore(), "y": GuardedStore()}
    async with unguarded(here.disks[ALONE]):
        damage = Batch(slot=slot_of(RunId("open")), writes=(Put(keys.state(RunId("open")), b"damaged"),))
        await here.disks[ALONE].commit([damage])
        with pytest.raises(ReshardingError, match="run 'open' is damaged"):
            await move(here.disks, there)
        gone = Batch(slot=slot_of(RunId("open")), writes=(Delete(keys.state(RunId("open"))),))
        await here.disks[ALONE].commit([gone])
        with pytest.raises(ReshardingError, match="run 'open' is damaged: its state is missing"):
            await move(here.disks, there)
    assert (everything(there), is_marked(here.disks)) == ({}, False)


Servers = dict[str, GuardedStore]


@pytest.mark.parametrize(
    ("name", "of", "problem"),
    [
        ("other targets", lambda one, there: ({ALONE: one}, {"x": there["x"]}), "is being moved from one server"),
        (
            "swapped",
            lambda one, there: ({ALONE: one}, {"x": there["y"], "y": there["x"]}),
            "it was None and becomes 'y'",
        ),
        ("as a shard", lambda one, there: ({"anna": one}, there), "is being moved from one server without a name"),
        ("twice", lambda one, there: ({ALONE: one}, {"x": there["x"], "y": there["x"]}), "a server has two names"),
    ],
)
async def test_a_move_that_broke_off_is_finished_only_with_the_same_servers(
    name: str, of: Callable[[GuardedStore, Servers], tuple[Servers, Servers]], problem: str
) -> None:
    del name
    here = await scene()
    there = {"x": GuardedStore(), "y": GuardedStore()}
    assert not await move_and_die(here.disks, there, 20)
    with pytest.raises(ReshardingError, match=problem):
        await move(*of(here.disks[ALONE], there))
    await move(here.disks, there)
    assert len(await identity(there)) == 32


async def test_servers_that_are_not_what_they_are_named_as_are_refused() -> None:
    here = await scene()
    other = (await scene()).disks[ALONE]
    x, y = GuardedStore(), GuardedStore()
    with pytest.raises(ReshardingError, match="server 'x' is a store of its own"):
        await move(here.disks, {"x": other, "y": y})
    with pytest.raises(ReshardingError, match="server 'x' is a store of its own"):
        await move({"x": here.disks[ALONE]}, {"x": here.disks[ALONE], "y": y})
    strange = GuardedStore()
    await strange.commit([Batch(slot=slot_of(RunId("r")), writes=(Enter(run_list_keys.RUNS, "1:r"),))])
    with pytest.raises(ReshardingError, match="server 'x' holds runs already"):
        await move(here.disks, {"x": strange, "y": y})
    await move(here.disks, {"x": x, "y": y})
    with pytest.raises(ReshardingError, match="server 'x' is shard 'y' of x, y"):
        await move({"x": y, "y": x}, {"x": y})
    with pytest.raises(ReshardingError, match="was left by its store, which is on the shards x, y now"):
        await move(here.disks, {"x": x})


async def test_of_two_who_move_a_store_at_once_at_most_one_goes_on() -> None:
    here = await scene()
    there = {"x": GuardedStore(), "y": GuardedStore()}
    async with unguarded(*here.disks.values(), *there.values()):
        done = await asyncio.gather(
            *(reshard(here.disks, ShardedKeyValueStore(there), VirtualClock(), watch_seconds=WATCH) for _ in range(3)),
            return_exceptions=True,
        )
    refused = [each for each in done if isinstance(each, BaseException)]
    assert {type(each) for each in refused} == {ReshardingError}
    assert len(refused) >= 2
    await move(here.disks, there)
    here.disks = dict(there)
    await here.start_worker()
    assert await here.client().handle(Small, "open").result(timeout=300) == 15
    await here.check_completed("open")
    await here.close()


async def test_a_shard_can_move_to_another_server_under_its_name() -> None:
    here = await scene()
    first = servers_for(here.disks[ALONE])
    await move(here.disks, first)
    there = {**first, "bert": GuardedStore()}
    for commits in range(3):
        assert not await move_and_die(first, there, commits)
    await move(first, there)
    assert left_on(first["bert"]) == ["Key(partition='floxide', name='shard')"]
    here.disks = dict(there)
    await here.start_worker()
    assert await here.client().handle(Small, "open").result(timeout=300) == 15
    await here.close()


async def test_a_store_of_one_server_is_not_opened_as_one_of_several() -> None:
    here = await scene()
    with pytest.raises(ConfigurationError, match="is a store of its own, and it was named as shard 'x' of x, y"):
        await identity({"x": here.disks[ALONE], "y": GuardedStore()})


# --- schedules


class Doubled(Workflow[int, int]):
    start = slow


async def test_schedules_move_with_the_slots_of_their_names_and_go_on_wherever_the_move_dies() -> None:
    here = MovingCluster(Doubled)
    names = [f"schedule {n}" for n in range(6)]
    client = here.client()
    for name in names:
        await client.schedules.put(Schedule(name, Doubled, 0, every=60, overlap="allow", catch_up=3600))
    await client.schedules.pause(names[0], reason="moving")
    await client.schedules.trigger(names[0], trigger_id="before")
    before = {each.name: each for each in await client.schedules.list()}
    a, b = GuardedStore(), GuardedStore()
    way = {"a": a, "b": b}
    for commits in itertools.count(0, 3):
        if await move_and_die(here.disks, way, commits):
            break
    assert left_on(here.disks[ALONE]) == ["Key(partition='floxide', name='shard')"]
    here.disks = dict(way)
    client = here.client()
    assert {each.name: each for each in await client.schedules.list()} == before
    homes = {client.services.session.beside(schedule_keys.schedule_partition(name)).shard for name in names}
    assert homes == {"a", "b"}
    await here.start_worker()
    await asyncio.sleep(121)
    for name in names[1:]:
        info = await client.schedules.get(name)
        assert info.started >= 2
        assert info.missed == 0
        await client.schedules.pause(name)
    assert (await client.schedules.get(names[0])).started == 1
    run_ids = [info.run_id for info in (await client.list_runs(limit=100)).runs]
    assert len(run_ids) == sum(each.started for each in await client.schedules.list())
    for name in names:
        assert await client.schedules.delete(name)
    assert await here.settle() == {}
    await here.close()


async def test_sources_move_with_all_that_is_counted_of_them_wherever_the_move_dies() -> None:
    here = MovingCluster(Doubled)
    names = [f"source {n}" for n in range(6)]
    client = here.client()
    store = client.services.source_store
    for name in names:
        await store.put(AmqpSource(name, Doubled, queue=name).spec)
        counts = SourceCounts(received=7, started=4, duplicates=2, quarantined=1)
        await store.count(name, counts, 1, [RunId(f"{name}:{n}") for n in range(3)])
        await store.put_position(name, b"\x07", "worker", 0)
        await client.sources.pause(name, reason="moving")
    before = await client.sources.list()
    a, b = GuardedStore(), GuardedStore()
    way = {"a": a, "b": b}
    for commits in itertools.count(0, 3):
        if await move_and_die(here.disks, way, commits):
            break
    assert left_on(here.disks[ALONE]) == ["Key(partition='floxide', name='shard')"]
    here.disks = dict(way)
    client = here.client()
    assert await client.sources.list() == before
    assert {client.services.session.beside(source_keys.source_partition(name)).shard for name in names} == {"a", "b"}
    for name in names:
        assert len(await client.services.source_store.open_runs(name)) == 3
    await here.close()
