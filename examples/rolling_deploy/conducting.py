"""One rolling deploy: runs of version 1 in flight, its workers replaced one by one, and what became of the runs."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from examples.rolling_deploy import auto_upgrade, compatible, strict, version_1
from examples.rolling_deploy.common import GO
from examples.rolling_deploy.workers import WorkerProcess, start_worker
from floxide_amqp import Floxide, Orchestrator, RunStatus, VersionPolicy
from floxide_amqp.apps.settings import BROKER_VARIABLE, STORE_VARIABLE

LINES = 3
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 120.0
"""Longest wait for a run's end: a run that takes longer is stuck."""

NEW_CODE: Mapping[VersionPolicy, ModuleType] = {
    VersionPolicy.STRICT: strict,
    VersionPolicy.COMPATIBLE: compatible,
    VersionPolicy.AUTO_UPGRADE: auto_upgrade,
}

EXPECTED: Mapping[VersionPolicy, tuple[set[str], set[str]]] = {
    VersionPolicy.STRICT: ({"1"}, {"version 1"}),
    VersionPolicy.COMPATIBLE: ({"1"}, {"version 1", "version 2"}),
    VersionPolicy.AUTO_UPGRADE: ({"1", "2"}, {"version 1", "version 2"}),
}
"""By policy: versions that an old run may have at the end, and versions whose code may have shipped it."""


@dataclass
class Outcome:
    """What became of the runs of one deploy.

    Attributes:
        statuses: How many old runs ended how.
        versions: Of old runs, how many have which version at the end.
        shipped: Of old runs, how many were shipped by which version's code.
        new: How many runs that were started with the new version completed.
        violations: What must not be.
    """

    policy: VersionPolicy
    statuses: Counter[str] = field(default_factory=Counter[str])
    versions: Counter[str] = field(default_factory=Counter[str])
    shipped: Counter[str] = field(default_factory=Counter[str])
    new: int = 0
    violations: list[str] = field(default_factory=list[str])


async def deploy(policy: VersionPolicy, *, broker: str, store: str, runs: int, workers: int, logs: Path) -> Outcome:
    """Start runs with version 1, replace its workers by those of version 2, and return what became of the runs.

    Args:
        policy: What the new version does with old runs.
        broker: The broker's URL.
        store: The store's URL.
        runs: Runs that are in flight; some of them go on with each worker that is replaced.
        workers: Worker processes of each version.
        logs: A folder for what the workers log.
    """
    environment = {BROKER_VARIABLE: broker, STORE_VARIABLE: store}
    old_app = version_1.app.elsewhere(broker=broker, store=store)
    new_app = _app_of(NEW_CODE[policy]).elsewhere(broker=broker, store=store)
    outcome, tag = Outcome(policy), f"{policy.value}-{secrets.token_hex(3)}"
    old = [start_worker("version_1", f"{tag}-old-{n}", environment, logs) for n in range(workers)]
    new: list[WorkerProcess] = []
    try:
        async with old_app.orchestrator() as client:
            await _are_alive(client, old)
            ids = [f"{tag}-{number}" for number in range(runs)]
            for number, run_id in enumerate(ids):
                order = version_1.Order(number, LINES)
                await client.start(version_1.Orders, order, context=version_1.OrderContext(), run_id=run_id)
            await _wait_for_go(client, ids)
            for number, worker in enumerate(old):
                await client.signal_many(GO, dict.fromkeys(ids[number :: workers + 1], True))
                new.append(start_worker(_name(policy), f"{tag}-new-{number}", environment, logs))
                await _are_alive(client, new[-1:])
                await worker.stop()
            await client.signal_many(GO, dict.fromkeys(ids[workers :: workers + 1], True))
        async with new_app.orchestrator() as client:
            await _look_at(client, ids, outcome)
            outcome.new = await _start_new(client, policy, tag, max(1, runs // 4))
        for worker in new:
            await worker.stop()
    finally:
        for worker in (*old, *new):
            worker.kill()
    _judge(outcome, runs)
    return outcome


def _app_of(module: ModuleType) -> Floxide:
    app: Floxide = module.app
    return app


def _name(policy: VersionPolicy) -> str:
    return NEW_CODE[policy].__name__.rpartition(".")[2]


async def _are_alive(client: Orchestrator, workers: Sequence[WorkerProcess]) -> None:
    """Return once workers have been seen in the store."""
    wanted = {worker.name for worker in workers}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wanted:
            wanted -= {each.worker_id for each in await client.workers()}
            for worker in workers:
                if worker.process.poll() is not None:
                    raise RuntimeError(f"Worker {worker.name} ended:\n{worker.log.read_text()[-2000:]}")
            await asyncio.sleep(POLL_SECONDS)


async def _wait_for_go(client: Orchestrator, ids: Sequence[str]) -> None:
    """Return once every run waits for its go."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for run_id in ids:
            while await client.status(run_id) is not RunStatus.WAITING:  # noqa: ASYNC110 - other processes tell nobody
                await asyncio.sleep(POLL_SECONDS)


async def _look_at(client: Orchestrator, ids: Sequence[str], outcome: Outcome) -> None:
    """Wait for the old runs' ends, and count what they came to."""
    for run_id in ids:
        try:
            await client.wait(run_id, PATIENCE_SECONDS)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            outcome.violations.append(f"{run_id}: {error}")
        info = await client.run_info(run_id)
        outcome.statuses[info.status.value] += 1
        outcome.versions[info.version] += 1
        if info.status is not RunStatus.COMPLETED:
            waits = "; ".join(wait.what for wait in info.waits)
            outcome.violations.append(f"{run_id} is {info.status.value}: {info.failure or info.reason or waits}")
            continue
        output: str = await client.handle(version_1.Orders, run_id).result()
        who, _, what = output.partition(": ")
        outcome.shipped[who] += 1
        if what != f"{LINES} lines, {LINES} packed":
            outcome.violations.append(f"{run_id} came to {output!r}")


async def _start_new(client: Orchestrator, policy: VersionPolicy, tag: str, runs: int) -> int:
    """Run some orders with the new version from the beginning, and return how many came to what they should."""
    module, good = NEW_CODE[policy], 0
    for number in range(runs):
        order = module.Order(number, LINES, "USD")
        handle = await client.start(
            module.Orders, order, context=module.OrderContext(), run_id=f"{tag}-new-{number}"
        )  # fmt: skip
        await handle.signal(GO, True)
        good += await handle.result(PATIENCE_SECONDS) == f"version 2: {LINES} lines, {LINES} packed"
    return good


def _judge(outcome: Outcome, runs: int) -> None:
    versions, shippers = EXPECTED[outcome.policy]
    if outcome.statuses != {RunStatus.COMPLETED.value: runs}:
        outcome.violations.append(f"of {runs} runs {outcome.statuses[RunStatus.COMPLETED.value]} completed")
    if not set(outcome.versions) <= versions or not set(outcome.shipped) <= shippers:
        outcome.violations.append(f"versions {dict(outcome.versions)}, shipped by {dict(outcome.shipped)}")
    if outcome.policy is VersionPolicy.AUTO_UPGRADE and not outcome.versions["2"]:
        outcome.violations.append("no run was raised to version 2")
    if outcome.new != max(1, runs // 4):
        outcome.violations.append(f"of the new version's runs {outcome.new} came to what they should")
