"""Group 7: steps for workers with a label, on a queue of their own, and steps in processes of their own."""

from __future__ import annotations

import os

from floxide_amqp import Workflow, node
from tests.chaos.checks.routing import LABEL
from tests.chaos.groups.desk import Desk, Group


@node
async def load(number: int) -> int:
    return number


@node(labels={LABEL})
async def render(number: int) -> int:
    return number * 3


@node(labels={LABEL}, queue="warehouse")
def store(number: int) -> str:
    return f"picture {number}"


@node(executor="process")
def compute(number: int) -> list[int]:
    total = 0
    for each in range(number % 7 + 2):
        total = (total * 31 + each) % 1_000_003
    return [total, os.getpid()]


class Rendering(Workflow[int, str], version="1"):
    start = load
    edges = (load >> render >> store,)


class Computing(Workflow[int, list[int]], version="1"):
    start = load
    edges = (load >> compute,)


WORKFLOWS = {"labelled": Rendering, "process": Computing}


def labels_of(worker: str) -> set[str] | None:
    """The labels of a worker by its name, such as ``w2-1``: each second one has the label."""
    number = worker.removeprefix("w").partition("-")[0]
    return {LABEL} if int(number) % 2 == 0 else None


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run that not every worker can run, or that runs beside them, and wait for its end."""
    run_id = f"routing-{kind}-{number}"
    await desk.start(WORKFLOWS[kind], number, run_id)
    await desk.end_of(run_id)


GROUP = Group(7, "routing", tuple(WORKFLOWS), tuple(WORKFLOWS.values()), deed)
