"""Whatever a node raises or leaves lying about is a failed attempt at worst, and its worker lives."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from floxide_amqp import NextAll, RetryPolicy, RunStatus, Workflow, gather, node
from floxide_amqp.core.failure import MAX_MESSAGE_LENGTH, MAX_TRACEBACK_LENGTH
from floxide_amqp.exceptions import ConfigurationError, PayloadTooLargeError
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import encoding
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitingError(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit(7)

    __repr__ = __str__


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()
        self.__cause__ = self

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot be pickled")


class ListedError(BaseException):
    """No `Exception` at all."""


def endless() -> NoReturn:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    raise AssertionError(deeper(0))


def huge() -> Exception:
    error = ValueError("x" * 10_000_000)
    error.add_note("y" * 10_000_000)
    return type("Z" * 100_000, (ValueError,), {})(error)


RAISED: dict[str, Callable[[], BaseException]] = {
    "BaseException": lambda: BaseException("bare"),
    "its subclass": ListedError,
    "GeneratorExit": GeneratorExit,
    "MemoryError": MemoryError,
    "RecursionError": lambda: _raised(endless),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(1),
    "CancelledError": asyncio.CancelledError,
    "StopAsyncIteration": StopAsyncIteration,
    "StopIteration": StopIteration,
    "no text": UnprintableError,
    "text that exits": ExitingError,
    "unpicklable": UnpicklableError,
    "huge": huge,
    "group": lambda: BaseExceptionGroup("many", [ValueError("x" * 1_000)] * 10_000),
    "surrogates": lambda: ValueError("\udcff" * 5_000),
}


def _raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except RecursionError as error:
        return error
    raise AssertionError("it did not recurse")


@pytest.mark.fault(40, 41)
@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_whatever_a_node_raises_is_a_failed_attempt_and_the_worker_goes_on(
    cluster: MakeCluster, kind: str, is_sync: bool
) -> None:
    @node
    async def raises(x: int) -> int:
        raise RAISED[kind]()  # noqa: RSE102 - it is a function that makes one

    @node
    def raises_in_a_thread(x: int) -> int:
        raise RAISED[kind]()  # noqa: RSE102 - it is a function that makes one

    @node
    async def works(x: int) -> int:
        return x

    class Raising(Workflow[int, int]):
        start = raises_in_a_thread if is_sync else raises
        edges = ()

    class Working(Workflow[int, int]):
        start = works
        edges = ()

    with ThreadPoolExecutor(1) as executor:
        here = cluster(
            Raising, Working, executor=executor, retry=RetryPolicy(max_attempts=2, retry_on=(BaseException,))
        )
        member = await here.start_worker()
        client = here.client()
        run = await client.start(Raising, 1, run_id="run")
        assert await run.wait(60) is RunStatus.FAILED
        errors = await client.errors("run")
        assert len(errors) in (1, 2)
        for error in errors:
            assert 0 < len(error.error_type) <= 500
            assert len(error.message) <= 6 * MAX_MESSAGE_LENGTH, "escapes may make it longer, not endless"
            assert len(error.traceback) <= 6 * MAX_TRACEBACK_LENGTH
        assert await (await client.start(Working, 1, run_id="after")).wait(10) is RunStatus.COMPLETED
        assert member.worker.health().error_count == 0
        await member.stop()


@pytest.mark.fault(43)
async def test_a_node_that_leaks_tasks_and_threads_or_begins_ten_thousand_of_them_disturbs_nobody(
    cluster: MakeCluster,
) -> None:
    let_go, threads_let_go = asyncio.Event(), threading.Event()
    leaked: list[asyncio.Task[Any]] = []

    async def wait_for_ever() -> None:
        await let_go.wait()

    async def explode() -> NoReturn:
        raise ValueError("in a task that nobody looks at")

    @node
    async def leaks(x: int) -> int:
        leaked.extend(asyncio.create_task(wait_for_ever()) for _ in range(10_000))
        leaked.append(asyncio.create_task(explode()))
        for _ in range(20):
            threading.Thread(target=threads_let_go.wait, args=(20,), daemon=True).start()
        return x

    @node
    async def works(x: int) -> int:
        return x + 1

    class Leaking(Workflow[int, int]):
        start = leaks
        edges = (leaks >> works,)

    here = cluster(Leaking)
    member = await here.start_worker()
    try:
        run = await here.client().start(Leaking, 1, run_id="run")
        assert await run.result(30) == 2
        assert member.worker.health().in_flight == 0
        assert member.worker.health().error_count == 0
        await member.stop()  # what a node leaves behind does not keep its worker from ending
    finally:
        let_go.set()
        threads_let_go.set()
        await asyncio.gather(*leaked, return_exceptions=True)


@dataclass
class Blob:
    data: bytes


def blobs(*, fan_out: int, size: int) -> type[Workflow[int, list[int]]]:
    @node
    async def makes(x: int) -> NextAll[Blob]:
        return NextAll(Blob(b"x" * size) for _ in range(fan_out))

    @node
    async def measures(blob: Blob) -> int:
        return len(blob.data)

    @node
    async def adds(sizes: list[int]) -> list[int]:
        return sizes

    class Blobs(Workflow[int, list[int]]):
        start = makes
        edges = (makes >> measures >> gather(adds),)

    return Blobs


@pytest.mark.fault(37, 59)
@pytest.mark.parametrize(
    ("fan_out", "size", "limit"), [(1, 2_000, "payload_bytes"), (50, 900, "step_bytes")], ids=["one", "all together"]
)
async def test_an_output_beyond_a_limit_is_a_failed_attempt_that_names_the_limit(
    cluster: MakeCluster, fan_out: int, size: int, limit: str
) -> None:
    workflow = blobs(fan_out=fan_out, size=size)
    here = cluster(workflow, limits=Limits(concurrency=8, payload_bytes=1_000, step_bytes=20_000))
    member = await here.start_worker()
    client = here.client()
    run = await client.start(workflow, 1, run_id="run")
    assert await run.wait(10) is RunStatus.FAILED
    (error,) = await client.errors("run")
    assert error.error_type == "PayloadTooLargeError"
    assert f"(Limits.{limit})" in error.message
    assert member.worker.health().error_count == 0


@pytest.mark.fault(37)
async def test_an_output_beyond_what_can_be_packed_names_the_node_and_both_sizes(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_PACKED_BYTES", 1_500)
    workflow = blobs(fan_out=1, size=2_000)
    here = cluster(workflow, limits=Limits(concurrency=8, payload_bytes=1_000))
    await here.start_worker()
    client = here.client()
    run = await client.start(workflow, 1, run_id="run")
    assert await run.wait(10) is RunStatus.FAILED
    (error,) = await client.errors("run")
    sentence = r"A value that node 'makes' returned has 2\d{3} bytes when encoded, and at most 1500"
    assert re.match(sentence, error.message)


def test_a_limit_beyond_what_one_value_can_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"payload_bytes=33554433\): one value can have 33554432 bytes"):
        Limits(payload_bytes=32 * 1024 * 1024 + 1)
    with pytest.raises(ConfigurationError, match="step_bytes=0"):
        Limits(step_bytes=0)


@pytest.mark.fault(59)
async def test_an_input_beyond_the_limit_is_refused_before_anything_is_stored(cluster: MakeCluster) -> None:
    @node
    async def takes(text: str) -> int:
        return len(text)

    class Taking(Workflow[str, int]):
        start = takes
        edges = ()

    here = cluster(Taking, limits=Limits(payload_bytes=1_000))
    client = here.client()
    with pytest.raises(PayloadTooLargeError, match=r"The input of workflow 'Taking' has 2\d{3} bytes"):
        await client.start(Taking, "x" * 2_000, run_id="run")
    assert not (await client.list_runs()).runs


@pytest.mark.fault(59)
async def test_an_output_that_cannot_be_stored_is_a_failed_attempt(cluster: MakeCluster) -> None:
    @node
    async def lies(x: int) -> int:
        return threading.Lock()  # type: ignore[return-value]  # what a checker would have told

    class Lying(Workflow[int, int]):
        start = lies
        edges = ()

    here = cluster(Lying)
    member = await here.start_worker()
    client = here.client()
    run = await client.start(Lying, 1, run_id="run")
    assert await run.wait(10) is RunStatus.FAILED
    (error,) = await client.errors("run")
    assert error.error_type == "PayloadMismatchError"
    assert "Node 'lies' returned a wrong value" in error.message
    assert member.worker.health().error_count == 0


@pytest.mark.fault(59)
async def test_a_failed_join_whose_inputs_are_too_much_for_one_payload_has_its_fallback(cluster: MakeCluster) -> None:
    @node
    async def spreads(x: int) -> NextAll[str]:
        return NextAll("x" * 900 for _ in range(5))

    @node
    async def keeps(text: str) -> str:
        return text

    @node
    async def joins(texts: list[str]) -> int:
        raise ValueError("cannot join")

    @node
    async def falls_back(texts: list[str]) -> int:
        return len(texts)

    class Joining(Workflow[int, int]):
        start = spreads
        edges = (spreads >> keeps >> gather(joins), joins.on_failure >> falls_back)

    here = cluster(Joining, limits=Limits(concurrency=8, payload_bytes=1_000))
    member = await here.start_worker()
    client = here.client()
    run = await client.start(Joining, 1, run_id="run")
    assert await run.result(30) == 5
    assert [error.error_type for error in await client.errors("run")] == ["ValueError"]
    assert member.worker.health().error_count == 0
