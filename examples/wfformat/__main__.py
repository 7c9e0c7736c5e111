"""Runs a trace: ``python -m examples.wfformat trace.json --scale 0.001``."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from examples.wfformat.trace import Task, check_order, read_trace
from examples.wfformat.workflow import Progress, workflow_of
from floxide_amqp import Floxide


async def run(tasks: list[Task], *, scale: float = 0.0) -> list[str]:
    """Run the tasks and return their ids in the order in which they ended."""
    workflow = workflow_of(tasks, scale=scale)
    async with Floxide(workflows=[workflow]).orchestrator() as orchestrator:
        handle = await orchestrator.start(workflow, "go", context=Progress())
        await handle.result(timeout=600)
        state = await orchestrator.context(workflow, handle.run_id)
    return list(state.ended)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.wfformat", description=__doc__)
    parser.add_argument("trace", type=Path, help="a file in WfFormat 1.5")
    parser.add_argument("--scale", type=float, default=0.0, help="how long a second of the trace takes (default: 0)")
    options = parser.parse_args()
    tasks = read_trace(options.trace)
    ended = asyncio.run(run(tasks, scale=options.scale))
    check_order(tasks, ended)
    print(f"{len(ended)} of {len(tasks)} tasks ended, {ended[0]} first and {ended[-1]} last")
    print("each once, and none before one that it waits for")


if __name__ == "__main__":
    main()
