"""Checks the store after every commit: I11, legal statuses, one end per item, counters, nothing after the end.

Only the runs that a batch touched are looked at, so the cost follows the batch and not the store.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import ITEM_TRANSITIONS, RUN_TRANSITIONS, RunStatus, WorkItemStatus
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.ports.key_value import Append, Batch, Clear, Delete, Enter, Key, Leave, Put
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.dead_letters import decode_letter
from floxide_amqp.testing.simulation import attribute_watch
from floxide_amqp.testing.simulation.attribute_watch import AttributeWatch
from floxide_amqp.testing.simulation.exercised import SOURCES, TIMERS, ExerciseWatch
from floxide_amqp.testing.simulation.kin_watch import LETTERS_OF_ANY, KinWatch, is_of_letters
from floxide_amqp.testing.simulation.limit_watch import LimitWatch
from floxide_amqp.testing.simulation.mirror import (
    PREFIX_LENGTH,
    Led,
    MirroredRun,
    Place,
    led_by_message,
    led_by_place,
    led_by_timer,
)
from floxide_amqp.testing.simulation.schedule_watch import ScheduleWatch
from floxide_amqp.testing.simulation.servers import SimulatedStore
from floxide_amqp.testing.simulation.signal_watch import SignalWatch
from floxide_amqp.testing.simulation.source_watch import SourceWatch
from floxide_amqp.testing.simulation.version_watch import VersionWatch

OVER = (RunStatus.COMPLETED, RunStatus.CANCELLED)
"""Statuses after which nothing of a run may change: a failed one may be resumed."""

OF_RUNS = {TimerKind.RESUME: "resume", TimerKind.UNDO: "undo"}
"""What timers of a whole run bring on."""

LETTERS = "letters"
"""Where the mirror of a run notes letters that are kept, as if that were an index."""

MAX_SHOWN = 20
"""Violations noted of one simulation; more say nothing new."""


class Watch:
    """Looks at every batch that a store applies.

    Args:
        server: The store's server, or all of them.

    Attributes:
        runs: What the store holds of each run.
        attributes: Checks what runs are listed under.
        kin: Knows what leads to items that wait for other runs.
        signals: Checks who waits for signals, and what values become of.
        limits: Checks who holds concurrency keys, and who waits for them.
        schedules: Checks what becomes of the occurrences of schedules.
        sources: Checks what becomes of the messages of sources.
        exercised: Counts what of each group of the language happens.
        deleted: Runs that were removed since they ended.
        outputs: What runs that completed had put out, also where they are deleted by now.
        on_start_over: Told that the store's content has gone back.
        on_item: Told which item of a run was written: its run, what it was before (None if it is new) and is now.
        on_status: Told which status a run has got.
    """

    def __init__(self, server: SimulatedStore) -> None:
        self._server = server
        self.runs: dict[str, MirroredRun] = {}
        self.deleted: set[str] = set()
        self.outputs: dict[str, list[bytes]] = {}
        self.on_start_over: Callable[[], None] = _nothing
        self.on_item: Callable[[str, WorkItem | None, WorkItem], None] = _nothing
        self.on_status: Callable[[str, RunStatus], None] = _nothing
        self._places: dict[Place, Led] = {}
        self.attributes = AttributeWatch(self._violated)
        self.exercised = ExerciseWatch()
        self.versions = VersionWatch(self._violated, self.exercised)
        self.kin = KinWatch(self.runs)
        self.signals = SignalWatch(self.runs, self.kin, self._violated)
        self.limits = LimitWatch(self.runs, self._violated)
        self.schedules = ScheduleWatch(self.runs, self._violated, self._scheduled)
        self.sources = SourceWatch(self._violated, self._sourced, server.story.now)
        server.listen(self.batch_applied, self.start_over)

    def start_over(self) -> None:
        """Look at the whole store: its content has changed without a batch."""
        self.on_start_over()
        self.deleted.clear()
        self.runs.clear()
        self._places.clear()
        self.signals.start_over()
        self.limits.start_over()
        self.schedules.start_over()
        self.sources.start_over()
        server = self._server
        self.versions.start_over(server.cells())
        for key, value, version in server.cells():
            self._take_cell(key, value, version)
        for name, entries in server.index_entries("in:").items():
            for entry, value in entries:
                self.signals.entered(name, entry)
                self.limits.entered(name, entry, value)
        for name, entries in server.index_entries("live:", "messages:", "owned:", "parked:", "timers").items():
            for entry, value in entries:
                self._enter(name, entry, value)
        indexes = server.index_entries(LETTERS_OF_ANY.partition(":")[0])
        self.kin.start_over({name: entries for name, entries in indexes.items() if is_of_letters(name)})
        lists = server.index_entries(attribute_watch.LISTS)
        self.attributes.start_over(
            [(key, value) for key, value, _ in server.cells()],
            [(name, entry) for name, entries in lists.items() for entry, _ in entries],
        )
        for run_id, run in self.runs.items():
            for line in server.log(keys.history(RunId(run_id)), slot_of(RunId(run_id))):
                found = codec.decode_history(line)
                run.ended[found.item_id] = found.status

    # --- one batch

    def batch_applied(self, batch: Batch) -> None:
        """Take a batch's writes over and check the runs they touch."""
        touched: dict[str, MirroredRun] = {}
        self.attributes.batch_applied(self._server.applied)
        self.exercised.batch_applied(self._server.applied)
        self.versions.batch_applied(self._server.applied)
        for writes in self._server.applied:
            for write in writes:
                if isinstance(write, Put):
                    self._put(write.key, write.value, touched)
                elif isinstance(write, Enter):
                    self._note(self._enter(write.index, write.entry, write.value), touched)
                elif isinstance(write, Leave):
                    self._note(self._leave(write.index, write.entry), touched)
                elif isinstance(write, Append):
                    self._append(write, touched)
                elif isinstance(write, Delete):
                    self._delete(write.key, touched)
                elif isinstance(write, Clear):  # of a run that is deleted, which nothing leads to any more
                    self.runs.pop(write.partition, None)
                    touched.pop(write.partition, None)
        for run in touched.values():
            self.check(run)
        self.signals.check_touched()

    def check(self, run: MirroredRun) -> None:
        """Check what must hold of a run after every commit."""
        if run.status is None or run.status in OVER or run.status is RunStatus.FAILED:
            return
        lost = run.unreachable()
        if lost:
            shown = ", ".join(f"{item.item_id} ({item.node}, {item.status.value})" for item in lost)
            self._violated(f"I11: nothing leads to {shown} of run {run.run_id}")
        if run.is_stuck:
            self._violated(f"I12: run {run.run_id} undoes what it did, and nothing brings it on")
        if run.status is not RunStatus.COMPENSATING:  # the item it failed with is counted until somebody resumes it
            self._check_counters(run)

    def _check_counters(self, run: MirroredRun) -> None:
        run_id = RunId(run.run_id)
        slot = slot_of(run_id)
        for name, expected in zip(("live", "waiting"), run.counts, strict=True):
            counted = self._server.counter(keys.count(run_id, name), slot)
            if counted != expected:
                self._violated(f"I3: run {run_id} counts {counted} {name} items, and has {expected}")

    # --- writes

    def _put(self, key: Key, value: bytes, touched: dict[str, MirroredRun]) -> None:
        name = key.name
        self.limits.put(key, value)
        self.schedules.put(key, value)
        self.sources.put(key, value)
        if key.partition in self.deleted and key != keys.tombstone(RunId(key.partition)):
            self._violated(f"I7: {name} of run {key.partition} was written although the run is deleted")
        if name.startswith("i:"):
            run = self._run(key.partition, touched)
            item_id = name[2:]
            item = codec.decode_item(value)
            self._check_item(run, item_id, run.items.get(item_id), item)
            self.exercised.item_written(run.items.get(item_id), item)
            self.on_item(run.run_id, run.items.get(item_id), item)
            run.put(item_id, item, run.turns.get(item_id, 0) + 1)
            self.signals.item_written(key.partition, item)
        elif name.startswith("d:"):
            self._put_letter(self._run(key.partition, touched), name[2:], value)
        elif name == "header":
            self.kin.header_written(value)
        elif name == "state":
            run = self._run(key.partition, touched)
            state = codec.decode_state(value)
            status, was = state.status, run.status
            if status is RunStatus.FAILED and was is not status and state.failure is not None:
                run.failures.append(state.failure.error)
            if was is not None and status is not was and status not in RUN_TRANSITIONS[was]:
                self._violated(f"run {run.run_id} went from {was.value} to {status.value}")
            if status is not was:
                self.on_status(run.run_id, status)
            for starters in (self.schedules, self.sources):
                starters.run_written(run.run_id, is_new=was is None)
            if status.is_terminal and (parent := self.kin.parent_of(run.run_id)) is not None:
                touched[parent.run_id] = parent
            if status is RunStatus.COMPLETED:
                name = keys.arrivals(RunId(run.run_id), "")
                found = self._server.index_entries(name).get(name, [])
                self.outputs[run.run_id] = [payload for _, payload in found]
            run.set_status(status)

    def _put_letter(self, run: MirroredRun, item_id: str, value: bytes) -> None:
        """A letter that is kept leads somebody to its item."""
        place = (LETTERS, f"{run.run_id}:{item_id}")
        if decode_letter(value).is_kept:
            run.lead(place, "parked", item_id, 0)
        else:
            run.leave(place)

    def _check_item(self, run: MirroredRun, item_id: str, old: WorkItem | None, new: WorkItem) -> None:
        who = f"item {item_id} ({new.node}) of run {run.run_id}"
        if bool(new.owner) != (new.status is WorkItemStatus.IN_PROGRESS):
            self._violated(f"{who} is {new.status.value} with owner {new.owner!r}")
        is_move = old is None or new.status is not old.status
        if run.status in OVER and is_move and new.status is not WorkItemStatus.IN_PROGRESS:
            self._violated(f"I7: {who} became {new.status.value} although the run is {run.status}")
        if old is None and run.status is RunStatus.PAUSED and new.status is WorkItemStatus.IN_PROGRESS:
            self._violated(f"I7: {who} was begun although the run is paused")
        if old is None:
            return
        if is_move and new.status not in ITEM_TRANSITIONS[old.status]:
            self._violated(f"I2: {who} went from {old.status.value} to {new.status.value}")
        if old.status is WorkItemStatus.COMPLETED:
            self._violated(f"I2: {who} was rewritten although it is completed")

    def _append(self, write: Append, touched: dict[str, MirroredRun]) -> None:
        run_id = write.log.partition
        if write.log == keys.context_log(RunId(run_id)):
            if self._run(run_id, touched).status in OVER:
                self._check_context_came_in_time(run_id)
        elif write.log == keys.history(RunId(run_id)):
            run = self._run(run_id, touched)
            for data in write.entries:
                entry = codec.decode_history(data)
                if entry.item_id in run.ended:
                    self._violated(f"I2: item {entry.item_id} ({entry.node}) of run {run_id} ended twice")
                run.ended[entry.item_id] = entry.status

    def _check_context_came_in_time(self, run_id: str) -> None:
        """The batch that ends a run may add to its context; a later one may not."""
        ends_here = any(
            isinstance(write, Put) and write.key == keys.state(RunId(run_id))
            for writes in self._server.applied
            for write in writes
        )
        if not ends_here:
            self._violated(f"I7: the context of run {run_id} grew although the run is {self.runs[run_id].status}")

    def _delete(self, key: Key, touched: dict[str, MirroredRun]) -> None:
        if key.name.startswith("i:") and key.partition in self.runs:
            run = self._run(key.partition, touched)
            run.remove(key.name[2:])
        elif key.name.startswith("d:") and key.partition in self.runs:
            self._run(key.partition, touched).leave((LETTERS, f"{key.partition}:{key.name[2:]}"))
        elif key.name == "state":
            self.deleted.add(key.partition)
            goes_on = any(run.status is not None and not run.status.is_terminal for run in self.runs.values())
            self._server.story.fault("run pruned beside others" if goes_on else "run pruned", key.partition)
            self.signals.forget(key.partition)
            self.runs.pop(key.partition, None)
            touched.pop(key.partition, None)

    def _enter(self, index: str, entry: str, value: bytes) -> str | None:
        kind, _, rest = index.partition(":")
        place = (index, entry)
        self.kin.entered(index, entry, value)
        self.signals.entered(index, entry)
        self.limits.entered(index, entry, value)
        if kind == "live":
            self._of(rest).list_item(entry, is_live=True)
            return rest
        if kind == "messages":
            led, way = led_by_message(value), "message"
        elif kind in ("owned", "parked"):
            led, way = led_by_place(entry), "owner" if kind == "owned" else "parked"
        elif kind.startswith(keys.TIMERS):
            led = led_by_timer(entry if index == keys.TIMERS else entry[PREFIX_LENGTH:], value)
            way = OF_RUNS.get(led.kind, "timer") if led.kind is not None else "timer"
        else:
            return None
        if led.item_id or way != "timer":
            self._of(led.run_id).lead(place, way, led.item_id, led.turn)
            self._places[place] = led
        return led.run_id

    def _leave(self, index: str, entry: str) -> str | None:
        if index.startswith("live:"):
            run_id = index[5:]
            if run_id in self.runs:
                self.runs[run_id].list_item(entry, is_live=False)
            return run_id
        self.signals.left(index, entry)
        waiting = self.kin.left(index, entry) or self.limits.left(index, entry)
        if waiting is not None:
            return waiting
        led = self._places.pop((index, entry), None)
        run = None if led is None else self.runs.get(led.run_id)
        if led is None or run is None:
            return None
        run.leave((index, entry))
        return led.run_id

    # --- small parts

    def _take_cell(self, key: Key, value: bytes, version: int) -> None:
        self.limits.put(key, value)
        self.schedules.put(key, value)
        self.sources.put(key, value)
        if key.name in (keys.tombstone(RunId(key.partition)).name, keys.state(RunId(key.partition)).name):
            self.schedules.run_written(key.partition, is_new=False)
            self.sources.run_written(key.partition, is_new=False)
        if key == keys.tombstone(RunId(key.partition)):
            self.deleted.add(key.partition)
        elif key.name.startswith("i:"):
            run = self._of(key.partition)
            item = codec.decode_item(value)
            run.put(key.name[2:], item, version)
            self.signals.item_written(key.partition, item)
        elif key.name.startswith("d:"):
            self._put_letter(self._of(key.partition), key.name[2:], value)
        elif key.name == "header":
            self.kin.header_written(value)
        elif key.name == "state":
            run = self._of(key.partition)
            run.status, run.epoch = codec.decode_state(value).status, version

    def _of(self, run_id: str) -> MirroredRun:
        run = self.runs.get(run_id)
        if run is None:
            called_back = functools.partial(self._is_called_back, run_id)
            run = self.runs[run_id] = MirroredRun(run_id, is_called_back=called_back)
        return run

    def _is_called_back(self, run_id: str, item: WorkItem) -> bool:
        watches = (self.kin.is_called_back, self.signals.is_listed, self.limits.is_listed)
        return any(is_listed(run_id, item) for is_listed in watches)

    def _run(self, run_id: str, touched: dict[str, MirroredRun]) -> MirroredRun:
        run = touched[run_id] = self._of(run_id)
        return run

    def _note(self, run_id: str | None, touched: dict[str, MirroredRun]) -> None:
        if run_id is not None and run_id in self.runs:
            touched[run_id] = self.runs[run_id]

    def _scheduled(self, run_id: str) -> None:
        self._server.story.fault("scheduled run", run_id)
        self.exercised.count(TIMERS, "runs of schedules")

    def _sourced(self, run_id: str) -> None:
        self._server.story.fault("source run", run_id)
        self.exercised.count(SOURCES, "messages that became runs")

    def _violated(self, what: str) -> None:
        if len(self._server.story.violations) < MAX_SHOWN:
            self._server.story.violation(what)


def _nothing(*_facts: object) -> None:
    """The default of what nobody asks about."""
