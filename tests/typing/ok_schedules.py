"""Schedules take their workflow's input; both type checkers must accept this."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from shop import *

from floxide_amqp import Floxide, Orchestrator, Overlap, Schedule, ScheduleInfo, Workflow


class Charging(Workflow[Order, Receipt, OrderContext]):
    start = charge


HOURLY = Schedule("hourly", Charging, Order("1", []), every=timedelta(hours=1), overlap="queue")
DAILY = Schedule("daily", Charging, Order("1", []), cron="0 9 * * *", timezone="Europe/Berlin", overlap=Overlap.ALLOW)
APP = Floxide(workflows=[Charging], schedules=[HOURLY, DAILY])


async def steer(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.schedules.put(HOURLY), ScheduleInfo)
    assert_type(await orchestrator.schedules.trigger("hourly"), str)
