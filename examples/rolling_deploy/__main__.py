"""``python -m examples.rolling_deploy [--store postgresql|redis|sqlite] [--policy ...] [--runs 40] [--workers 3]``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from examples.rolling_deploy.conducting import Outcome, deploy
from floxide_amqp import VersionPolicy
from floxide_amqp.testing.services import (
    PostgreSQL,
    Redis,
    launch_own_postgresql,
    launch_own_redis,
    launch_rabbitmq,
)


async def main(arguments: argparse.Namespace) -> int:
    """Do a rolling deploy for each policy; return 1 if one did what must not be."""
    violated = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rolling-deploy-")))
        broker = await asyncio.to_thread(launch_rabbitmq)
        stack.callback(broker.close)
        store = f"sqlite:///{folder / 'runs.db'}"
        if arguments.store != "sqlite":
            launch: Callable[[], PostgreSQL | Redis] = launch_own_redis
            if arguments.store == "postgresql":
                launch = launch_own_postgresql
            server = await asyncio.to_thread(launch)
            stack.callback(server.close)
            store = server.url
        policies = [VersionPolicy(arguments.policy)] if arguments.policy else list(VersionPolicy)
        for policy in policies:
            began = time.monotonic()
            outcome = await deploy(
                policy, broker=broker.url, store=store, runs=arguments.runs, workers=arguments.workers, logs=folder,
            )  # fmt: skip
            show(outcome, arguments, time.monotonic() - began)
            violated = violated or bool(outcome.violations)
    return int(violated)


def show(outcome: Outcome, arguments: argparse.Namespace, seconds: float) -> None:
    """Print what became of the runs."""
    print(f"{outcome.policy.value} on RabbitMQ and {arguments.store}: {arguments.workers} workers replaced one by one")
    print(f"  runs of version 1       {_counts(outcome.statuses)}")
    print(f"  their versions now      {_counts(outcome.versions)}")
    print(f"  shipped by the code of  {_counts(outcome.shipped)}")
    print(f"  runs of version 2       {outcome.new} completed")
    print(f"  violations              {len(outcome.violations)}   ({seconds:.1f} s)", flush=True)
    for violation in outcome.violations:
        print(f"    {violation}")


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counted.items())) or "none"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m examples.rolling_deploy", description=main.__doc__)
    parser.add_argument("--store", choices=("postgresql", "redis", "sqlite"), default="postgresql")
    parser.add_argument("--policy", choices=[policy.value for policy in VersionPolicy], default="")
    parser.add_argument("--runs", type=int, default=40, help="runs in flight")
    parser.add_argument("--workers", type=int, default=3, help="worker processes of each version")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
