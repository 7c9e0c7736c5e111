"""I16, checked after every commit: each occurrence of a schedule is decided on once, and its run begins, alone.

Whoever passes an occurrence says what became of it; a run that was decided on is there before it is forgotten; and
where runs are not to overlap, none begins beside another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from floxide_amqp.core.schedules import MAX_PASSED, Occasion, Overlap, ScheduleSpec, ScheduleState, run_id_at
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores import schedule_keys
from floxide_amqp.stores.schedules import decode_progress, decode_spec
from floxide_amqp.testing.simulation.mirror import MirroredRun

TRIGGERED = "@trigger-"
"""What stands in the ids of runs that somebody triggered: they begin whatever runs."""


class ScheduleWatch:
    """Follows the schedules.

    Args:
        runs: What the store holds of each run.
        violated: Told what does not hold.
        began: Told of each run of a schedule that begins.
    """

    def __init__(
        self, runs: Mapping[str, MirroredRun], violated: Callable[[str], None], began: Callable[[str], None]
    ) -> None:
        self._runs = runs
        self._violated = violated
        self._began = began
        self.start_over()

    def start_over(self) -> None:
        """Forget everything: what the store holds is told anew."""
        self._specs: dict[str, ScheduleSpec] = {}
        self._states: dict[str, ScheduleState] = {}
        self._planned: set[str] = set()
        self._seen: set[str] = set()

    def put(self, key: Key, value: bytes) -> None:
        """A cell was written."""
        name = schedule_keys.schedule_of(key.partition)
        if name is None:
            return
        if key == schedule_keys.schedule_spec(name):
            self._specs[name] = decode_spec(value)
        elif key == schedule_keys.schedule_state(name):
            before, self._states[name] = self._states.get(name), decode_progress(value)
            if before is not None and name in self._specs:
                self._check(self._specs[name], before, self._states[name])

    def run_written(self, run_id: str, *, is_new: bool) -> None:
        """The state of a run was written."""
        name = run_id.partition("@")[0]
        self._seen.add(run_id)
        if not is_new or name not in self._states or "@" not in run_id:
            return
        self._began(run_id)
        if self._specs[name].overlap is not Overlap.ALLOW and TRIGGERED not in run_id:
            for other in self._open(name):
                if other != run_id and TRIGGERED not in other:
                    self._violated(f"I16: run {run_id} begins beside {other}")

    def settled_until(self, name: str) -> int:
        """Return the last occurrence of a schedule that was decided on; 0 for none."""
        state = self._states.get(name)
        return 0 if state is None else state.last_ms

    def unsettled(self, name: str) -> list[str]:
        """Return the runs of a schedule that are not over, or were decided on and are not there."""
        return sorted({*self._open(name), *(each for each in self._planned if each not in self._seen)})

    def lost(self) -> list[str]:
        """Return the runs that were decided on and never began."""
        return sorted(self._planned - self._seen)

    def _open(self, name: str) -> list[str]:
        return [
            run.run_id
            for run in self._runs.values()
            if run.run_id.startswith(f"{name}@") and run.status is not None and not run.status.is_terminal
        ]

    def _check(self, spec: ScheduleSpec, before: ScheduleState, after: ScheduleState) -> None:
        known = {each.run_id for each in before.recent}
        new = [each for each in after.recent if each.run_id and each.run_id not in known]
        for each in new:
            if each.run_id in self._planned:
                self._violated(f"I16: run {each.run_id} was decided on twice")
            if each.occasion is Occasion.STARTED and each.run_id != run_id_at(spec.name, each.at_ms):
                self._violated(f"I16: run {each.run_id} is called after no occurrence")
            self._planned.add(each.run_id)
        still = {each.run_id for each in after.starting}
        for planned in before.starting:
            if planned.run_id not in still and planned.run_id not in self._seen:
                self._violated(f"I16: run {planned.run_id} was forgotten before it began")
        if after.next_ms != before.next_ms and not (before.paused and not after.paused):
            self._check_passed(spec, before, after, sum(each.occasion is Occasion.TRIGGERED for each in new))

    def _check_passed(self, spec: ScheduleSpec, before: ScheduleState, after: ScheduleState, triggered: int) -> None:
        passed = (after.next_ms - before.next_ms) // spec.every_ms
        settled = sum(
            getattr(after, what) - getattr(before, what) for what in ("started", "skipped", "missed")
        ) + len(after.queue) - len(before.queue) - triggered  # fmt: skip
        if passed != settled and after.missed - before.missed < MAX_PASSED:  # more of them are not counted
            self._violated(f"I16: schedule {spec.name} passed {passed} occurrences and says what became of {settled}")
