"""Encryption on a real RabbitMQ and real stores: nothing of what users carry can be found, and nothing gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from floxide_amqp.apps.stores import shards_of
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.testing.proxy import TcpProxy
from tests.integration.searched_stores import (
    SearchedFile,
    SearchedPostgreSQL,
    SearchedRedis,
    SearchedShards,
    SearchedStore,
    contents_of,
)
from tests.unit.runtime.sealed_workflows import EXPECTED, SECRET, Everything, Failing, Told, Two

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
QUICK = Timeouts(heartbeat=0.5, maintenance=0.3, probe=1.0, publish_retry=0.5, result_backstop=0.2, drain=10.0)


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

    def __init__(self, broker: str, namespace: str, store: SearchedStore) -> None:
        self.broker, self.namespace, self.store = broker, namespace, store

    def app(self, *codecs: Codec, broker: str | None = None, limits: Limits | None = None) -> Floxide:
        return Floxide(
            broker or self.broker,
            store=shards_of(self.store.url) or self.store.url,
            workflows=[Everything, Failing, Two],
            namespace=self.namespace,
            codec=codecs,
            limits=limits or Limits(),
            timeouts=QUICK,
        )


STEP_BY_STEP = Limits(chain_steps=1)
"""Each step comes with a message of its own."""


@asynccontextmanager
async def at_work(app: Floxide, *queues: str) -> AsyncIterator[Worker]:
    async with app.worker(queues=queues) as worker:
        task = asyncio.create_task(worker.run_forever())
        try:
            yield worker
        finally:
            worker.stop()
            await task


async def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - other tasks make it so
            await asyncio.sleep(0.02)


@pytest.fixture
def bench(rabbitmq_url: str, namespace: str, tmp_path: Path) -> Bench:
    return Bench(rabbitmq_url, namespace, SearchedFile(tmp_path))


@pytest.fixture
def bench_on_servers(rabbitmq_url: str, namespace: str, postgresql_url: str, redis_url: str) -> Bench:
    """A place whose store is PostgreSQL and Redis, each with a share of the runs."""
    shards = SearchedShards({"anna": SearchedPostgreSQL(postgresql_url), "bert": SearchedRedis(redis_url)})
    return Bench(rabbitmq_url, namespace, shards)


on_each_store = pytest.mark.parametrize("place", ["bench", "bench_on_servers"])


@pytest.mark.parametrize("codecs", [(), (Compression(above=10_000), Encryption({"k": NEW}))], ids=["without", "with"])
async def test_a_planted_secret_is_neither_in_the_files_nor_on_the_wire_and_without_a_codec_it_is_in_the_files(
    bench: Bench, codecs: Sequence[Codec]
) -> None:
    async with AsyncExitStack() as stack:
        tap = await stack.enter_async_context(Tap.before(bench.broker))
        app = bench.app(*codecs, broker=tap.url_of(bench.broker), limits=STEP_BY_STEP)
        orchestrator = await stack.enter_async_context(app.orchestrator())
        waiting = await orchestrator.start(Two, SECRET, run_id="waiting")
        before = await contents_of(bench.store)
        await stack.enter_async_context(at_work(app))
        run = await orchestrator.start(Everything, SECRET, context=Told(said=SECRET), run_id="everything")
        bad = await orchestrator.start(Failing, SECRET, context=Told(said=SECRET), run_id="failing")
        assert await run.result(90) == EXPECTED
        with pytest.raises(RunFailedError, match=f"I will not tell {SECRET}"):
            await bad.result(90)
        assert await waiting.result(90) == SECRET
        during = await contents_of(bench.store)
    states = (before, during, await contents_of(bench.store))
    assert [SECRET.encode() in state for state in states[:2]] == [not codecs] * 2
    assert (SECRET.encode() in states[2]) is not bool(codecs)
    assert SECRET.encode() not in tap.heard
    for name in (b"everything", b"failing", b"Everything"):
        assert name in tap.heard
        assert name in during


@on_each_store
async def test_keys_are_rotated_while_runs_are_live_and_all_of_them_complete(
    place: str, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(place)
    old, both = Encryption({"old": OLD}), Encryption({"new": NEW, "old": OLD})
    announced = Encryption({"old": OLD, "new": NEW})
    started: list[str] = []

    async def start(orchestrator: Orchestrator) -> None:
        for _ in range(4):
            started.append(f"run-{len(started)}")
            await orchestrator.start(Everything, SECRET, run_id=started[-1])

    for step in (old, announced, both):  # the worker of before is gone when that of the next step begins
        async with (
            bench.app(step).orchestrator() as orchestrator,
            at_work(bench.app(step, limits=STEP_BY_STEP)) as worker,
        ):
            await start(orchestrator)
            until_some = 3 + worker.health().items_done
            await until(lambda worker=worker, some=until_some: worker.health().items_done >= some)  # type: ignore[misc]
            assert {await orchestrator.status(run_id) for run_id in started[-4:]} != {RunStatus.COMPLETED}
    async with bench.app(both).orchestrator() as orchestrator, at_work(bench.app(both)):
        results = [await orchestrator.handle(Everything, run_id).result(90) for run_id in started]
    assert results == [EXPECTED] * 12
    for contents in (await asyncio.to_thread(bench.store.parts)).values():
        assert b"aes-gcmold" in contents
        assert b"aes-gcmnew" in contents
        assert SECRET.encode() not in contents


def with_payload_of(own: bytes, other: bytes) -> bytes:
    """An item's record, with the sealed input of another one."""
    item, moved = codec.decode_item(own), codec.decode_item(other)
    return codec.encode_item(replace(item, input=replace(item.input, payload=moved.input.payload)))


def whole_record(own: bytes, other: bytes) -> bytes:
    del own
    return other


@on_each_store
@pytest.mark.parametrize(
    ("copied", "refusal"),
    [
        (with_payload_of, "'{poor}/input of .* moved here from another run, item or field"),
        (whole_record, "'{poor}/i:.*' cannot be read: It is the record of item"),
    ],
    ids=["payload", "record"],
)
async def test_what_is_moved_of_an_item_to_another_run_is_refused_with_its_place_and_fails_the_run_once(
    place: str, copied: Callable[[bytes, bytes], bytes], refusal: str, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(place)
    store, app = bench.store, bench.app(Encryption({"k": NEW}))
    async with app.orchestrator() as orchestrator:
        for poor_id, rich_id in zip(store.ids("poor"), store.ids("rich"), strict=True):
            poor = await orchestrator.start(Two, "1", run_id=poor_id)
            rich = await orchestrator.start(Two, "1000", run_id=rich_id)
            places: list[Key] = []
            for run_id in (poor_id, rich_id):
                (item,) = await orchestrator.pending_work(run_id)
                places.append(keys.item(RunId(run_id), WorkItemId(item.item_id)))
            own, other = store.take(poor_id, places[0]), store.take(rich_id, places[1])
            store.put(poor_id, places[0], copied(own, other))
            async with at_work(app) as worker:
                assert await rich.result(90) == "1000"
                with pytest.raises(RunFailedError, match=refusal.format(poor=poor_id)):
                    await poor.result(90)
                assert worker.services.figures.runs_finished["failed"] == 1
                assert worker.services.figures.quarantined == 0
            assert await poor.status() is RunStatus.FAILED


@on_each_store
async def test_a_context_moved_to_another_run_is_refused_with_its_place_and_fails_the_run_once(
    place: str, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(place)
    store, app = bench.store, bench.app(Encryption({"k": NEW}))
    async with app.orchestrator() as orchestrator:
        for poor_id, rich_id in zip(store.ids("poor"), store.ids("rich"), strict=True):
            poor = await orchestrator.start(Everything, "1", context=Told(said="1"), run_id=poor_id)
            await orchestrator.start(Everything, "1000", context=Told(said="1000"), run_id=rich_id)
            own, other = (store.take(run_id, keys.header(RunId(run_id))) for run_id in (poor_id, rich_id))
            header, moved = codec.decode_header(own), codec.decode_header(other)
            store.put(poor_id, keys.header(RunId(poor_id)), codec.encode_header(replace(header, context=moved.context)))
            async with at_work(app):
                with pytest.raises(
                    RunFailedError, match=rf"'{poor_id}/initial context' .* moved here from another run"
                ):
                    await poor.result(90)


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
            assert [await run.result(90) for run in runs] == [EXPECTED] * 5
