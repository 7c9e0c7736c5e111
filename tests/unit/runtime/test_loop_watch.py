"""The watch over an event loop, look by look: what it says, and when it ends the process."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.runtime.inflight import CURRENT_STEP, InFlight, StepHandle
from floxide_amqp.runtime.loop_watch import LoopPulse, LoopWatch
from floxide_amqp.runtime.settings import EXIT_STUCK


class Bench:
    """A watch whose looks the test makes, over a loop whose ticks the test makes."""

    def __init__(
        self, logged: pytest.LogCaptureFixture, *, hung: float | None = 60.0, owns_process: bool = True
    ) -> None:
        self.logged = logged
        self.ended: list[int] = []
        self.inflight = InFlight()
        self.pulse = LoopPulse(1.0)
        self.pulse.ticks = 1
        self.watch = LoopWatch(
            self.pulse, "w", self.inflight, blocked_seconds=5.0, hung_seconds=hung, owns_process=owns_process,
            end_process=self.ended.append,
        )  # fmt: skip

    def look(self, times: int, elapsed: float = 1.0) -> list[tuple[str, dict[str, object]]]:
        """Look so often; return the events logged meanwhile, with their fields."""
        self.logged.clear()
        for _ in range(times):
            self.watch.look(elapsed)
        return [(vars(record)["floxide_event"], vars(record)["floxide"]) for record in self.logged.records]


@pytest.mark.fault(39)
def test_a_silent_loop_is_reported_once_and_ends_the_process_at_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog)
    ((event, _),) = bench.look(58)
    assert event == "loop.blocked"
    assert not bench.ended
    ((event, fields),) = bench.look(3)
    assert (event, fields["ends_process"]) == ("loop.hung", True)
    assert bench.ended == [EXIT_STUCK]
    assert bench.watch.is_hung


@pytest.mark.fault(39)
def test_a_process_that_is_not_the_workers_own_is_never_ended(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog, owns_process=False)
    bench.look(200)
    assert bench.watch.is_hung
    assert bench.ended == []


def test_without_a_limit_nothing_counts_as_hung(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog, hung=None)
    bench.look(10_000)
    assert not bench.watch.is_hung
    assert bench.ended == []


def test_a_loop_that_goes_on_is_reported_and_forgiven(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog, owns_process=False)
    bench.look(100)
    bench.pulse.ticks += 1
    ((event, fields),) = bench.look(1)
    assert (event, fields["seconds"]) == ("loop.moves_again", 99.0)
    assert (bench.watch.silent_seconds, bench.watch.is_hung) == (0.0, False)


@pytest.mark.fault(6)
def test_a_process_that_was_stopped_and_goes_on_is_not_taken_for_hung(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog)
    bench.look(3)
    bench.look(1, elapsed=3_600.0)  # SIGSTOP, an hour, SIGCONT: this thread looks before the loop has ticked
    bench.pulse.ticks += 1
    bench.look(1)
    assert bench.ended == []


def test_a_loop_that_has_not_begun_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog)
    bench.pulse.ticks = 0
    assert bench.look(1_000) == []


async def test_the_step_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog)
    handle = StepHandle(RunId("run"), WorkItemId("item"), "blocks")
    bench.inflight.add(handle)
    bench.pulse.loop = asyncio.get_running_loop()
    variables = contextvars.copy_context()
    variables.run(CURRENT_STEP.set, handle)

    async def block() -> list[tuple[str, dict[str, object]]]:
        handle.task = asyncio.current_task()
        return bench.look(7)

    ((event, fields),) = await asyncio.create_task(block(), context=variables)
    assert (event, fields["node"], fields["run_id"], fields["item_id"]) == ("loop.blocked", "blocks", "run", "item")


async def test_the_stack_shows_what_the_loops_thread_is_doing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(caplog)
    ticking = asyncio.create_task(bench.pulse.run(lambda: None))
    await asyncio.sleep(0)
    assert "test_the_stack_shows_what" in bench.pulse.stack()
    ticking.cancel()
