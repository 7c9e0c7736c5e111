"""Runs a plan against a stage while runs are started, waits until all is quiet, and writes down what it saw."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from aio_pika.exceptions import ChannelNotFoundEntity

from tests.chaos.checker import Evidence
from tests.chaos.checks.every import is_of_a_group
from tests.chaos.deeds import Taskmaster, open_deeds
from tests.chaos.faults import FAULTS, NothingToHitError
from tests.chaos.groups.floor import GROUPS
from tests.chaos.plan import Fault
from tests.chaos.stage import Stage
from tests.chaos.store_faults import NotPossibleHereError
from tests.chaos.store_reader import StoreAwayError

CLIENTS_OF_A_PROCESS = 2
"""The client's process has its own, and one in a thread."""

WINDOW = 160
"""Runs open at a time: enough to keep the workers busy."""

BATCH = 16
FEED_SECONDS = 0.2
DEED_SECONDS = 0.5
TELL_SECONDS = 5.0
CALM_SECONDS = 3.0
TRY_AGAIN_SECONDS = 1.0
TRIES = 40
QUIET_SECONDS = 900.0
"""Longest wait for the quiet after the last fault."""


@dataclass
class Tally:
    """What the conductor did."""

    started_at: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    impossible: dict[str, str] = field(default_factory=dict)
    given_up: list[Fault] = field(default_factory=list)
    fed: int = 0
    quiet_after_seconds: float = 0.0

    def now(self) -> float:
        return time.monotonic() - self.started_at

    def say(self, text: str) -> None:
        print(f"[{self.now():7.1f} s] {text}", flush=True)


class Feeder:
    """Has the client start runs, so that there are always about as many open."""

    def __init__(self, stage: Stage, tally: Tally, window: int = WINDOW) -> None:
        self._stage = stage
        self._window = window
        self._tally = tally
        self._told: tuple[int, int] = (0, 0)

    async def run(self) -> None:
        while True:
            await self.feed()
            await asyncio.sleep(FEED_SECONDS)

    async def feed(self) -> None:
        """Have as many started as are missing, as far as the client has answered what it was told before."""
        client = self._stage.client
        if client is None or not client.is_ready:
            return
        current = client.generation
        generation, told = self._told
        if generation != current:
            told = 0
        if told - client.answered > BATCH:
            return
        try:
            open_runs = await asyncio.to_thread(self._stage.reader.open_runs)
        except StoreAwayError:
            return
        if client.generation != current:  # another process by now, which was told nothing yet
            return
        while open_runs < self._window and told - client.answered <= BATCH:
            if not client.tell(f"start order {self._tally.fed} {BATCH}"):
                break
            self._tally.fed += BATCH
            told += BATCH
            open_runs += BATCH
        self._told = (current, told)


async def conduct(stage: Stage, plan: list[Fault], duration: float) -> Tally:
    """Inject the faults of the plan at their times while runs go on, for at least `duration` seconds."""
    tally = Tally()
    stage.duration = duration
    feeder = asyncio.create_task(Feeder(stage, tally).run())
    deeds = asyncio.create_task(have_deeds_done(stage))
    tracks = {fault.track for fault in plan}
    try:
        async with asyncio.TaskGroup() as group:
            for track in sorted(tracks):
                group.create_task(_follow(stage, tally, [fault for fault in plan if fault.track == track]))
            group.create_task(asyncio.sleep(duration))
            group.create_task(_watch(feeder, duration))
            group.create_task(_watch(deeds, duration))
    finally:
        for task in (feeder, deeds):
            task.cancel()
        await asyncio.gather(feeder, deeds, return_exceptions=True)
    return tally


async def have_deeds_done(stage: Stage) -> None:
    """Have the client do deeds of each group, for ever."""
    taskmaster = Taskmaster(stage.folder, {name: group.kinds for name, group in GROUPS.items()})
    while True:
        if stage.client is not None and stage.client.is_ready:
            taskmaster.tell(stage.client)
        await asyncio.sleep(DEED_SECONDS)


async def _watch(feeder: asyncio.Task[None], duration: float) -> None:
    """A feeder that fails must not look like a quiet ten minutes."""
    await asyncio.wait({feeder}, timeout=duration)
    if feeder.done():
        feeder.result()


async def _follow(stage: Stage, tally: Tally, faults: list[Fault]) -> None:
    for fault in faults:
        await asyncio.sleep(max(0.0, fault.at_seconds - tally.now()))
        await _inject(stage, tally, fault)


async def _inject(stage: Stage, tally: Tally, fault: Fault) -> None:
    chance = random.Random(fault.seed)
    for _ in range(TRIES):
        began = tally.now()
        try:
            told = await FAULTS[fault.kind](stage, chance)
        except (NothingToHitError, ChannelNotFoundEntity, StoreAwayError):  # such as of a broker wiped a moment ago
            await asyncio.sleep(TRY_AGAIN_SECONDS)
            continue
        except NotPossibleHereError as reason:
            tally.impossible[fault.kind] = str(reason)
            return
        except Exception as error:  # noqa: BLE001 - told; a fault that cannot be injected fails the run at its end
            tally.say(f"{fault.kind:<19} FAILED {type(error).__name__}: {error}")
            tally.failed.append(f"{fault.kind}: {type(error).__name__}: {error}")
            await asyncio.sleep(TRY_AGAIN_SECONDS)
            continue
        tally.done[fault.kind] += 1
        tally.say(f"{fault.kind:<19} due {fault.at_seconds:6.1f}, took {tally.now() - began:4.1f} s: {told}")
        return
    tally.given_up.append(fault)


async def settle(stage: Stage, tally: Tally) -> bool:
    """Wait until nothing is left to do; return whether that came about in time."""
    began = tally.now()
    calm = 0
    is_closing = False
    said = began
    while tally.now() - began < QUIET_SECONDS:
        try:
            await _resume_paused(stage)
            if stage.client is not None and not is_closing:
                is_closing = stage.client.is_ready and stage.client.tell("close")
            left = await asyncio.to_thread(stage.reader.left_over)
        except StoreAwayError as error:
            left = {str(error): 1}
        left |= {f"deed {group} {number}": 1 for group, number in open_deeds(stage.folder)}
        if left and tally.now() - said > TELL_SECONDS:
            said = tally.now()
            tally.say(f"waits for {', '.join(f'{count} {name}' for name, count in left.items())}"[:200])
        calm = 0 if left else calm + 1
        if calm == 2 and not await _messages(stage):
            tally.quiet_after_seconds = tally.now() - began
            return True
        calm %= 2
        await asyncio.sleep(1.0)
    tally.say(f"not quiet after {QUIET_SECONDS:g} s: {left}")
    return False


async def _resume_paused(stage: Stage) -> None:
    """A client that was killed in a storm left its runs paused, and so they would stay."""
    if stage.client is not None:
        for entry, _ in await asyncio.to_thread(stage.reader.index, "runs.status:paused"):
            run_id = entry.split(":", 1)[1]
            if not is_of_a_group(run_id):  # whoever pauses those resumes them
                stage.client.tell(f"resume {run_id}")


def broken_off(stage: Stage) -> list[str]:
    """Processes that ended by themselves with an error; another took the place of each."""
    slots = [*stage.workers, *([stage.client] if stage.client else [])]
    return [f"{name} ({code})" for slot in slots for name, code in slot.exits if code > 0]


async def _messages(stage: Stage) -> int:
    return sum(queue["messages_ready"] + queue["messages_unacknowledged"] for queue in await stage.queues())


async def baseline(stage: Stage) -> dict[str, Any]:
    """What the workers have before anything happened to them: of each figure the largest."""
    await asyncio.sleep(CALM_SECONDS)
    reports = [await slot.report() for slot in stage.workers]
    largest = max(reports, key=lambda report: report["tasks"])
    return {**largest, **{what: max(each[what] for each in reports) for what in ("descriptors", "tasks", "threads")}}


async def close(stage: Stage, fresh: dict[str, Any]) -> None:
    """Ask the processes how they are, end them in good order, and write the evidence."""
    for slot in stage.workers:
        await slot.ready()
    evidence = Evidence(
        seed=stage.seed, store=stage.store, suspended_ms=stage.suspended_ms, garbage=stage.garbage,
        workers=len(stage.workers), clients=CLIENTS_OF_A_PROCESS if stage.client else 0, fresh=fresh,
    )  # fmt: skip
    evidence.reports = {slot.process_name: await slot.report() for slot in stage.workers}
    evidence.exits |= stage.drains
    evidence.queues_quiet = await stage.queues()
    for slot in stage.workers:
        evidence.exits[slot.process_name] = await slot.close()
    if stage.client is not None:
        await stage.client.close()
    evidence.queues_after = await stage.queues()
    (stage.folder / "evidence.json").write_text(json.dumps(asdict(evidence)))
