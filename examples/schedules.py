"""Schedules: a report each weekday at nine on Berlin's clocks, and one right now."""

from __future__ import annotations

import asyncio
from zoneinfo import ZoneInfo

from floxide_amqp import Floxide, Overlap, Schedule, Workflow, node


@node
async def write_report(subject: str) -> str:
    return f"{subject} until today"


class Report(Workflow[str, str]):
    start = write_report


WEEKDAYS = Schedule(
    "report", Report, "sales", cron="0 9 * * MON-FRI", timezone="Europe/Berlin", overlap=Overlap.QUEUE
)  # fmt: skip


async def main() -> list[str]:
    app = Floxide(workflows=[Report])  # schedules=[WEEKDAYS] has each worker put it when it begins
    async with app.orchestrator() as orchestrator:
        await orchestrator.schedules.put(WEEKDAYS)
        (coming,) = await orchestrator.schedules.next("report", count=1)
        local = coming.astimezone(ZoneInfo("Europe/Berlin"))
        told = [f"next at 09:00 in Berlin: {(local.hour, local.minute) == (9, 0)}"]
        run_id = await orchestrator.schedules.trigger("report", trigger_id="today")
        told.append(f"{run_id}: {await orchestrator.handle(Report, run_id).result()}")
        info = await orchestrator.schedules.get("report")
        told.append(f"started: {info.started}, missed: {info.missed}")
    print("\n".join(told))
    return told


if __name__ == "__main__":
    asyncio.run(main())
