"""The arithmetic to a rate: processes, servers, brokers, memory, network and disk, from what was measured of one step.

What does not fit into one application goes into several, here *cells*: each has workers, a store and a broker of its
own, and knows nothing of the others. Clients decide which cell a run is started in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.scaling_inputs import Inputs
from benchmarks.scaling_model import news_share, shard_names, shares

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked for, and what may be used for it.

    Attributes:
        use: How much of their time processes and servers are busy at most; the rest is for bursts and outages.
        shard_cores, broker_cores: Of one server.
        most_shards: Servers of one store: the more, the less evenly 64 slots fall on them.
        most_connections: Of one server of the store; every worker and client of a cell has some to each.
    """

    steps_per_second: float
    steps: int
    use: float = 0.7
    shard_cores: int = 16
    broker_cores: int = 16
    most_shards: int = 4
    most_connections: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What it takes, in all cells together.

    Attributes:
        runs_per_second: That are started, and end.
        queues: Task queues with a core of a broker each.
        cores: Of all processes and servers, at the planned use.
        news: How much of a worker's time goes into hearing of what is started.
        network, log, stored: Bytes per second: over the network, into the stores' logs, and into their tables, in which
            they stay until runs are deleted.
        deleting_shards: Servers of stores that would delete as many runs as are started.
        memory_gib: Of all clients and workers.
    """

    runs_per_second: float
    cells: int
    clients: int
    workers: int
    shards: int
    brokers: int
    queues: int
    cores: dict[str, float]
    news: float
    network: float
    log: float
    stored: float
    deleting_shards: int
    memory_gib: float


def plan(inputs: Inputs, goal: Goal) -> Need:
    """Return what a rate takes."""
    runs = goal.steps_per_second / goal.steps
    cores = {name: runs * inputs.whole_us(name, goal.steps) / 1e6 / goal.use for name in inputs.parts()}
    clients, queues = (math.ceil(cores[name]) for name in ("client", "broker"))
    cells, workers = 1, math.ceil(cores["worker"])
    while True:
        shards = _shards_per_cell(cores["store"] / cells, goal)
        news = news_share(inputs, math.ceil(clients / cells))
        workers = math.ceil(cores["worker"] / max(1.0 - news, 0.01))
        connections = inputs.connections * (math.ceil(workers / cells) + math.ceil(clients / cells))
        fits = shards is not None and connections <= goal.most_connections
        if shards is not None and fits and math.ceil(queues / cells) <= goal.broker_cores:
            break
        cells += 1
    workers, clients, queues = (math.ceil(each / cells) * cells for each in (workers, clients, queues))
    return Need(
        runs_per_second=runs, cells=cells, clients=clients, workers=workers, shards=shards * cells, queues=queues,
        brokers=cells, cores=cores, news=news,
        network=runs * inputs.network.of(goal.steps), log=runs * inputs.log.of(goal.steps),
        stored=goal.steps_per_second * inputs.stored_bytes,
        deleting_shards=math.ceil(runs / inputs.deleted_per_second),
        memory_gib=(workers * inputs.worker_mib + clients * inputs.client_mib) * 2**20 / GIB,
    )  # fmt: skip


def _shards_per_cell(cores: float, goal: Goal) -> int | None:
    """Return how many servers give the one with most slots cores enough, of so many for all; None for too many."""
    for number in range(1, goal.most_shards + 1):
        if cores * max(shares(shard_names(number)).values()) <= goal.shard_cores:
            return number
    return None
