"""The health endpoints of a real worker: a broker that dies, that blocks, that comes back; a drain; a port in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from floxide_amqp import ConfigurationError, Floxide, Limits, Worker, Workflow, node
from floxide_amqp.apps.health import serve_health
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.rabbitmq_servers import RabbitMQ
from tests.integration.dead_letter_app import QUICK, Innocent

SWIFT = AmqpSettings(
    connect_deadline=3.0, rpc_deadline=2.0, publish_deadline=3.0, probe_interval=0.5, backoff_initial=0.05,
    backoff_max=0.5,
)  # fmt: skip
CONNECTED = ["broker: consume", "broker: control", "broker: publish"]


@node
async def stay(folder: str) -> str:
    while not Path(folder, "go").exists():  # noqa: ASYNC110, ASYNC240 - a test makes it
        await asyncio.sleep(0.02)
    return "done"


class Staying(Workflow[str, str]):
    start = stay


class Pod:
    """A worker with its endpoints, as a kubelet and a Prometheus meet it."""

    def __init__(self, app: Floxide, worker: Worker, port: int, client: aiohttp.ClientSession) -> None:
        self.app = app
        self.worker = worker
        self.port = port
        self._client = client

    async def ask(self, path: str) -> tuple[int, Any, str]:
        async with self._client.get(f"http://127.0.0.1:{self.port}{path}") as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return response.status, (await response.json() if is_json else None), text

    async def until_ready(self, status: int, seconds: float = 120) -> list[str]:
        """Wait until /readyz answers so; return the problems it names."""
        async with asyncio.timeout(seconds):
            while True:
                found, body, _ = await self.ask("/readyz")
                if found == status:
                    return list(body["problems"])
                await asyncio.sleep(0.1)


@asynccontextmanager
async def pod(app: Floxide, *, is_run: bool = True) -> AsyncGenerator[Pod]:
    (port,) = free_ports(1)
    async with app.worker(http=f"127.0.0.1:{port}", name="pod") as worker, aiohttp.ClientSession() as client:
        task = asyncio.create_task(worker.run_forever()) if is_run else None
        try:
            yield Pod(app, worker, port, client)
        finally:
            worker.stop()
            if task is not None:
                await task


def app_on(broker: str | None, namespace: str, folder: Path) -> Floxide:
    return Floxide(
        broker, store=f"sqlite:///{folder}/runs.db", namespace=namespace, workflows=[Innocent, Staying], timeouts=QUICK,
        broker_settings=SWIFT, limits=Limits(concurrency=7),
    )  # fmt: skip


@pytest_asyncio.fixture
async def served(rabbitmq_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Pod]:
    async with pod(app_on(rabbitmq_url, namespace, tmp_path)) as made:
        await made.until_ready(200)
        yield made


async def test_a_worker_is_ready_once_it_runs_and_names_what_it_looked_at(
    rabbitmq_url: str, namespace: str, tmp_path: Path
) -> None:
    async with pod(app_on(rabbitmq_url, namespace, tmp_path), is_run=False) as made:
        status, body, _ = await made.ask("/readyz")
        assert status == 503
        assert "worker: It is starting." in body["problems"]
        assert (await made.ask("/livez"))[0] == 200
        task = asyncio.create_task(made.worker.run_forever())
        await made.until_ready(200)
        _, body, _ = await made.ask("/readyz")
        assert body["worker"] == "pod"
        assert sorted(each["name"] for each in body["checks"] if each["name"].startswith("broker")) == CONNECTED
        made.worker.stop()
        await task


async def test_steps_and_runs_are_counted_and_no_secret_is_shown(served: Pod) -> None:
    async with served.app.orchestrator() as orchestrator:
        runs = [await orchestrator.start(Innocent, n) for n in range(5)]
        assert [await run.result(90) for run in runs] == [n * n for n in range(5)]
    _, _, text = await served.ask("/metrics")
    assert 'floxide_steps_total{node="work",outcome="committed",workflow="Innocent"} 5.0' in text
    assert 'floxide_runs_finished_total{status="completed"} 5.0' in text
    assert 'floxide_step_duration_seconds_bucket{le="1.0",node="work",workflow="Innocent"} 5.0' in text
    assert "floxide_slots 7.0" in text
    assert 'floxide_broker_connection_ready{role="publish"} 1.0' in text
    assert 'floxide_store_round_trip_seconds_count{kind="commit"}' in text
    pages = [text] + [(await served.ask(path))[2] for path in ("/livez", "/readyz")]
    assert not any("guest" in each for each in pages)
    assert (await served.ask("/"))[0] == 404


async def test_a_draining_worker_lives_and_is_not_ready(rabbitmq_url: str, namespace: str, tmp_path: Path) -> None:
    app = app_on(rabbitmq_url, namespace, tmp_path)
    async with pod(app) as made:
        await made.until_ready(200)
        async with app.orchestrator() as orchestrator:
            run = await orchestrator.start(Staying, str(tmp_path))
            await until(lambda: _is_at_work(made))
            made.worker.stop()
            assert await made.until_ready(503) == ["worker: It is draining."]
            assert (await made.ask("/livez"))[0] == 200
            (tmp_path / "go").touch()
            assert await run.result(90) == "done"


async def _is_at_work(made: Pod) -> bool:
    return made.worker.health().in_flight > 0


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another task makes it so
            await asyncio.sleep(0.02)


@pytest.mark.xdist_group("own_rabbitmq")
@pytest.mark.fault(7)
async def test_a_worker_without_its_broker_says_so_and_is_ready_again_when_it_is_back(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path
) -> None:
    async with pod(app_on(own_rabbitmq.url, namespace, tmp_path)) as made:
        await made.until_ready(200)
        await asyncio.to_thread(own_rabbitmq.kill)
        problems = await made.until_ready(503)
        assert {problem.partition(": ")[0] for problem in problems} == {"broker"}
        assert all(len(problem) > len("broker: publish: ") for problem in problems), problems
        assert (await made.ask("/livez"))[0] == 200
        _, _, text = await made.ask("/metrics")
        assert 'floxide_broker_connection_ready{role="publish"} 0.0' in text
        await asyncio.to_thread(own_rabbitmq.start)
        assert await made.until_ready(200) == []
        _, _, text = await made.ask("/metrics")
        assert 'floxide_broker_connections_total{role="publish"} 1.0' not in text


@pytest.mark.xdist_group("own_rabbitmq")
@pytest.mark.fault(14)
async def test_a_worker_that_the_broker_blocks_is_not_ready(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path
) -> None:
    app = app_on(own_rabbitmq.url, namespace, tmp_path)
    async with pod(app) as made, app.orchestrator() as orchestrator:
        run = await orchestrator.start(Innocent, 2)
        assert await run.result(90) == 4
        await made.until_ready(200)
        await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0")
        try:
            late = await orchestrator.start(Innocent, 3)  # its message is the worker's to publish: it blocks who does
            problems = await made.until_ready(503)
            assert any("alarm" in problem for problem in problems), problems
        finally:
            await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.6")
        assert await made.until_ready(200) == []
        assert await late.result(90) == 9


async def test_a_port_in_use_is_one_sentence(served: Pod) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use"):
        async with serve_health(str(served.port), served.worker):
            raise AssertionError("two servers on one port")


async def test_a_host_that_is_not_of_this_machine_is_one_sentence(served: Pod) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        async with serve_health("192.0.2.1:8080", served.worker):
            raise AssertionError("listening on somebody else's address")


async def test_a_free_port_is_chosen_and_told_and_only_this_machine_can_ask(served: Pod) -> None:
    async with serve_health("0", served.worker) as address:
        assert (address.host, address.port > 0) == ("127.0.0.1", True)
        async with aiohttp.ClientSession() as client, client.get(f"http://{address}/livez") as response:
            assert response.status == 200


async def test_an_embedded_worker_has_no_broker_to_be_without(tmp_path: Path) -> None:
    async with pod(app_on(None, "unused", tmp_path)) as made:
        await made.until_ready(200)
        _, body, _ = await made.ask("/readyz")
        assert [each["name"] for each in body["checks"]] == ["worker", "store", "heartbeat", "event loop"]
