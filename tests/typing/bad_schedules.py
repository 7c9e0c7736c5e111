"""Mistakes with schedules, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Floxide, Orchestrator, Schedule, Workflow


class Charging(Workflow[Order, Receipt, OrderContext]):
    start = charge


Schedule("hourly", Charging, Order("1", []), every=3600, overlap="sometimes")  # expect: no policy of this name
Schedule("hourly", charge, Order("1", []), every=3600)  # expect: a node where a workflow is to be started
Schedule("hourly", Charging, Order("1", []), 3600)  # expect: what says when is given by name
Floxide(workflows=[Charging], schedules=[Charging])  # expect: a workflow instead of a schedule


async def steer(orchestrator: Orchestrator) -> None:
    await orchestrator.schedules.pause(3)  # expect: a name that is no text
