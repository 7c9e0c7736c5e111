"""A client for threads: opened by its first call in each process, used by all threads at once, closed at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from floxide_amqp import (
    AmqpSettings,
    BrokerUnavailableError,
    BrokerUse,
    ConfigurationError,
    Context,
    Floxide,
    Hold,
    ItemHeld,
    Next,
    ResultTimeoutError,
    RunEnded,
    RunFailedError,
    RunNotFoundError,
    RunStatus,
    Start,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.apps.background_loop import BackgroundLoop
from floxide_amqp.sync import Client


class Count(Context):
    seen: int = 0


@node
async def double(ctx: WorkflowCtx[Count], n: int) -> int:
    ctx.state.seen = n
    if n < 0:
        raise ValueError("negative")
    return 2 * n


class Doubles(Workflow[int, int, Count]):
    start = double


@node
async def hold_on(n: int) -> Next[int] | Hold:
    return Hold(for_=timedelta(days=1))


class Holding(Workflow[int, int]):
    start = hold_on


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(Floxide(workflows=[Doubles, Holding])) as opened:
        yield opened


def test_a_run_is_started_waited_for_and_looked_at_without_an_event_loop(client: Client) -> None:
    run = client.start(Doubles, 4, run_id="run", attributes={"tenant": "acme"})
    assert run.result(timeout=30) == 8
    assert (run.wait(), run.status(), client.status("run")) == (RunStatus.COMPLETED,) * 3
    assert [each.run_id for each in client.list_runs(attributes={"tenant": "acme"}).runs] == ["run"]
    assert client.run_info("run").attributes == {"tenant": "acme"}
    assert client.query(Doubles, "run").context.seen == 4
    assert client.result(Doubles, "run") == 8
    assert client.run(Doubles, "run").result() == 8
    assert isinstance(list(run.events())[-1], RunEnded)
    assert client.call(lambda it: it.metrics("run")).completed_items == 1
    assert run.delete() is True


def test_errors_are_raised_where_the_call_is(client: Client) -> None:
    with pytest.raises(RunFailedError, match="negative"):
        client.start(Doubles, -1).result(timeout=30)
    with pytest.raises(RunNotFoundError):
        client.status("nobody")
    with pytest.raises(ResultTimeoutError):
        client.start(Holding, 1).result(timeout=0.01)


def test_a_run_is_steered(client: Client) -> None:
    run = client.start(Holding, 1, run_id="run")
    told = run.events()
    assert any(isinstance(event, ItemHeld) for event in told)
    told.close()  # type: ignore[attr-defined]  # it is a generator
    run.pause("look first")
    assert (client.run_info("run").reason, run.resume()) == ("look first", True)
    assert run.cancel("enough") is True
    assert client.cancel("run") is False
    assert repr(run) == "<Run 'run' of Holding>"


def test_many_threads_use_one_client_at_once(client: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: client.start(Doubles, n).result(timeout=30), range(40)))
    assert results == [2 * n for n in range(40)]
    assert sum(thread.name == "floxide.sync" for thread in threading.enumerate()) == 1


def test_runs_are_started_together(client: Client) -> None:
    runs = client.start_many(Doubles, [Start(n) for n in range(5)])
    assert [run.result(timeout=30) for run in runs] == [0, 2, 4, 6, 8]


def test_nothing_is_opened_before_the_first_call_and_closing_ends_the_thread() -> None:
    client = Client(Floxide(workflows=[Doubles]))
    before = threading.active_count()
    client.close()
    assert threading.active_count() == before
    assert client.start(Doubles, 1).result(timeout=30) == 2
    assert any(thread.name == "floxide.sync" for thread in threading.enumerate())
    client.close()
    client.close()
    assert not any(thread.name == "floxide.sync" for thread in threading.enumerate())
    assert client.start(Doubles, 2).result(timeout=30) == 4, "the next call opens it again"
    client.close()


def test_what_keeps_it_from_opening_is_raised_by_each_call_until_it_is_cured() -> None:
    is_broken = True

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[object]:
        if is_broken:
            raise ConfigurationError("no bank today")
        yield object()

    with Client(Floxide(workflows=[Doubles], lifespan=lifespan)) as client:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="no bank"):
                client.start(Doubles, 1)
        is_broken = False
        assert client.start(Doubles, 1).result(timeout=30) == 2


def test_an_async_node_that_calls_it_is_refused_instead_of_waiting_for_itself() -> None:
    clients: list[Client] = []

    @node
    async def ask(n: int) -> str:
        try:
            clients[0].status("run")
        except ConfigurationError as error:
            return str(error)
        return ""

    class Asking(Workflow[int, str]):
        start = ask

    with Client(Floxide(workflows=[Asking])) as client:
        clients.append(client)
        assert "wait for itself" in client.start(Asking, 1).result(timeout=30)


def test_a_sync_node_may_call_it() -> None:
    clients: list[Client] = []

    @node
    def ask(n: int) -> str:
        return clients[0].status("run").value

    class Asking(Workflow[int, str]):
        start = ask

    with Client(Floxide(workflows=[Asking])) as client:
        clients.append(client)
        assert client.start(Asking, 1, run_id="run").result(timeout=30) in ("pending", "running")


def test_closing_ends_what_other_threads_wait_for(client: Client) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def wait_for_ever(_: object) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.call(wait_for_ever)
        except BaseException as error:  # noqa: BLE001 - what ended it is asserted
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(30)
    client.close()
    thread.join(30)
    assert not thread.is_alive()
    assert cancelled.is_set()
    assert len(errors) == 1


def test_a_client_that_only_looks_needs_no_broker_and_one_that_needs_it_says_soon_that_it_is_not_there(
    tmp_path: Path,
) -> None:
    store, settings = f"sqlite:///{tmp_path}/runs.db", AmqpSettings(open_deadline=0.1)
    with Client(Floxide(store=store, workflows=[Doubles])) as here:
        assert here.start(Doubles, 4, context=Count(), run_id="four").result(timeout=60) == 8
    away = Floxide("amqp://127.0.0.1:1/", store=store, workflows=[Doubles], broker_settings=settings)
    with Client(away, broker=BrokerUse.NONE) as looking:
        assert looking.run_info("four").status is RunStatus.COMPLETED
    with Client(away) as needing, pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1"):
        needing.run_info("four")


class TellingLock:
    """A lock that counts who has come to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.came = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_threads_that_wait_for_one_opening_fail_with_it_and_do_not_try_one_after_the_other() -> None:
    goes_on, openings = threading.Event(), []

    @asynccontextmanager
    async def opening() -> AsyncIterator[int]:
        openings.append("tried")
        await asyncio.to_thread(goes_on.wait)
        if len(openings) == 1:
            raise BrokerUnavailableError(url="amqp://nowhere/", operation="Connecting", reason="a test")
        yield 7

    async def told(opened: int) -> int:
        return opened

    loop = BackgroundLoop(opening, name="test")
    lock = TellingLock()
    loop._life().lock = lock  # type: ignore[assignment]
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(loop.call, told) for _ in range(3)]
        for _ in calls:
            lock.came.acquire()
        goes_on.set()
        assert [type(call.exception()) for call in calls] == [BrokerUnavailableError] * 3
    assert len(openings) == 1
    assert loop.call(told) == 7  # the next call tries again
    loop.close()
