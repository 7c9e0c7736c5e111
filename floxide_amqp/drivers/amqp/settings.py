"""What a deployment may tune about the broker, and what a broker URL must look like."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from floxide_amqp.exceptions import ConfigurationError

DEFAULT_NAMESPACE: Final = "floxide"
"""First word of every exchange and queue name."""

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024 - 64 * 1024
"""RabbitMQ 4.x refuses messages over 16 MiB; the margin is for what surrounds a body."""

HEARTBEAT_SECONDS: Final = 15
"""A half-open link is noticed after about three of them; the manual calls less than 5 a source of false alarms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpSettings:
    """Deadlines, limits and security of the connections to one broker; all durations in seconds.

    Attributes:
        open_deadline: Longest wait for a first connection before opening fails.
        connect_deadline: Longest single attempt to connect, TLS and login included.
        rpc_deadline: Longest wait for the answer to a declaration or a subscription; then the connection is replaced.
        publish_deadline: Longest wait for a confirm; then the outcome is unknown and the connection is replaced.
        close_deadline: Longest orderly farewell of one connection; then its socket is cut.
        probe_interval: Time between two round trips made only to see whether the connection is alive.
        backoff_initial: Upper bound of the first random pause before connecting again; doubles each time.
        backoff_max: Upper bound of every such pause.
        heartbeat: Heartbeat interval proposed to the broker, whole seconds.
        publish_window: Most messages published and not yet confirmed.
        publish_window_bytes: Most bytes of bodies published and not yet confirmed; one longer body may go alone.
        max_message_bytes: Longer bodies are refused before they reach the broker.
        replaces_dead_queues: Delete and declare again a task queue that exists, holds nothing the broker can see, and
            twice did not answer a consumer in time; see `floxide_amqp.drivers.amqp.consumer`.
        declares_missing_queues: Declare a task queue that a published message finds missing, where the user may, and
            publish again; else such messages are returned until somebody consumes from the queue.
        ssl_context: Used for ``amqps`` URLs instead of one built from the URL's ``cafile``, ``certfile``, ``keyfile``.
        allow_unverified_tls: Accept ``no_verify_ssl`` in the URL, which turns off certificate and host name checks.
    """

    open_deadline: float = 30.0
    connect_deadline: float = 15.0
    rpc_deadline: float = 15.0
    publish_deadline: float = 30.0
    close_deadline: float = 5.0
    probe_interval: float = 15.0
    backoff_initial: float = 0.1
    backoff_max: float = 10.0
    heartbeat: int = HEARTBEAT_SECONDS
    publish_window: int = 256
    publish_window_bytes: int = 64 * 1024 * 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
    replaces_dead_queues: bool = True
    declares_missing_queues: bool = True
    ssl_context: ssl.SSLContext | None = None
    allow_unverified_tls: bool = False

    @property
    def round_trip_limit(self) -> float:
        """A role that the broker has not answered for so long is not ready: a probe is overdue, or lost."""
        return 2 * self.probe_interval + self.rpc_deadline


DEFAULT_SETTINGS: Final = AmqpSettings()


def redacted(url: str | URL) -> str:
    """Return a broker URL as it may be printed: with its password hidden, and without its query.

    One that is misspelt may have its password anywhere before an ``@``: nothing of that is shown.
    """
    parsed = _parse(url)
    if parsed.password is not None:
        parsed = parsed.with_password("***")
    if "@" in parsed.raw_path or not parsed.host:
        return f"{parsed.scheme}:…@{parsed.path.rpartition('@')[2]}" if parsed.host else "…"
    return str(parsed.with_query(None).with_fragment(None))


def broker_url(url: str, settings: AmqpSettings) -> URL:
    """Return the URL to connect to, its heartbeat filled in.

    Raises:
        ConfigurationError: It is not an AMQP URL, or it turns TLS verification off without being allowed to.
    """
    if not url:
        raise ConfigurationError(
            "The broker URL is empty: write amqp://user:password@host:5672/vhost, or None to run in one process."
        )
    parsed = _parse(url)
    if parsed.scheme not in ("amqp", "amqps") or not parsed.host:
        raise ConfigurationError(
            f"{redacted(parsed)!r} is not a broker URL: write amqp://user:password@host:5672/vhost, "
            "or amqps:// for TLS."
        )
    if _turns_verification_off(parsed.query) and not settings.allow_unverified_tls:
        raise ConfigurationError(
            f"The broker URL {redacted(parsed)} turns TLS verification off (no_verify_ssl). Remove that, or set "
            "allow_unverified_tls=True in AmqpSettings if the network between is trusted."
        )
    return parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=settings.heartbeat)


def _turns_verification_off(query: Mapping[str, str]) -> bool:
    return query.get("no_verify_ssl", "0") != "0"


def _parse(url: str | URL) -> URL:
    if isinstance(url, URL):
        return url
    try:
        return URL(url)
    except ValueError:
        raise ConfigurationError("The broker URL cannot be read: write amqp://user:password@host:5672/vhost.") from None
