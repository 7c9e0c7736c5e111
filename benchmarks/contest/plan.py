"""What a contest measures, on which servers, and what comes of it."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.contest.parts import PART_NAMES
from floxide_amqp.testing.postgresql_servers import execute, new_database
from floxide_amqp.testing.services import (
    PostgreSQL,
    PrivatePostgreSQL,
    RabbitMQ,
    Redis,
    launch_own_postgresql,
    launch_own_rabbitmq,
    launch_own_redis,
)

T = TypeVar("T")

OURS = ("ours-postgresql", "ours-redis", "ours-sqlite")
PEERS = ("celery", "dramatiq", "taskiq", "dbos", "dbos-queue", "langgraph", "restate", "prefect")

QUORUM_HOST = "quorum"
"""The virtual host in which queues are quorum queues, for who has no setting for that.

Source:
    RabbitMQ's manual, "Virtual Hosts", default queue type.
"""

POSTGRESQL_DEFAULTS = "shared_buffers = 128MB\nmax_wal_size = 1GB"
"""What the server has by default; one that is launched for tests has less.

Source:
    PostgreSQL's manual, "Resource Consumption" and "Write Ahead Log".
"""

CHAINS = "chains"
"""What is measured of all; the other parts are of this project alone."""

ALONE = ("ours-sqlite", "dbos", "langgraph", "prefect")
"""Who runs steps in the client's own process, and so has no second worker."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured.

    Attributes:
        in_flight: Runs that are kept in flight; 0 for the latency of one run at a time.
        note_bytes: By how much the payload is larger than the usual one.
        pause: Seconds that each step sleeps.
    """

    name: str
    steps: int
    in_flight: int
    note_bytes: int = 0
    pause: float = 0.0


WORKLOADS = (
    Workload("3 steps, 100 in flight", 3, 100),
    Workload("3 steps, 1,000 in flight", 3, 1000),
    Workload("10 steps, 100 in flight", 10, 100),
    Workload("10 steps, 1,000 in flight", 10, 1000),
    Workload("3 steps of 10 ms, 1,000 in flight", 3, 1000, pause=0.01),
    Workload("3 steps, 64 KiB, 100 in flight", 3, 100, note_bytes=65536),
    Workload("idle latency of 3 steps", 3, 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        contestants: Names, from `OURS` and `PEERS`.
        workers: Numbers of worker processes, each of which is measured.
        rounds: How often, besides one that only finds out how many runs a measurement shall have.
        seconds: How long a measurement shall take, about.
        idle_runs: Runs whose latency is measured.
        limit_messages: Messages that the raw relay takes; the commits are ten times as many.
        tools: The folder of the other projects' environment.
        parts: Names, from `CHAINS` and `PART_NAMES`.
        part_contestants: Of whom the parts besides chains are measured, from `OURS`.
        large_rounds: In how many of the rounds the cases of 100,000 are measured too.
        is_smoke: Whether everything shall only be seen to work: one small case of each part.
    """

    contestants: Sequence[str]
    workers: Sequence[int]
    rounds: int
    seconds: float
    idle_runs: int
    limit_messages: int
    workloads: Sequence[Workload] = WORKLOADS
    tools: str = ".venv-peers"
    parts: Sequence[str] = (CHAINS, *PART_NAMES)
    part_contestants: Sequence[str] = OURS
    large_rounds: int = 0
    is_smoke: bool = False

    def entries(self) -> list[tuple[str, int]]:
        """Return whose chains to measure in each round, with how many workers."""
        return [
            (name, workers)
            for workers in self.workers
            for name in self.contestants
            if CHAINS in self.parts and (workers == min(self.workers) or name not in ALONE)
        ]


@dataclass
class Measured:
    """What came of a contest.

    Attributes:
        facts: What each contestant says of itself, by its name.
        rows: A row for each contestant, number of workers and workload.
        limits: The rates of the raw limits, of each round.
        parts: A row for each part, contestant and case.
        syncs: What reached the disk for each contestant in each round, all workloads together.
        servers: Their versions and settings.
        rounds: How many rounds are complete.
        failures: Who did not finish, and why; who does not twice in a row is left out from then on.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict[str, Any])
    rows: dict[tuple[str, int, str], dict[str, Any]] = field(default_factory=dict[Any, Any])
    limits: dict[str, list[float]] = field(default_factory=dict[str, Any])
    parts: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict[Any, Any])
    failures: list[dict[str, Any]] = field(default_factory=list[Any])
    syncs: list[dict[str, Any]] = field(default_factory=list[Any])
    servers: dict[str, str] = field(default_factory=dict[str, str])
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that all share."""

    broker: RabbitMQ
    postgresql: PostgreSQL
    redis: Redis

    @property
    def quorum_broker(self) -> str:
        """The URL of the broker's virtual host whose queues are quorum queues by default."""
        return f"{self.broker.url.rstrip('/')}/{QUORUM_HOST}"

    @contextmanager
    def database(self) -> Generator[str]:
        """Have an empty database in PostgreSQL while the block is open; afterwards the server has nothing left to do.

        Whoever is measured next shall not pay for what was written before.
        """
        url = new_database(self.postgresql.url)
        try:
            yield url
        finally:
            execute(self.postgresql.url, f'DROP DATABASE "{urlsplit(url).path[1:]}" WITH (FORCE)')
            execute(self.postgresql.url, "CHECKPOINT")


def shuffled(names: Sequence[T], number: int) -> list[T]:
    """Return the same in the order of a round, so that nobody is always measured behind the same one."""
    return random.Random(number).sample(names, len(names))


@contextmanager
def servers() -> Generator[Servers]:
    """Have servers of one's own while the block is open."""
    broker, postgresql, redis = launch_own_rabbitmq(), launch_own_postgresql(), launch_own_redis()
    try:
        broker.ctl("add_vhost", QUORUM_HOST, "--default-queue-type", "quorum")
        broker.ctl("set_permissions", "--vhost", QUORUM_HOST, "guest", ".*", ".*", ".*")
        if isinstance(postgresql, PrivatePostgreSQL):  # what comes in a container has the server's defaults
            postgresql.reconfigure(POSTGRESQL_DEFAULTS)
            postgresql.restart()
        yield Servers(broker, postgresql, redis)
    finally:
        for each in (redis, postgresql, broker):
            each.close()
