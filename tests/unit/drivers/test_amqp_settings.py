from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.drivers.amqp.connection import full_jitter
from floxide_amqp.drivers.amqp.consumer import shares_of
from floxide_amqp.drivers.amqp.settings import AmqpSettings, broker_url, redacted
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:secret@host:5672/vhost", "amqp://user:***@host:5672/vhost"),
        ("amqps://user:s%2Fe%40cret@host/", "amqps://user:***@host/"),
        ("amqp://host/", "amqp://host/"),
        ("amqp://user:secret@host/?keyfile=/k&password=secret", "amqp://user:***@host/"),
    ],
)
def test_a_printed_url_shows_no_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("url", ["http://user:secret@host/", "localhost:5672", "amqp://", "", "amqp://user:secret@:1/"])
def test_what_is_not_a_broker_url_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="amqp://user:password@host:5672/vhost") as caught:
        AmqpWorkQueue(url)
    assert "secret" not in str(caught.value)


def test_an_empty_url_is_told_apart() -> None:
    with pytest.raises(ConfigurationError, match=r"^The broker URL is empty: .* or None to run in one process\.$"):
        broker_url("", AmqpSettings())


def test_tls_without_verification_needs_to_be_allowed() -> None:
    url = "amqps://user:secret@host/?no_verify_ssl=1"
    with pytest.raises(ConfigurationError, match="allow_unverified_tls=True") as caught:
        broker_url(url, AmqpSettings())
    assert "secret" not in str(caught.value)
    assert broker_url(url, AmqpSettings(allow_unverified_tls=True)).query["no_verify_ssl"] == "1"


def test_the_heartbeat_is_proposed_unless_the_url_names_one() -> None:
    assert broker_url("amqp://host/", AmqpSettings()).query["heartbeat"] == "15"
    assert broker_url("amqp://host/?heartbeat=30", AmqpSettings()).query["heartbeat"] == "30"


@pytest.mark.parametrize("namespace", ["", "amq.mine", "with space", "ünï", "x" * 101])
def test_a_namespace_that_cannot_be_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a namespace"):
        AmqpWorkQueue("amqp://host/", namespace=namespace)


def test_everything_is_named_after_the_namespace() -> None:
    names = Names("shop")
    assert names.work_exchange == "shop.work"
    assert names.work_queue("warehouse") == "shop.work.warehouse"
    assert names.dead_queue == "shop.dead"
    assert names.control_queue("w1", "0f") == "shop.control.w1.0f"
    assert names.event_queue("0f") == "shop.events.0f"


def test_a_task_queue_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too long"):
        Names("shop").work_queue("x" * 250)


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_task_queues_have_different_allowed_names(one: str, other: str) -> None:
    names = Names("shop")
    try:
        first, second = names.work_queue(one), names.work_queue(other)
    except ConfigurationError:
        return
    assert (first == second) is (one == other)
    assert first.isascii()
    assert len(first) <= 255


@given(st.text(max_size=400))
def test_any_worker_id_gives_an_allowed_queue_name(worker_id: str) -> None:
    name = Names("shop").control_queue(worker_id, "0123456789ab")
    assert name.isascii()
    assert len(name) <= 255
    assert name.endswith(".0123456789ab")


@given(st.integers(1, 500), st.lists(st.text(), min_size=1, max_size=20, unique=True))
def test_the_shares_of_a_prefetch_add_up_to_it(prefetch: int, queues: list[str]) -> None:
    shares = shares_of(prefetch, queues)
    assert set(shares) == set(queues)
    assert sum(shares.values()) == max(prefetch, len(queues))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_each_level_of_priority_has_all_of_the_prefetch() -> None:
    shares = shares_of(7, ["a", "a!high", "b", "b!high", "a!low"])
    assert shares == {"a": 4, "a!high": 4, "b": 3, "b!high": 3, "a!low": 7}


@given(st.integers(0, 10_000))
def test_a_pause_is_never_longer_than_its_bound(attempt: int) -> None:
    settings = AmqpSettings(backoff_initial=0.1, backoff_max=10.0)
    assert 0 <= full_jitter(attempt, settings) <= min(10.0, 0.1 * 2 ** min(attempt, 16))
