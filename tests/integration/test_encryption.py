"""Encryption on a real RabbitMQ and an SQLite file: nothing of what users carry can be found, and nothing gets lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from floxide_amqp import (
    Codec,
    Compression,
    Encryption,
    Floxide,
    Limits,
    Orchestrator,
    RunFailedError,
    RunStatus,
    Timeouts,
    Worker,
    WorkItemStatus,
)
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.testing.proxy import TcpProxy
from tests.unit.runtime.sealed_workflows import EXPECTED, SECRET, Everything, Failing, Told, Two

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
QUICK = Timeouts(heartbeat=0.5, maintenance=0.3, probe=1.0, publish_retry=0.5, result_backstop=0.2, drain=10.0)

pytestmark = pytest.mark.timeout(60)


class Tap(TcpProxy):
    """Remembers every byte between its clients and the broker."""

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self.heard = bytearray()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, both: set[asyncio.StreamWriter]
    ) -> None:
        read = source.read

        async def listening(n: int = -1) -> bytes:
            data = await read(n)
            self.heard += data
            return data

        source.read = listening  # type: ignore[method-assign]
        await super()._pump(source, target, both)


class Bench:
    """One test's place."""

    def __init__(self, broker: str, namespace: str, folder: Path) -> None:
        self.broker, self.namespace, self.file = broker, namespace, folder / "runs.db"

    def app(self, *codecs: Codec, broker: str | None = None, chain_steps: int = 1_000) -> Floxide:
        return Floxide(
            broker or self.broker,
            store=f"sqlite:///{self.file}",
            workflows=[Everything, Failing, Two],
            namespace=self.namespace,
            codec=codecs,
            limits=Limits(chain_steps=chain_steps),
            timeouts=QUICK,
        )

    def on_disk(self) -> bytes:
        """What the files of the store hold, the log and the free pages included."""
        return b"\0".join(path.read_bytes() for path in sorted(self.file.parent.iterdir()))


@asynccontextmanager
async def at_work(app: Floxide) -> AsyncIterator[Worker]:
    async with app.worker() as worker:
        task = asyncio.create_task(worker.run_forever())
        try:
            yield worker
        finally:
            worker.stop()
            await task


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - other tasks make it so
            await asyncio.sleep(0.02)


@pytest.fixture
def bench(rabbitmq_url: str, namespace: str, tmp_path: Path) -> Bench:
    return Bench(rabbitmq_url, namespace, tmp_path)


@pytest.mark.parametrize("codecs", [(), (Compression(above=10_000), Encryption({"k": NEW}))], ids=["without", "with"])
async def test_a_planted_secret_is_neither_in_the_files_nor_on_the_wire_and_without_a_codec_it_is_in_the_files(
    bench: Bench, codecs: Sequence[Codec]
) -> None:
    async with AsyncExitStack() as stack:
        tap = await stack.enter_async_context(Tap.before(bench.broker))
        app = bench.app(*codecs, broker=tap.url_of(bench.broker), chain_steps=1)
        orchestrator = await stack.enter_async_context(app.orchestrator())
        waiting = await orchestrator.start(Two, SECRET, run_id="waiting")
        before = bench.on_disk()
        await stack.enter_async_context(at_work(app))
        run = await orchestrator.start(Everything, SECRET, context=Told(said=SECRET), run_id="everything")
        bad = await orchestrator.start(Failing, SECRET, context=Told(said=SECRET), run_id="failing")
        assert await run.result(30) == EXPECTED
        with pytest.raises(RunFailedError, match=f"I will not tell {SECRET}"):
            await bad.result(30)
        assert await waiting.result(30) == SECRET
        during = bench.on_disk()
    states = (before, during, bench.on_disk())
    assert [SECRET.encode() in state for state in states[:2]] == [not codecs] * 2
    assert (SECRET.encode() in states[2]) is not bool(codecs)
    assert SECRET.encode() not in tap.heard
    for name in (b"everything", b"failing", b"Everything"):
        assert name in tap.heard
        assert name in during


async def test_keys_are_rotated_while_runs_are_live_and_all_of_them_complete(bench: Bench) -> None:
    old, both = Encryption({"old": OLD}), Encryption({"new": NEW, "old": OLD})
    announced = Encryption({"old": OLD, "new": NEW})
    started: list[str] = []

    async def start(orchestrator: Orchestrator) -> None:
        for _ in range(4):
            started.append(f"run-{len(started)}")
            await orchestrator.start(Everything, SECRET, run_id=started[-1])

    for step in (old, announced, both):  # the worker of before is gone when that of the next step begins
        async with bench.app(step).orchestrator() as orchestrator, at_work(bench.app(step, chain_steps=1)) as worker:
            await start(orchestrator)
            until_some = 3 + worker.health().items_done
            await until(lambda worker=worker, some=until_some: worker.health().items_done >= some)  # type: ignore[misc]
            assert {await orchestrator.status(run_id) for run_id in started[-4:]} != {RunStatus.COMPLETED}
    async with bench.app(both).orchestrator() as orchestrator, at_work(bench.app(both)):
        results = [await orchestrator.handle(Everything, run_id).result(30) for run_id in started]
    assert results == [EXPECTED] * 12
    assert b"aes-gcmold" in bench.on_disk()
    assert b"aes-gcmnew" in bench.on_disk()
    assert SECRET.encode() not in bench.on_disk()


async def test_a_payload_moved_to_another_run_is_refused_and_both_are_named(bench: Bench) -> None:
    app = bench.app(Encryption({"k": NEW}))
    async with app.orchestrator() as orchestrator:
        poor = await orchestrator.start(Two, "1", run_id="poor")
        rich = await orchestrator.start(Two, "1000", run_id="rich")
        places = {}
        for run_id in ("poor", "rich"):
            (item,) = await orchestrator.pending_work(run_id)
            places[run_id] = keys.item(RunId(run_id), WorkItemId(item.item_id))
        with closing(sqlite3.connect(bench.file, timeout=10)) as file, file:
            of_place = "FROM cells WHERE partition = ? AND name = ?"
            own, other = (
                codec.decode_item(file.execute(f"SELECT value {of_place}", places[run_id]).fetchone()[0])
                for run_id in ("poor", "rich")
            )
            moved = replace(own, input=replace(own.input, payload=other.input.payload))
            file.execute(
                "UPDATE cells SET value = ? WHERE partition = ? AND name = ?",
                (codec.encode_item(moved), *places["poor"]),
            )
        async with at_work(app):
            assert await rich.result(30) == "1000"
            with pytest.raises(RunFailedError, match=r"'poor/input of .* moved here from another run, item or field"):
                await poor.result(30)


async def test_a_worker_without_the_key_neither_spins_nor_loses_what_waits_for_one_that_has_it(bench: Bench) -> None:
    keyed = Encryption({"k": NEW})
    async with bench.app(keyed).orchestrator() as orchestrator:
        async with at_work(bench.app()) as blind:
            runs = [await orchestrator.start(Everything, SECRET, run_id=f"run-{n}") for n in range(5)]
            await until(lambda: blind.services.figures.parked == 5)
            figures = blind.services.figures
            before = (figures.parked, figures.dismissed, figures.redeliveries, figures.quarantined)
            await asyncio.sleep(2.0)
            assert (figures.parked, figures.dismissed, figures.redeliveries, figures.quarantined) == before
            for run in runs:
                (item,) = await orchestrator.pending_work(run.run_id)
                assert item.status is WorkItemStatus.PARKED
                assert "encryption key 'k'" in item.note
                assert await orchestrator.status(run.run_id) is RunStatus.WAITING
        async with at_work(bench.app(keyed)):
            assert [await run.result(30) for run in runs] == [EXPECTED] * 5
