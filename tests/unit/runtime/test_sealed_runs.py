"""Runs whose data are encrypted: every kind of run ends, nobody can read them, and who lacks a key loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import (
    Compression,
    Encryption,
    MissingKeyError,
    NextAll,
    RunConflictError,
    RunFailedError,
    RunStatus,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.context import ContextState, context_to_plain, delta_of
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.log_changes import AppendDelta
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.exceptions import UnknownKeyError, UnreadableRecordError
from floxide_amqp.ports.codec import Codec
from floxide_amqp.ports.key_value import Cell, Key, Put
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import contexts, keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.sealed import is_sealed
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.stores.writes import BatchWriter
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import Cluster, Member
from tests.unit.runtime.sealed_workflows import EXPECTED, SECRET, Everything, Failing, Told, Two

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
ENCRYPTED: tuple[Codec, ...] = (Compression(above=10_000), Encryption({"old": OLD}))
BOTH: tuple[Codec, ...] = (Encryption({"new": NEW, "old": OLD}),)


class SealedCluster(Cluster):
    """A cluster each of whose processes has codecs of its own."""

    codecs: Sequence[Codec] = ENCRYPTED

    def _services(self, name: str, workflows: Any) -> tuple[Any, Any, Any]:
        services, store, queue = super()._services(name, workflows)
        services.sealing = Sealing(self.codecs, known=(Compression(),))
        services._open_stores()
        return services, store, queue

    async def worker_with(self, *codecs: Codec, **options: Any) -> Member:
        self.codecs = codecs
        return await self.start_worker(**options)

    def client_with(self, *codecs: Codec) -> Orchestrator:
        self.codecs = codecs
        return self.client()

    def everything(self) -> bytes:
        """All bytes that the store holds and held, as far as it remembers, and what the queue holds."""
        slots = [vars(slot) if hasattr(slot, "__dict__") else slot for slot in self.store._slots.values()]
        held = [_bytes_in(slot) for slot in slots]
        held += [_bytes_in(list(entries.between("", None, reverse=False))) for entries in self.store._indexes.values()]
        return b"\0".join(held)


def _bytes_in(value: Any) -> bytes:
    """Every byte and text that a structure holds."""
    found: list[bytes] = []
    seen: dict[int, object] = {}  # kept alive, so that no other object gets the same id

    def walk(each: Any) -> None:
        if isinstance(each, bytes | bytearray):
            found.append(bytes(each))
        elif isinstance(each, str):
            found.append(each.encode("utf-8", "replace"))
        elif id(each) not in seen:
            seen[id(each)] = each
            if isinstance(each, dict):
                for pair in each.items():
                    walk(list(pair))
            elif isinstance(each, list | tuple | set | frozenset):
                for one in each:
                    walk(one)
            else:
                names = [*getattr(each, "__dict__", ()), *getattr(type(each), "__slots__", ())]
                for name in names:
                    walk(getattr(each, name, None))

    walk(value)
    return b"\0".join(found)


MakeSealed = Callable[..., SealedCluster]


@pytest_asyncio.fixture
async def sealed() -> AsyncIterator[MakeSealed]:
    made: list[SealedCluster] = []

    def make(*workflows: Any, **options: Any) -> SealedCluster:
        made.append(SealedCluster(*workflows, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        assert each.store.violations == []


@pytest.mark.parametrize(
    "codecs", [ENCRYPTED, (Compression(above=5),), (Compression(above=5), Encryption({"k": NEW}, required=True))]
)
@pytest.mark.parametrize("chain_steps", [1, 1_000])
async def test_every_kind_of_step_runs_as_it_does_without_codecs(
    sealed: MakeSealed, codecs: tuple[Codec, ...], chain_steps: int
) -> None:
    here = sealed(Everything, limits=Limits(concurrency=4, chain_steps=chain_steps))
    here.codecs = codecs
    for _ in range(2):
        await here.start_worker()
    client = here.client()
    run = await client.start(Everything, SECRET, context=Told(said=SECRET), run_id="run")
    assert await run.result(60) == EXPECTED
    context = await client.context(Everything, "run")
    assert sorted(context.parts) == [f"{SECRET} {n}" for n in range(3)]
    assert (context.said, list(context.log)) == (SECRET, [EXPECTED])
    assert [error.message for error in await client.errors("run")] == [f"part: {SECRET} 3"]
    await here.check_completed("run")


@pytest.mark.parametrize("codecs", [(), ENCRYPTED], ids=["without", "with"])
async def test_a_secret_in_input_output_context_and_errors_is_found_nowhere_but_without_a_codec(
    sealed: MakeSealed,
    codecs: tuple[Codec, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(contexts, "SNAPSHOT_GROWTH", 10**9)
    caplog.set_level("DEBUG")
    here = sealed(Everything, Failing, Two, limits=Limits(chain_steps=1, context_snapshot=1))
    here.codecs = codecs
    bodies: list[bytes] = []
    publish = here.queue.publish

    async def noting(messages: Any) -> Any:
        bodies.extend(message.body for message in messages)
        return await publish(messages)

    here.queue.publish = noting  # type: ignore[method-assign]
    seen = [here.everything()]
    commit = here.store.commit

    async def looking(batches: Any) -> Any:
        reply = await commit(batches)
        seen.append(here.everything())
        return reply

    here.store.commit = looking  # type: ignore[method-assign]
    await here.start_worker()
    client = here.client()
    run = await client.start(Everything, SECRET, context=Told(said=SECRET), run_id="run")
    assert await run.result(60) == EXPECTED
    bad = await client.start(Failing, SECRET, context=Told(said=SECRET), run_id="bad")
    with pytest.raises(RunFailedError, match=f"I will not tell {SECRET}"):
        await bad.result(60)
    (item,) = await client.pending_work("bad")
    assert item.note == f"I will not tell {SECRET}"
    assert SECRET in (await client.run_info("bad")).failure
    is_found = any(SECRET.encode() in state for state in seen)
    assert is_found is not bool(codecs)
    assert not [body for body in bodies if SECRET.encode() in body]
    assert max(map(len, bodies)) < 1_000
    assert (SECRET in caplog.text) is not bool(codecs)
    assert "work_item.attempt_failed" in caplog.text
    for name in (b"Everything", b"rescue", b"run", b"WrongError"):
        assert name in here.everything()


async def test_a_large_fan_out_is_stored_in_pages_that_nobody_can_read(sealed: MakeSealed) -> None:
    class Many(Workflow[int, int]):
        @node
        async def scatter(x: int) -> NextAll[str]:  # noqa: N805 - a node
            return NextAll(f"{SECRET} {n}" for n in range(x))

        @node
        async def measure(text: str) -> int:  # noqa: N805 - a node
            return len(text)

        @node
        async def add(sizes: list[int]) -> int:  # noqa: N805 - a node
            return sum(sizes)

        start = scatter
        edges = (scatter >> measure >> gather(add),)

    here = sealed(Many)
    here.codecs = (Encryption({"k": NEW}, required=True),)
    pages: list[bytes] = []
    commit = here.store.commit

    async def noting(batches: Any) -> Any:
        puts = [write for batch in batches for write in batch.writes if isinstance(write, Put)]
        pages.extend(put.value for put in puts if put.key.name.startswith("p:"))
        return await commit(batches)

    here.store.commit = noting  # type: ignore[method-assign]
    await here.start_worker()
    run = await here.client().start(Many, 2_500, run_id="run")
    assert await run.result(600) == sum(len(f"{SECRET} {n}") for n in range(2_500))
    assert len(pages) == 3
    assert not [page for page in pages if SECRET.encode() in page]


async def test_keys_are_rotated_under_live_runs_one_process_after_another(sealed: MakeSealed) -> None:
    here = sealed(Everything, limits=Limits(concurrency=4, chain_steps=1))
    old = Encryption({"old": OLD})
    both_old_first, both = Encryption({"old": OLD, "new": NEW}), Encryption({"new": NEW, "old": OLD})
    client = here.client_with(old)
    members = [await here.worker_with(old) for _ in range(2)]
    runs = [await client.start(Everything, SECRET, run_id=f"run-{n}") for n in range(10)]
    for step in ((both_old_first,), (both,)):
        for place, member in enumerate(members):
            await asyncio.sleep(0.6)
            await member.stop()
            members[place] = await here.worker_with(*step)
        client = here.client_with(*step)
        runs += [await client.start(Everything, SECRET, run_id=f"run-{len(runs) + n}") for n in range(5)]
    results = [await client.handle(Everything, run.run_id).result(200) for run in runs]
    assert results == [EXPECTED] * 20
    assert {b"\x03old", b"\x03new"} <= {mark for mark in (b"\x03old", b"\x03new") if mark[1:] in here.everything()}


async def test_a_worker_without_the_key_parks_what_it_cannot_read_and_one_with_it_goes_on(sealed: MakeSealed) -> None:
    here = sealed(Everything)
    keyless = await here.worker_with()
    client = here.client_with(*BOTH)
    run = await client.start(Everything, SECRET, run_id="run")
    await asyncio.sleep(5)
    (item,) = await here.client_with().pending_work("run")
    assert item.status is WorkItemStatus.PARKED
    assert item.note == "waits for a worker that has the encryption key 'new' to run node 'split'"
    assert await here.client_with().status("run") is RunStatus.WAITING
    delivered = keyless.services.figures.deliveries
    await asyncio.sleep(600)
    assert keyless.services.figures.deliveries == delivered  # nothing spins
    assert keyless.services.figures.parked == 1
    await here.worker_with(*BOTH)
    assert await run.result(200) == EXPECTED
    await here.check_completed("run")


async def test_beside_a_worker_with_the_key_one_without_it_delays_runs_and_fails_none(sealed: MakeSealed) -> None:
    here = sealed(Everything, limits=Limits(concurrency=4, chain_steps=1))
    await here.worker_with(Encryption({"old": OLD}))
    await here.worker_with(*BOTH)
    client = here.client_with(*BOTH)
    runs = [await client.start(Everything, SECRET, run_id=f"run-{n}") for n in range(8)]
    assert [await run.result(600) for run in runs] == [EXPECTED] * 8
    for run in runs:
        await here.check_completed(run.run_id)


async def test_a_join_and_a_page_whose_values_a_worker_cannot_open_wait_for_one_that_can(sealed: MakeSealed) -> None:
    """Nothing in these items is sealed itself, and there is no context: only the step finds out."""

    class Many(Workflow[int, str]):
        @node(queue="keyed")
        async def scatter(x: int) -> NextAll[str]:  # noqa: N805 - a node
            return NextAll(f"{SECRET} {n}" for n in range(x))

        @node(queue="keyed")
        async def part(text: str) -> str:  # noqa: N805 - a node
            return text

        @node(queue="blind")
        async def add(texts: list[str]) -> str:  # noqa: N805 - a node
            return texts[-1]

        start = scatter
        edges = (scatter >> part >> gather(add),)

    here = sealed(Many, limits=Limits(chain_steps=1))
    blind = await here.worker_with(queues=["blind"])
    await here.worker_with(*BOTH, queues=["keyed"])
    client = here.client_with(*BOTH)
    run = await client.start(Many, 3, run_id="run")
    await asyncio.sleep(30)
    (item,) = await client.pending_work("run")
    assert (item.node, item.status) == ("add", WorkItemStatus.PARKED)
    assert "the encryption key 'new'" in item.note
    assert blind.services.figures.parked == 1
    await here.worker_with(*BOTH, queues=["blind"])
    assert await run.result(60) == f"{SECRET} 2"
    await here.check_completed("run")


async def test_a_worker_that_meets_a_newer_key_in_the_middle_of_a_chain_parks_the_item_it_holds(
    sealed: MakeSealed,
) -> None:
    """Its own item it could read; what another process added to the context meanwhile it cannot."""
    began, go_on = asyncio.Event(), asyncio.Event()

    class Chained(Workflow[str, str, Told]):
        @node
        async def first(ctx: WorkflowCtx[Told], text: str) -> str:  # noqa: N805 - a node
            ctx.state.parts = [*ctx.state.parts, "first"]
            began.set()
            await go_on.wait()
            return text

        @node(at_most_once=True)
        async def once(ctx: WorkflowCtx[Told], text: str) -> str:  # noqa: N805 - a node
            return f"{text} {ctx.state.parts}"

        start = first
        edges = (first >> once,)

    here = sealed(Chained)
    behind = await here.worker_with(Encryption({"old": OLD}))
    run = await here.client_with(Encryption({"old": OLD})).start(Chained, SECRET, run_id="run")
    await began.wait()
    ahead = here.client_with(*BOTH)
    header = (await ahead.services.runs.load(RunId("run"))).header
    ahead_view = ContextState.load(Told, context_to_plain(Told())).view("ahead")
    ahead_view.parts = ["ahead"]
    change = AppendDelta(WorkItemId("f" * 32), pack(delta_of(ahead_view)))
    await ahead.services.commit(
        BatchWriter(header.run_id, header.created_at_ms), Decision(conditions=(), changes=(change,))
    )
    go_on.set()
    await asyncio.sleep(3)
    (item,) = await ahead.pending_work("run")
    assert (item.status, item.node, item.owner) == (WorkItemStatus.PARKED, "once", "")
    assert behind.services.figures.parked == 1
    await asyncio.sleep(100)
    await here.worker_with(*BOTH)
    ended = await ahead.handle(Chained, run.run_id).result(100)
    assert ended == f"{SECRET} ['ahead', 'first']"
    await here.check_completed("run")


async def test_maintenance_control_and_recovery_need_no_key(sealed: MakeSealed) -> None:
    """Retries, holds, lost workers and pauses are dealt with by a process that can read none of it."""
    here = sealed(Everything, limits=Limits(concurrency=4, chain_steps=1), retry=RetryPolicy(max_attempts=2))
    worker = await here.worker_with(*BOTH)
    client = here.client_with(*BOTH)
    run = await client.start(Everything, SECRET, run_id="run")
    await asyncio.sleep(0.05)
    await worker.kill()
    await here.worker_with()
    blind = here.client_with()
    await asyncio.sleep(30)
    await blind.pause("run")
    await asyncio.sleep(5)
    await blind.resume("run")
    assert await blind.status("run") is RunStatus.WAITING
    await here.worker_with(*BOTH)
    assert await run.result(600) == EXPECTED
    await here.check_completed("run")


async def test_who_looks_without_a_key_sees_where_a_run_is_and_that_its_texts_are_encrypted(sealed: MakeSealed) -> None:
    here = sealed(Failing, Two)
    await here.worker_with(*BOTH)
    client, blind = here.client_with(*BOTH), here.client_with()
    bad = await client.start(Failing, SECRET, run_id="bad")
    await bad.wait(20)
    good = await client.start(Two, SECRET, run_id="good")
    assert await good.result(20) == SECRET
    hidden = "(encrypted with the key 'new', which this process does not have)"
    assert (await blind.run_info("bad")).failure == f"failing: WrongError: {hidden}"
    (error,) = await blind.errors("bad")
    assert (error.error_type, error.message, error.traceback) == ("WrongError", hidden, hidden)
    (item,) = await blind.pending_work("bad")
    assert (item.node, item.note) == ("failing", hidden)
    for lacking in (blind, here.client_with(Encryption({"old": OLD}))):
        with pytest.raises(MissingKeyError, match="'new'"):
            await lacking.handle(Two, "good").result(20)
        with pytest.raises(MissingKeyError, match="'new'"):
            await lacking.context(Failing, "bad")


# --- moved, damaged, refused


async def cell_of(here: Cluster, run_id: str, key: Key) -> Cell:
    return here.store._slots[slot_of(RunId(run_id))].cells[key]


async def put(here: Cluster, run_id: str, key: Key, value: bytes) -> None:
    cells = here.store._slots[slot_of(RunId(run_id))].cells
    cells[key] = Cell(cells[key].version, value)


async def first_item(here: Cluster, run_id: str) -> WorkItemId:
    return (await here.client().services.runs.load(RunId(run_id))).header.start_item


@pytest.mark.parametrize("whole_record", [False, True])
async def test_a_payload_moved_to_another_run_is_refused_and_named_and_the_run_goes_on_once_it_is_back(
    sealed: MakeSealed, whole_record: bool
) -> None:
    here = sealed(Two)
    client = here.client_with(*BOTH)
    runs = {run_id: await client.start(Two, text, run_id=run_id) for run_id, text in (("poor", "1"), ("rich", "1000"))}
    items = {run_id: await first_item(here, run_id) for run_id in runs}
    places = {run_id: keys.item(RunId(run_id), items[run_id]) for run_id in runs}
    own = (await cell_of(here, "poor", places["poor"])).value
    other = (await cell_of(here, "rich", places["rich"])).value
    if not whole_record:
        mine, others = codec.decode_item(own), codec.decode_item(other)
        other = codec.encode_item(replace(mine, input=replace(mine.input, payload=others.input.payload)))
    await put(here, "poor", places["poor"], other)
    await here.worker_with(*BOTH)
    assert await runs["rich"].result(20) == "1000"
    with pytest.raises(RunFailedError, match="cannot be read") as caught:
        await runs["poor"].result(20)
    message = str(caught.value)
    assert items["poor"] in message
    assert "poor/" in message
    assert ("moved here from another run, item or field" in message) is not whole_record
    await put(here, "poor", places["poor"], own)
    await client.resume("poor")
    assert await runs["poor"].result(60) == "1"


async def test_a_payload_moved_to_another_item_or_field_of_its_run_is_refused(sealed: MakeSealed) -> None:
    here = sealed(Everything, Two)
    client = here.client_with(*BOTH)
    run = await client.start(Two, SECRET, run_id="run")
    header_key, item_id = keys.header(RunId("run")), await first_item(here, "run")
    header = codec.decode_header((await cell_of(here, "run", header_key)).value)
    key = keys.item(RunId("run"), item_id)
    item = codec.decode_item((await cell_of(here, "run", key)).value)
    assert is_sealed(header.input)
    moved = replace(item, input=replace(item.input, payload=header.input))  # the same bytes, of another field
    await put(here, "run", key, codec.encode_item(moved))
    await here.worker_with(*BOTH)
    with pytest.raises(RunFailedError, match=r"'run/input of .*moved here from another run, item or field"):
        await run.result(20)


async def test_the_context_of_another_run_is_refused_with_its_whole_header_and_without(sealed: MakeSealed) -> None:
    here = sealed(Everything)
    client = here.client_with(*BOTH)
    runs = {name: await client.start(Everything, SECRET, context=Told(said=name), run_id=name) for name in ("a", "b")}
    places = {name: keys.header(RunId(name)) for name in runs}
    own, other = [(await cell_of(here, name, places[name])).value for name in ("a", "b")]
    await put(here, "a", places["a"], other)
    with pytest.raises(UnreadableRecordError, match="'a/header' cannot be read: It is the header of run 'b'"):
        await client.status("a")
    mixed = replace(codec.decode_header(own), context=codec.decode_header(other).context)
    await put(here, "a", places["a"], codec.encode_header(mixed))
    await here.worker_with(*BOTH)
    assert await runs["b"].result(60) == EXPECTED
    with pytest.raises(RunFailedError, match="'a/initial context' cannot be read"):
        await runs["a"].result(20)
    await put(here, "a", places["a"], own)
    await client.resume("a")
    assert await runs["a"].result(60) == EXPECTED


async def test_once_encryption_is_required_what_is_plain_is_refused(sealed: MakeSealed) -> None:
    here = sealed(Two)
    run = await here.client_with().start(Two, "1", run_id="run")
    run = here.client_with(*BOTH).handle(Two, "run")
    strict = Encryption({"new": NEW}, required=True)
    await here.worker_with(strict)
    with pytest.raises(RunFailedError, match=r"not encrypted, and Encryption\(required=True\)"):
        await run.result(20)
    later = await here.client_with(strict).start(Two, "1", run_id="later")
    assert await later.result(20) == "1"


async def test_runs_from_before_encryption_was_switched_on_go_on_and_what_they_write_is_encrypted(
    sealed: MakeSealed,
) -> None:
    here = sealed(Everything, limits=Limits(concurrency=4, chain_steps=1))
    first = await here.worker_with()
    run = await here.client_with().start(Everything, SECRET, run_id="run")
    await asyncio.sleep(1)
    await first.stop()
    await here.worker_with(*BOTH)
    client = here.client_with(*BOTH)
    assert await client.handle(Everything, run.run_id).result(100) == EXPECTED
    outputs = [entry.value for entry in await here.store.entries(keys.arrivals(RunId("run"), ""))]
    assert [is_sealed(value) for value in outputs] == [True]


# --- starting again


async def test_the_same_start_is_the_same_run_after_the_key_was_rotated_and_another_one_a_conflict(
    sealed: MakeSealed,
) -> None:
    here = sealed(Two)
    await here.client_with(Encryption({"old": OLD})).start(Two, SECRET, run_id="run")
    await here.client_with().start(Two, SECRET, run_id="plain")
    rotated = here.client_with(*BOTH)
    for run_id in ("run", "plain"):
        await rotated.start(Two, SECRET, run_id=run_id)
        with pytest.raises(RunConflictError, match="input"):
            await rotated.start(Two, "another", run_id=run_id)
    with pytest.raises(UnknownKeyError, match="key 'old', which this process does not have; it has 'new'"):
        await here.client_with(Encryption({"new": NEW})).start(Two, SECRET, run_id="run")
    stored = codec.decode_header((await cell_of(here, "run", keys.header(RunId("run")))).value)
    assert stored.input_digest.startswith("old:")


# --- limits


async def test_a_message_is_as_small_with_an_input_of_megabytes(sealed: MakeSealed) -> None:
    here = sealed(Two, limits=Limits(chain_steps=1))
    sizes: list[int] = []
    publish = here.queue.publish

    async def noting(messages: Any) -> Any:
        sizes.extend(len(message.body) for message in messages)
        return await publish(messages)

    here.queue.publish = noting  # type: ignore[method-assign]
    client = here.client_with(Compression(), *BOTH)
    await here.worker_with(Compression(), *BOTH)
    text = SECRET * 300_000
    run = await client.start(Two, text, run_id="run")
    assert await run.result(60) == text
    assert len(sizes) >= 2
    assert max(sizes) < 1_000
    assert len(here.everything()) < len(text) / 10


async def test_a_run_moves_to_another_store_as_it_is_and_goes_on_there_with_the_same_keys(
    sealed: MakeSealed, tmp_path: Path
) -> None:
    here, there = sealed(Everything), sealed(Everything)
    there.store._guard = lambda *_: None  # type: ignore[method-assign]  # an import fills cells in its own order
    client = here.client_with(*BOTH)
    await client.start(Everything, SECRET, run_id="run")
    await client.pause("run")
    await here.client_with().export_run("run", tmp_path / "run.file")  # it takes no key
    assert SECRET.encode() not in (tmp_path / "run.file").read_bytes()
    moved = there.client_with(*BOTH)
    await there.client_with().import_run(tmp_path / "run.file")
    await there.worker_with(*BOTH)
    await moved.resume("run")
    assert await moved.handle(Everything, "run").result(60) == EXPECTED


# --- under faults


@pytest.mark.parametrize("seed", range(8))
async def test_runs_end_well_among_deaths_lost_replies_and_workers_without_the_key(
    sealed: MakeSealed, seed: int
) -> None:
    here = sealed(
        Everything,
        seed=seed,
        limits=Limits(concurrency=4, chain_steps=3, deaths=100),
        store_faults=StoreFaults(lost_reply=0.03, unavailable=0.03),
        queue_faults=QueueFaults(dropped=0.03, duplicated=0.1, redelivered=0.05),
    )
    strict: tuple[Codec, ...] = (Compression(above=100), Encryption({"new": NEW, "old": OLD}, required=True))
    behind: tuple[Codec, ...] = (Encryption({"old": OLD}),)
    members = [await here.worker_with(*codecs) for codecs in (strict, strict, behind, ())]
    client = here.client_with(*strict)
    runs = [await client.start(Everything, SECRET, run_id=f"run-{n}") for n in range(6)]
    for _ in range(3):
        await asyncio.sleep(here.chance.uniform(0.05, 3))
        await members.pop(here.chance.randrange(2)).kill()
        members.insert(0, await here.worker_with(*strict))
    assert [await run.result(2_000) for run in runs] == [EXPECTED] * 6
    here.end_faults()
    for run in runs:
        await here.check_completed(run.run_id)
    assert SECRET.encode() not in here.everything()
