"""What a worker says of its health: when it lives, when it is ready, and its metrics, without a socket."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from floxide_amqp import ConfigurationError
from floxide_amqp.apps import health as front
from floxide_amqp.apps.health import serve_health
from floxide_amqp.apps.health.address import Address, parse_address
from floxide_amqp.apps.health.checks import Check, liveness, readiness
from floxide_amqp.apps.health.exporter import new_registry, render
from floxide_amqp.apps.health.metrics import METRICS, MetricKind
from floxide_amqp.apps.health.server import HealthPages
from floxide_amqp.core.distribution import Distribution
from floxide_amqp.runtime.figures import Figures
from floxide_amqp.runtime.health import WorkerHealth
from floxide_amqp.runtime.processes import NodeProcesses
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.settings import Limits, Timeouts
from floxide_amqp.runtime.worker import Worker
from floxide_amqp.stores.figures import StoreFigures

WELL = WorkerHealth(
    status="running", current_items=(), in_flight=2, items_done=5, error_count=1, store_age_seconds=0.2,
    heartbeat_age_seconds=1.0, loop_lag_seconds=0.01,
)  # fmt: skip


class State(Enum):
    READY = "ready"
    BLOCKED = "blocked"
    CONNECTING = "connecting"


@dataclass(frozen=True)
class Connection:
    role: str
    state: State = State.READY
    is_ready: bool = True
    generation: int = 1
    round_trip_age_seconds: float | None = 0.5
    problem: str = ""


WELL_CONNECTED = (Connection("publish"), Connection("consume"), Connection("control"))


@dataclass
class FakeServices:
    name: str = "pod-1"
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    figures: Figures = field(default_factory=Figures)
    session: Any = field(default_factory=lambda: SimpleNamespace(figures=StoreFigures()))
    processes: NodeProcesses = field(default_factory=lambda: NodeProcesses(Registry([]), size=1))
    all_connections: Sequence[Connection] = WELL_CONNECTED

    def now_ms(self) -> int:
        return 90_000

    def connections(self) -> Sequence[Connection]:
        return self.all_connections


class FakeWorker:
    def __init__(self) -> None:
        self.services = FakeServices()
        self.queues = ("default", "warehouse")
        self.maintenance = SimpleNamespace(is_leader=True, unserved_since_ms={"default/gpu": 30_000})
        self.parts_ended: list[str] = []
        self.now = WELL

    def health(self) -> WorkerHealth:
        return self.now


@pytest.fixture
def fake() -> FakeWorker:
    return FakeWorker()


def as_worker(fake: FakeWorker) -> Worker:
    return cast("Worker", fake)


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


def changed(**facts: Any) -> WorkerHealth:
    return WorkerHealth(**{name: facts.get(name, getattr(WELL, name)) for name in WorkerHealth.__dataclass_fields__})


# --- ready


def test_a_worker_that_runs_and_is_heard_everywhere_is_ready() -> None:
    assert failed(readiness(WELL, WELL_CONNECTED, Timeouts())) == []


@pytest.mark.parametrize(
    ("health", "name", "sentence"),
    [
        (changed(status="starting"), "worker", "It is starting."),
        (changed(status="draining"), "worker", "It is draining."),
        (changed(store_age_seconds=None), "store", "It has not answered yet."),
        (changed(store_age_seconds=42.0), "store", "It last answered 42.0 s ago (limit 10 s)."),
        (changed(heartbeat_age_seconds=None), "heartbeat", "None has reached the store yet."),
        (changed(heartbeat_age_seconds=9.0), "heartbeat", "others take this worker for dead after 15 s."),
        (changed(loop_lag_seconds=7.0), "event loop", "It is 7.0 s late (limit 5 s)."),
    ],
)
def test_what_keeps_a_worker_from_being_ready_is_said_in_words(health: WorkerHealth, name: str, sentence: str) -> None:
    checks = readiness(health, WELL_CONNECTED, Timeouts())
    assert failed(checks) == [name]
    (check,) = [each for each in checks if not each.ok]
    assert sentence in check.detail


@pytest.mark.parametrize("role", ["publish", "consume", "control"])
def test_a_role_without_the_broker_is_not_ready(role: str) -> None:
    down = Connection(role, State.CONNECTING, is_ready=False, problem="connection refused")
    checks = readiness(WELL, [down], Timeouts())
    assert [(each.name, each.detail) for each in checks if not each.ok] == [(f"broker: {role}", "connection refused")]


def test_a_connection_that_gives_no_reason_says_its_state() -> None:
    checks = readiness(WELL, [Connection("publish", State.BLOCKED, is_ready=False)], Timeouts())
    assert [each.detail for each in checks if not each.ok] == ["The connection is blocked."]


def test_a_worker_works_without_reading_dead_letters() -> None:
    down = Connection("dead letters", State.CONNECTING, is_ready=False, problem="connection refused")
    assert failed(readiness(WELL, [*WELL_CONNECTED, down], Timeouts())) == []


def test_the_limits_follow_the_deployment_s_own_times() -> None:
    slow = Timeouts(maintenance=60.0, heartbeat=20.0, dead_after=100.0)
    health = changed(store_age_seconds=150.0, heartbeat_age_seconds=55.0)
    assert failed(readiness(health, WELL_CONNECTED, slow)) == []


# --- alive


def test_a_worker_lives_as_long_as_its_parts_do() -> None:
    assert failed(liveness([])) == []
    (check,) = [each for each in liveness(["maintenance"]) if not each.ok]
    assert check.detail == "Ended by themselves: maintenance."


# --- pages


async def page(fake: FakeWorker, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    pages = HealthPages(as_worker(fake))
    handlers = {"/livez": pages.live, "/readyz": pages.ready, "/metrics": pages.metrics}
    response = await handlers[path](make_mocked_request("GET", path, headers=headers))
    body = response.body
    assert isinstance(body, bytes)
    return response.status, body.decode(), dict(response.headers)


async def test_a_ready_worker_answers_200_and_names_itself(fake: FakeWorker) -> None:
    status, text, headers = await page(fake, "/readyz")
    body = json.loads(text)
    assert (status, body["status"], body["worker"], body["problems"]) == (200, "ready", "pod-1", [])
    assert [check["name"] for check in body["checks"]] == [
        "worker", "store", "heartbeat", "event loop", "broker: publish", "broker: consume", "broker: control",
    ]  # fmt: skip
    assert headers["Cache-Control"] == "no-store"


async def test_a_worker_that_is_not_ready_answers_503_and_says_why(fake: FakeWorker) -> None:
    fake.now = changed(status="draining", store_age_seconds=30.0)
    status, text, _ = await page(fake, "/readyz")
    body = json.loads(text)
    assert (status, body["status"]) == (503, "not ready")
    assert body["problems"] == ["worker: It is draining.", "store: It last answered 30.0 s ago (limit 10 s)."]


async def test_a_worker_that_drains_or_lacks_its_broker_lives_on(fake: FakeWorker) -> None:
    fake.now = changed(status="draining", store_age_seconds=500.0, heartbeat_age_seconds=500.0)
    fake.services.all_connections = [Connection("publish", State.CONNECTING, is_ready=False)]
    assert (await page(fake, "/livez"))[0] == 200


async def test_a_worker_that_lost_a_part_does_not_live(fake: FakeWorker) -> None:
    fake.parts_ended.append("timers")
    status, text, _ = await page(fake, "/livez")
    assert (status, json.loads(text)["problems"]) == (503, ["parts: Ended by themselves: timers."])


# --- metrics


def values(fake: FakeWorker) -> dict[str, float]:
    text = render(new_registry(as_worker(fake)), "")[0].decode()
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True) if sample.labels else ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_are_shown_as_they_were_counted(fake: FakeWorker) -> None:
    figures = fake.services.figures
    node = figures.node("Shop", "charge")
    node.committed, node.failed, node.retried, node.discarded = 7, 3, 2, 1
    for seconds in (0.0005, 0.03, 0.03, 7.0):
        node.durations.add(seconds)
    figures.deliveries, figures.redeliveries = 20, 4
    figures.publishes["confirmed"] += 9
    figures.dead_letters["kept"] += 1
    figures.runs_finished["completed"] += 5
    found = values(fake)
    shown = {
        outcome: found[f'floxide_steps_total{{"node": "charge", "outcome": "{outcome}", "workflow": "Shop"}}']
        for outcome in ("committed", "retried", "failed", "discarded")
    }
    assert shown == {"committed": 7, "retried": 2, "failed": 1, "discarded": 1}
    assert found["floxide_deliveries_total"] == 20
    assert found["floxide_redeliveries_total"] == 4
    assert found['floxide_publishes_total{"outcome": "confirmed"}'] == 9
    assert found['floxide_dead_letters_total{"outcome": "kept"}'] == 1
    assert found['floxide_runs_finished_total{"status": "completed"}'] == 5
    assert found["floxide_steps_in_flight"] == 2
    assert found["floxide_slots"] == 100
    assert found["floxide_delivery_errors_total"] == 1
    bucket = 'floxide_step_duration_seconds_bucket{{"le": "{}", "node": "charge", "workflow": "Shop"}}'
    assert [found[bucket.format(le)] for le in ("0.001", "0.05", "5.0", "10.0", "+Inf")] == [1, 3, 3, 4, 4]
    assert found['floxide_step_duration_seconds_sum{"node": "charge", "workflow": "Shop"}'] == pytest.approx(7.0605)


def test_connections_are_shown_by_role_and_state(fake: FakeWorker) -> None:
    fake.services.all_connections = [
        Connection("publish", State.BLOCKED, is_ready=False, generation=3, round_trip_age_seconds=None)
    ]
    found = values(fake)
    assert found['floxide_broker_connection_state{"role": "publish", "state": "blocked"}'] == 1
    assert found['floxide_broker_connection_state{"role": "publish", "state": "ready"}'] == 0
    assert found['floxide_broker_connection_ready{"role": "publish"}'] == 0
    assert found['floxide_broker_connections_total{"role": "publish"}'] == 3
    assert not [name for name in found if name.startswith("floxide_broker_round_trip_age_seconds")]


def test_what_is_not_known_is_left_out(fake: FakeWorker) -> None:
    fake.now = changed(store_age_seconds=None, heartbeat_age_seconds=None)
    found = values(fake)
    assert "floxide_store_age_seconds" not in found
    assert "floxide_heartbeat_age_seconds" not in found


def test_the_age_of_what_lies_where_nobody_serves_is_shown_by_queue(fake: FakeWorker) -> None:
    assert values(fake)['floxide_unserved_task_queue_age_seconds{"queue": "default/gpu"}'] == 60


def test_the_store_s_round_trips_and_groups_are_shown_by_kind(fake: FakeWorker) -> None:
    fake.services.session.figures.answered("commit", 30, 0.004)
    fake.services.session.figures.failures["read"] += 2
    found = values(fake)
    assert found['floxide_store_round_trip_seconds_count{"kind": "commit"}'] == 1
    assert found['floxide_store_group_size_bucket{"kind": "commit", "le": "16.0"}'] == 0
    assert found['floxide_store_group_size_bucket{"kind": "commit", "le": "32.0"}'] == 1
    assert found['floxide_store_failures_total{"kind": "read"}'] == 2


def test_the_process_is_measured_too_and_nothing_is_registered_globally(fake: FakeWorker) -> None:
    from prometheus_client import REGISTRY

    assert "process_resident_memory_bytes" in values(fake)
    assert "floxide" not in render(REGISTRY, "")[0].decode()
    values(fake)  # a second worker of the process has a registry of its own


async def test_metrics_come_in_the_form_that_is_asked_for(fake: FakeWorker) -> None:
    _, text, headers = await page(fake, "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    assert "# TYPE floxide_steps_in_flight gauge" in text
    _, text, headers = await page(fake, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.rstrip().endswith("# EOF")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Any) -> None:
    assert re.fullmatch(r"floxide_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert not re.search(r"_(ms|milliseconds|minutes|kb)(_|$)", metric.name)
    assert metric.meaning.endswith(".")


def test_a_distribution_counts_a_bound_with_its_class() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        distribution.add(value)
    assert (distribution.counts, distribution.total) == ([2, 2, 1], 104.0)


# --- where it listens


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("pod-1.svc:65535", Address("pod-1.svc", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port_or_a_port_of_this_machine(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":8080", "localhost", "localhost:", "1.2.3.4:70000", "::1:80", "http://a:80", "²"]
)
def test_what_is_no_address_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        parse_address(text)


def test_a_missing_extra_is_one_sentence_with_the_command(fake: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named 'aiohttp' ({name})", name="aiohttp.web")

    monkeypatch.setattr(front.importlib, "import_module", absent)
    with pytest.raises(ConfigurationError, match=r"pip install 'floxide-amqp\[http\]'"):
        serve_health("8080", as_worker(fake))


def test_another_missing_module_is_not_taken_for_the_extra(fake: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'sockets'", name="sockets")

    monkeypatch.setattr(front.importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError):
        serve_health("8080", as_worker(fake))
