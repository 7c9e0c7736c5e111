"""A run exported from one store and imported into another goes on there, or is there as it ended."""

from __future__ import annotations

import asyncio
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest

from floxide_amqp import (
    Context,
    Encryption,
    EventLog,
    Floxide,
    Hold,
    Next,
    NextAll,
    Timeouts,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.kin import WAITS
from floxide_amqp.core.kin_letters import START
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    InvalidRunStateError,
    RunChangedError,
    RunDeletedError,
    RunError,
    RunFileError,
    RunImportError,
    RunNotFoundError,
    StoreUnavailableError,
)
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Append, Batch, Check, Key, LogRange, Put, Read, Trim
from floxide_amqp.runtime.settings import Limits, Retention
from floxide_amqp.stores import import_commits, importing, keys, run_file
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.exporting import RunExport
from floxide_amqp.stores.importing import RunImport
from floxide_amqp.stores.letters import decode_letter
from floxide_amqp.stores.run_file import CellFrame, EntriesFrame, RunFileReader
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealed_places import INPUT
from floxide_amqp.stores.session import Session
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.simulation.random_workflows import Tally, random_workflow
from floxide_amqp.testing.virtual_time import run
from tests.unit.runtime.cluster import Cluster, GuardedStore

MakeCluster = Callable[..., Cluster]


async def import_run(there: Cluster, file: Path) -> None:
    """Import a run; its items come as they are, not by the moves that the store of a cluster watches."""
    there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
    try:
        await there.client().import_run(file)
    finally:
        there.store.__class__ = GuardedStore


async def paused(here: Cluster, run_id: str) -> None:
    """Pause a run and let what is in flight end."""
    await here.client().pause(run_id)
    await asyncio.sleep(30)


def contents(store: GuardedStore, run_id: str) -> dict[tuple[str, ...], object]:
    """Everything a store has of a run or that names it, but for when entries of lists were made."""
    found: dict[tuple[str, ...], object] = {}
    for slot in store._slots.values():
        found |= {("cell", key.name): cell for key, cell in slot.cells.items() if key.partition == run_id}
        found |= {("counter", key.name): n for key, n in slot.counters.items() if n and key.partition == run_id}
        found |= {
            ("log", key.name): (log.first, tuple(log.entries))
            for key, log in slot.logs.items()
            if key.partition == run_id
        }
    for name, entries in store._indexes.items():
        for entry, _, value in entries.between("", None, reverse=False):
            if run_id in name or run_id in entry or run_id.encode() in value:
                found["index", name, entry] = value
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_random_run_paused_anywhere_goes_on_in_another_store_and_ends_as_if_it_had_never_moved(
    seed: int, tmp_path: Path
) -> None:
    run(_play(seed, tmp_path))


async def _play(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    workflow, tell = random_workflow(seed)
    told = tell(7)
    limits = Limits(concurrency=4, context_snapshot=chance.choice([2, 1_000]))
    here = Cluster(workflow, seed=seed, limits=limits)
    for number in range(3):
        members = [await here.start_worker(), await here.start_worker(queues=["other"])]
        client = here.client()
        handle = await client.start(workflow, 7, run_id="moved") if number == 0 else client.handle(workflow, "moved")
        with suppress(InvalidRunStateError):
            await handle.resume()
        await asyncio.sleep(chance.choice([0.01, 0.05, 0.3, 1.5]))
        with suppress(InvalidRunStateError):  # it has ended
            await handle.pause("to move")
        if chance.random() < 0.5:  # nobody is left whose steps are in flight
            for member in members:
                await member.kill()
        else:
            await asyncio.sleep(60)
        file = tmp_path / f"{number}.run"
        await client.export_run("moved", file)
        for member in members:
            await member.kill()
        before, there = contents(here.store, "moved"), Cluster(workflow, seed=seed + number, limits=limits)
        await import_run(there, file)
        check_moved(before, contents(there.store, "moved"))
        here = there
    client = here.client()
    await here.start_worker()
    await here.start_worker(queues=["other"])
    if await client.status("moved") is RunStatus.PAUSED:
        await client.resume("moved")
    assert await client.handle(workflow, "moved").result(timeout=600) == told.value
    context = await client.context(workflow, "moved")
    assert isinstance(context, Tally)
    assert context.steps == told.steps
    await here.check_completed("moved")
    await here.close()


def check_moved(before: dict[tuple[str, ...], object], after: dict[tuple[str, ...], object]) -> None:
    """Everything moved as it was, but for messages and owners of the other store, and what they held."""
    left = {at for at in before if at[0] == "index" and at[1].startswith(("messages:", "owned:", "parked:"))}
    counted = {at for at in before if at[0] == "counter"}  # of those at zero nothing is left
    assert before.keys() - after.keys() <= left | counted | {at for at in before if at[1] == keys.TIMERS}
    assert after.keys() <= before.keys()
    for at, value in after.items():
        if at[0] == "cell" and at[1].startswith(keys.ITEM_PREFIX):
            was, now = before[at], value
            old, new = codec.decode_item(was.value), codec.decode_item(now.value)  # type: ignore[attr-defined]
            is_parted = old.status is WorkItemStatus.HELD and old.waits_for.startswith(WAITS)
            is_parted &= not is_called(before, old.waits_for.removeprefix(WAITS))
            if is_parted or old.status in (WorkItemStatus.IN_PROGRESS, WorkItemStatus.PARKED):
                assert (new.status, new.owner, now.version) == (WorkItemStatus.PENDING, "", was.version + 1)  # type: ignore[attr-defined]
                continue
        if at[0] == "counter" or (at[0] == "index" and at[1].startswith("live:")):
            continue  # follow from items; what they count is checked where the run ends
        assert value == before[at], at


def is_called(found: dict[tuple[str, ...], object], child_id: str) -> bool:
    """Whether a letter is yet to start a child."""
    letters = [(at[2], value) for at, value in found.items() if at[0] == "index" and at[1].endswith(f":{keys.POSTED}")]
    posted = [decode_letter(letter_id, value) for letter_id, value in letters if isinstance(value, bytes)]
    return any(letter.kind == START and letter.to_run == child_id for letter in posted)


# --- by hand


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(minutes=1)))
async def try_hard(ctx: WorkflowCtx[Any], n: int) -> Next[int] | Hold:
    if n % 3 == 0 and ctx.attempt == 1:
        raise RuntimeError("not yet")
    if n % 3 == 1 and "held" not in SEEN:
        return Hold(for_=120.0)
    return Next(n)


SEEN: set[str] = set()


class Secrets(Context):
    log: EventLog[str] = EventLog()


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class Waits(Workflow[int, int], timeout=timedelta(minutes=10)):
    start = spread
    edges = (spread >> try_hard >> gather(total),)


async def waiting_run(cluster: MakeCluster, tmp_path: Path) -> tuple[Cluster, Path]:
    """A paused run of which some items are done, some wait for a retry and some are held, and its file."""
    SEEN.clear()
    here = cluster(Waits)
    await here.start_worker()
    await here.client().start(Waits, 9, run_id="run")
    await asyncio.sleep(5)
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    return here, tmp_path / "run"


async def test_waiting_items_wait_as_long_as_they_would_have(cluster: MakeCluster, tmp_path: Path) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    there = Cluster(Waits)
    await import_run(there, file)
    client = there.client()
    assert await client.status("run") is RunStatus.PAUSED
    listed = await client.list_runs(status=RunStatus.PAUSED)
    assert [each.run_id for each in listed.runs] == ["run"]
    await client.resume("run")
    await there.start_worker()
    await asyncio.sleep(10)
    assert await client.status("run") is RunStatus.WAITING
    SEEN.add("held")
    await asyncio.sleep(50)
    assert await client.status("run") is RunStatus.WAITING
    await asyncio.sleep(50)
    assert await client.handle(Waits, "run").result(60) == 36
    await there.check_completed("run")
    await there.close()


async def test_timers_that_were_due_on_the_way_fire_at_once(cluster: MakeCluster, tmp_path: Path) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    SEEN.add("held")
    await asyncio.sleep(200)
    there = Cluster(Waits)
    await there.start_worker()
    await import_run(there, file)
    await there.client().resume("run")
    assert await there.client().handle(Waits, "run").result(60) == 36
    await there.close()


async def test_a_run_whose_time_is_over_on_the_way_fails_when_it_arrives(cluster: MakeCluster, tmp_path: Path) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    await asyncio.sleep(700)
    there = Cluster(Waits)
    await there.start_worker()
    await import_run(there, file)
    assert await there.client().handle(Waits, "run").wait(60) is RunStatus.FAILED
    await there.close()


async def test_many_timers_are_set_before_the_last_commit_and_are_not_lost(
    cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MOST_SOON", 1)
    monkeypatch.setattr(importing, "SOON_MS", 60_000)
    monkeypatch.setattr(import_commits, "MOST_WRITES", 3)
    _, file = await waiting_run(cluster, tmp_path)
    SEEN.add("held")
    await asyncio.sleep(200)
    there = Cluster(Waits)
    await there.start_worker()
    await import_run(there, file)
    await there.client().resume("run")
    assert await there.client().handle(Waits, "run").result(200) == 36
    await there.close()


@pytest.mark.parametrize("how", [RunStatus.COMPLETED, RunStatus.CANCELLED])
async def test_an_ended_run_is_there_as_it_ended(cluster: MakeCluster, tmp_path: Path, how: RunStatus) -> None:
    SEEN.clear()
    here = cluster(Waits)
    await here.start_worker()
    handle = await here.client().start(Waits, 9, run_id="run")
    await asyncio.sleep(1)
    if how is RunStatus.CANCELLED:
        await handle.cancel()
    SEEN.add("held")
    assert await handle.wait(100_000) is how
    await asyncio.sleep(60)
    head = await here.client().export_run("run", tmp_path / "run")
    assert (head.run_id, head.workflow, head.version, head.status) == ("run", "Waits", "1", how.value)
    there = Cluster(Waits, retention=Retention(completed=0, cancelled=0))
    await import_run(there, tmp_path / "run")
    check_moved(contents(here.store, "run"), contents(there.store, "run"))
    assert await there.client().status("run") is how
    assert await there.client().errors("run") == await here.client().errors("run")
    await there.start_worker()
    await asyncio.sleep(60)
    with pytest.raises(RunDeletedError):
        await there.client().status("run")
    await there.close()


async def test_a_run_that_goes_on_is_not_exported(cluster: MakeCluster, tmp_path: Path) -> None:
    here = cluster(Waits)
    await here.client().start(Waits, 9, run_id="run")
    with pytest.raises(InvalidRunStateError, match=r"Cannot export run 'run': it is pending. Pause it first"):
        await here.client().export_run("run", tmp_path / "run")
    with pytest.raises(RunNotFoundError):
        await here.client().export_run("other", tmp_path / "run")
    assert not (tmp_path / "run").exists()


async def test_a_file_is_never_written_over(cluster: MakeCluster, tmp_path: Path) -> None:
    here, file = await waiting_run(cluster, tmp_path)
    before = file.read_bytes()
    with pytest.raises(RunFileError, match="cannot be written: there is such a file already"):
        await here.client().export_run("run", file)
    assert file.read_bytes() == before
    with pytest.raises(RunFileError, match="cannot be written: No such file or directory"):
        await here.client().export_run("run", tmp_path / "nowhere" / "run")


@pytest.mark.parametrize("times", [1, 99])
async def test_a_run_that_changes_meanwhile_is_exported_anew_or_not_at_all(
    cluster: MakeCluster, tmp_path: Path, times: int
) -> None:
    here, file = await waiting_run(cluster, tmp_path)
    client = here.client()
    session: Any = client.services.session
    read, left = session.read, times
    state = keys.state(RunId("run"))

    async def changing(wanted: Read) -> Any:
        nonlocal left
        if left and wanted.indexes:  # records have been read
            left -= 1
            cell = (await read(Read(slot=wanted.slot, cells=(state,)))).cells[0]
            await session.commit(Batch(slot=wanted.slot, writes=(Put(state, cell.value),)))
        return await read(wanted)

    session.read = changing
    if times == 1:
        await client.export_run("run", tmp_path / "again")
        versions = {frame.name: frame.version for frame in cells_of(tmp_path / "again")}
        assert versions["state"] == {frame.name: frame.version for frame in cells_of(file)}["state"] + 1
    else:
        with pytest.raises(RunChangedError, match="Run 'run' changed while it was exported"):
            await client.export_run("run", tmp_path / "again")
        assert names_in(tmp_path) == [file.name]


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def cells_of(file: Path) -> list[CellFrame]:
    return [frame for frame in RunFileReader(file).frames() if isinstance(frame, CellFrame)]


async def test_an_id_that_is_taken_is_not_imported_over(cluster: MakeCluster, tmp_path: Path) -> None:
    here, file = await waiting_run(cluster, tmp_path)
    before = contents(here.store, "run")
    with pytest.raises(RunImportError, match="Run 'run' cannot be imported: this store has a run of this id"):
        await here.client().import_run(file)
    assert contents(here.store, "run") == before
    await here.client().cancel("run")
    await here.client().delete("run")
    with pytest.raises(RunImportError, match="a run of this id was deleted here not long ago"):
        await here.client().import_run(file)


async def test_a_large_run_moves_in_bounded_commits_and_its_trimmed_context_log_keeps_its_positions(
    cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "GAP", 7)
    here, file = await waiting_run(cluster, tmp_path)
    log = keys.context_log(RunId("run"))
    slot = slot_of(RunId("run"))
    deltas = tuple(b"%d" % n for n in range(1_000))
    await here.store.commit([Batch(slot=slot, writes=(Append(log, deltas), Trim(log, 100)))])
    many = tuple(Put(Key("run", f"p:x:{n}"), b"page" * 20_000) for n in range(200))
    await here.store.commit([Batch(slot=slot, writes=many)])
    file.unlink()
    await here.client().export_run("run", file)
    there = Cluster(Waits)
    largest = 0

    async def measure(batches: Sequence[Batch]) -> None:
        nonlocal largest
        for batch in batches:
            sizes = [len(write.value) for write in batch.writes if isinstance(write, Put)]
            largest = max(largest, sum(sizes))

    client = there.client()
    client.services.session._store.before_commit = measure  # type: ignore[attr-defined]
    there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
    await client.import_run(file)
    there.store.__class__ = GuardedStore
    check_moved(contents(here.store, "run"), contents(there.store, "run"))
    page = (await there.store.read([Read(slot=slot, logs=(LogRange(log, 0, 1),))])).snapshots[0].logs[0]
    assert (page.first, page.entries, page.length) == (100, (b"100",), 1_000)
    assert largest < 5 * 1024 * 1024
    await there.close()


# --- what goes wrong


async def test_an_import_that_dies_at_any_commit_leaves_no_run_and_can_be_repeated(
    cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_commits, "MOST_WRITES", 10)
    here, file = await waiting_run(cluster, tmp_path)
    whole = contents(here.store, "run")
    for commits in range(60):
        there = Cluster(Waits, seed=commits)
        there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
        client = there.client()
        store: Any = client.services.session._store
        left = commits

        async def count_down(batches: Sequence[Batch], store: Any = store) -> None:
            nonlocal left
            left -= len(batches)
            if left < 0:
                store.cut()

        store.before_commit = count_down
        client.services.session._patience = 0.1
        try:
            await client.import_run(file)
        except (StoreUnavailableError, CommitOutcomeUnknownError):
            runs = (await there.client().list_runs()).runs
            if not runs:  # else it was the reply to the last commit that did not come
                with pytest.raises(RunNotFoundError):
                    await there.client().status("run")
                await there.client().import_run(file)
            check_moved(whole, contents(there.store, "run"))
            assert commits < 59
        else:
            assert commits > 5
            break
        finally:
            await there.close()


async def test_an_import_that_died_goes_with_deleting_the_run(
    cluster: MakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_commits, "MOST_WRITES", 10)
    _, file = await waiting_run(cluster, tmp_path)
    there = Cluster(Waits)
    there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
    client = there.client()
    store: Any = client.services.session._store
    left = 4

    async def count_down(batches: Sequence[Batch]) -> None:
        nonlocal left
        left -= len(batches)
        if left < 0:
            store.cut()

    store.before_commit = count_down
    client.services.session._patience = 0.1
    with pytest.raises(CommitOutcomeUnknownError):
        await client.import_run(file)
    assert len(contents(there.store, "run")) > 10
    await there.client().delete("run")
    assert [at[-1] for at in contents(there.store, "run") if "tombstone" not in at[1]] == []
    await there.close()


@pytest.mark.parametrize("seed", range(6))
async def test_replies_that_are_lost_do_no_harm(cluster: MakeCluster, tmp_path: Path, seed: int) -> None:
    here, file = await waiting_run(cluster, tmp_path)
    there = Cluster(Waits, seed=seed, store_faults=StoreFaults(lost_reply=0.4, unavailable=0.1))
    await import_run(there, file)
    check_moved(contents(here.store, "run"), contents(there.store, "run"))
    await there.close()


async def test_of_two_who_import_the_same_run_at_once_one_does(cluster: MakeCluster, tmp_path: Path) -> None:
    here, file = await waiting_run(cluster, tmp_path)
    for seed in range(8):
        there = Cluster(Waits, seed=seed, store_faults=StoreFaults(delayed=0.5, longest_delay=0.05))
        there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
        done = await asyncio.gather(
            *(there.client().import_run(file) for _ in range(3)), return_exceptions=True
        )  # fmt: skip
        assert [type(each) for each in done if isinstance(each, BaseException)] == [RunImportError] * 2
        check_moved(contents(here.store, "run"), contents(there.store, "run"))
        await there.close()


async def test_nobody_can_start_a_run_under_the_id_while_it_is_imported(cluster: MakeCluster, tmp_path: Path) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    there = Cluster(Waits)
    client, other = there.client(), there.client()
    refused = 0

    async def start(batches: Sequence[Batch]) -> None:
        nonlocal refused
        checks = [check for check in batches[0].checks if isinstance(check, Check)]
        if any(check.key.name == "import" and check.version for check in checks):
            with pytest.raises(RunError):
                await other.start(Waits, 1, run_id="run")
            refused += 1

    client.services.session._store.before_commit = start  # type: ignore[attr-defined]
    there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
    await client.import_run(file)
    there.store.__class__ = GuardedStore
    assert refused
    assert await client.status("run") is RunStatus.PAUSED
    await there.close()


async def test_a_file_that_is_damaged_anywhere_is_refused_before_anything_is_written(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    whole = file.read_bytes()
    there = Cluster(Waits)
    client = there.client()
    chance = random.Random(0)
    places = {*range(60), *range(len(whole) - 60, len(whole)), *chance.sample(range(len(whole)), 100)}
    damaged = tmp_path / "damaged"
    for place in sorted(places):
        for bad in (
            whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :],
            whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :],
            whole[:place],
            whole[:place] + whole[place + 1 :],
            whole[:place] + b"x" + whole[place:],
        ):
            damaged.write_bytes(bad)
            with pytest.raises(RunFileError, match=r"cannot be imported: it is (damaged: .+|empty|no exported run)\. "):
                await client.import_run(damaged)
    damaged.write_bytes(whole + b"\n")
    with pytest.raises(RunFileError, match="it is damaged: something follows its end"):
        await client.import_run(damaged)
    assert contents(there.store, "run") == {}
    await there.close()


async def test_the_file_of_a_newer_release_says_so(cluster: MakeCluster, tmp_path: Path) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    body: Any = msgpack.packb(["head", 2, "9.9", {"run": "run"}, None])
    file.write_bytes(run_file.MARK + struct.pack("!II", len(body), zlib.crc32(body)) + body)
    there = Cluster(Waits)
    with pytest.raises(RunFileError) as caught:
        await there.client().import_run(file)
    assert str(caught.value) == (
        f"The file {file} cannot be imported: release 9.9 wrote it in format 2, and this one reads format 1. "
        "Import it with that release."
    )
    with pytest.raises(RunFileError, match="it cannot be opened: No such file or directory"):
        await there.client().import_run(tmp_path / "nowhere")
    await there.close()


@pytest.mark.parametrize("case", ["no state", "tombstone", "another run", "running", "log"])
async def test_a_whole_file_with_what_no_run_has_is_refused(cluster: MakeCluster, tmp_path: Path, case: str) -> None:
    _, file = await waiting_run(cluster, tmp_path)
    head = RunFileReader(file).head()
    frames = list(RunFileReader(file).frames())
    state = next(frame for frame in cells_of(file) if frame.name == "state")
    match case:
        case "no state":
            frames.remove(state)
        case "tombstone":
            frames.append(CellFrame("tombstone", 1, b""))
        case "another run":
            head = replace(head, run_id="other")
        case "running":
            running = replace(codec.decode_state(state.value), status=RunStatus.RUNNING)
            frames[frames.index(state)] = CellFrame("state", 1, codec.encode_state(running))
        case _:
            frames.append(EntriesFrame("h", 3, (b"x",)))
    other = tmp_path / "other"
    with other.open("wb") as opened:
        writer = run_file.RunFileWriter(opened, head)
        for frame in frames:
            writer.write(frame)
        writer.end()
    there = Cluster(Waits)
    with pytest.raises(RunFileError, match="it is damaged"):
        await there.client().import_run(other)
    assert contents(there.store, "run") == {}
    await there.close()


def test_a_run_moves_between_memory_and_a_file_of_sqlite_and_back_unchanged(tmp_path: Path) -> None:
    before = run(_exported(tmp_path))

    async def over_sqlite() -> None:
        store = await SqliteKeyValueStore.open(tmp_path / "runs.db")
        session = Session(store, SystemClock())
        await RunImport(session).read(tmp_path / "run")
        head = await RunExport(session, "sqlite").write(RunId("run"), tmp_path / "again")
        assert (head.store_id, head.status) == ("sqlite", "paused")
        await store.aclose()

    asyncio.run(over_sqlite())
    assert frames_of(tmp_path / "again") == frames_of(tmp_path / "run") == before


async def _exported(tmp_path: Path) -> dict[str, object]:
    SEEN.clear()
    here = Cluster(Waits)
    await here.start_worker()
    await here.client().start(Waits, 9, run_id="run")
    await asyncio.sleep(5)
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    await here.close()
    return frames_of(tmp_path / "run")


def frames_of(file: Path) -> dict[str, object]:
    """What a file holds, in whatever order."""
    return {repr(frame): frame for frame in RunFileReader(file).frames()}


def test_sealed_payloads_stay_sealed_in_the_file_and_open_in_the_other_store(tmp_path: Path) -> None:
    module_secret = "a secret that is planted here"

    @node
    async def keep(ctx: WorkflowCtx[Secrets], told: str) -> str:
        ctx.state.log.append(told)
        await asyncio.sleep(3600)
        return told

    class Keeps(Workflow[str, str, Secrets]):
        start = keep

    codec_of = Encryption({"k1": b"1" * 32})

    quick = Timeouts(early_acknowledge=0.01, drain=0.1, cancel_grace=0.1)

    async def play() -> None:
        app = Floxide(workflows=[Keeps], codec=[codec_of], timeouts=quick)
        async with app.orchestrator() as client:
            await client.start(Keeps, module_secret, context=Secrets(log=EventLog([module_secret])), run_id="run")
            await asyncio.sleep(1)
            assert [each.status for each in await client.pending_work("run")] == [WorkItemStatus.IN_PROGRESS]
            await client.pause("run")
            await client.export_run("run", tmp_path / "run")
        there = Floxide(workflows=[Keeps], codec=[codec_of])
        async with there.orchestrator(with_worker=False) as client:
            await client.import_run(tmp_path / "run")
            context = await client.context(Keeps, "run")
            assert list(context.log) == [module_secret]
            (item,) = await client.pending_work("run")
            assert (item.node, item.status) == ("keep", WorkItemStatus.PENDING)
            cell = client.services.items
            (stored,) = await cell.find(RunId("run"), [WorkItemId(item.item_id)])
            assert stored is not None
            sealed = stored.item.input.payload
            assert module_secret.encode() not in sealed
            opened = client.services.sealing.open(sealed, Place("run", INPUT, item.item_id))
            assert module_secret.encode() in opened

    run(play())
    assert module_secret.encode() not in (tmp_path / "run").read_bytes()
