"""The steps in a worker's hands, so that a cancel finds them and a heartbeat can name them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from floxide_amqp.core.compensation import is_undoing
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import WorkItem

if TYPE_CHECKING:
    from floxide_amqp.runtime.pace import Start


class StepHandle:
    """One step at work: how others reach it.

    Attributes:
        attempt, lost: Of the item.
        is_interrupted: Whether the run was cancelled, failed or is over.
        since: When it began, by the event loop's clock.
        body_due: When its body should have ended, by the same clock; None while it may take its time.
        on_interrupt: Called once its task has been cancelled.
        start: When its body may start, where a rate limit says so.
    """

    __slots__ = (
        "_event", "attempt", "body_due", "is_interrupted", "item_id", "lost", "node", "on_interrupt", "run_id",
        "since", "start", "task",
    )  # fmt: skip

    def __init__(self, run_id: RunId, item_id: WorkItemId, node: str, *, attempt: int = 0, lost: int = 0) -> None:
        self.run_id = run_id
        self.item_id = item_id
        self.node = node
        self.attempt = attempt
        self.lost = lost
        self.is_interrupted = False
        self.since = asyncio.get_running_loop().time()
        self.body_due: float | None = None
        self.task: asyncio.Task[object] | None = None
        self.on_interrupt: Callable[[], object] | None = None
        self.start: Start | None = None
        self._event: asyncio.Event | None = None

    def tell(self) -> None:
        """Set the node's flag, and let it end by itself."""
        self.is_interrupted = True
        if self._event is not None:
            self._event.set()

    def interrupt(self) -> None:
        """Tell the node to stop: its flag is set, and an async body gets a CancelledError."""
        if self.is_interrupted:
            return
        self.tell()
        if self.task is not None:
            self.task.cancel()
        self.body_due = asyncio.get_running_loop().time()
        if self.on_interrupt is not None:
            self.on_interrupt()

    async def wait_interrupted(self) -> None:
        """Return when the step is interrupted."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.is_interrupted:
                self._event.set()
        await self._event.wait()


CURRENT_STEP: contextvars.ContextVar[StepHandle | None] = contextvars.ContextVar("floxide_step", default=None)
"""The step whose body this is, also in the tasks it starts."""


class InFlight:
    """All steps at work in this process.

    Attributes:
        left_behind: Steps that are over though their bodies are not: they heed no cancellation.
    """

    def __init__(self) -> None:
        self._by_run: dict[RunId, dict[StepHandle, None]] = {}
        self._reserved: dict[tuple[RunId, WorkItemId], int] = {}
        self.left_behind: dict[StepHandle, None] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_run.values()))

    def __iter__(self) -> Iterator[StepHandle]:
        for steps in list(self._by_run.values()):
            yield from list(steps)

    def add(self, handle: StepHandle) -> None:
        """Note a step; two copies of a message may make two of one item."""
        steps = self._by_run.get(handle.run_id)
        if steps is None:
            self._by_run[handle.run_id] = {handle: None}
        else:
            steps[handle] = None

    def remove(self, handle: StepHandle) -> None:
        """Forget a step."""
        steps = self._by_run.get(handle.run_id)
        if steps is not None:
            steps.pop(handle, None)
            if not steps:
                del self._by_run[handle.run_id]

    def has(self, run_id: RunId, item_id: WorkItemId) -> bool:
        """Whether this item is at work here, or about to be."""
        at_work = (step.item_id for step in self._by_run.get(run_id, ()))
        return (run_id, item_id) in self._reserved or item_id in at_work

    def works_on(self, run_id: RunId, item: WorkItem) -> bool:
        """Whether this very try of an item is at work here, or about to be: not one that was given up."""
        item_id = item.item_id
        if (run_id, item_id) in self._reserved:
            return True
        for step in self._by_run.get(run_id, ()):  # every item of a fan-out asks, past all others of it at work here
            if step.item_id == item_id and (step.attempt, step.lost) == (item.attempt, item.lost):
                return True
        return False

    def reserved(self, run_id: RunId, item_id: WorkItemId | None) -> Reservation:
        """Note, while the block lasts, that an item is being claimed here and will be at work at once.

        Several chains may reserve the same item: each of those that may bring a scope to zero does so for its join.
        Nothing may be awaited between the block's end and the step's beginning.
        """
        return Reservation(self._reserved, None if item_id is None else (run_id, item_id))

    def step_of(self, task: asyncio.Task[object] | None) -> StepHandle | None:
        """Return the step whose body a task runs; None where that cannot be told. Another thread may ask."""
        if task is None:
            return None
        get_context: Callable[[], contextvars.Context] | None = getattr(task, "get_context", None)  # Python 3.12
        if get_context is not None:
            return get_context().get(CURRENT_STEP)
        return next((step for step in (*self, *self.left_behind) if step.task is task), None)

    def interrupt(self, run_id: RunId, *, but_undoing: bool = False) -> int:
        """Interrupt every step of a run, or all but those that undo others; return how many."""
        steps = [step for step in self._by_run.get(run_id, ()) if not (but_undoing and is_undoing(step.node))]
        for step in steps:
            step.interrupt()
        return len(steps)

    def interrupt_items(self, run_id: RunId, item_ids: Collection[WorkItemId]) -> None:
        """Interrupt the steps of some items of a run."""
        wanted = frozenset(item_ids)
        for step in list(self._by_run.get(run_id, ())):
            if step.item_id in wanted:
                step.interrupt()

    def items(self, run_id: RunId) -> list[WorkItemId]:
        """The items of a run that are at work."""
        return [step.item_id for step in self._by_run.get(run_id, ())]

    def runs(self) -> tuple[RunId, ...]:
        """The runs with steps at work."""
        return tuple(self._by_run)


class Reservation:
    """One item reserved while a block lasts; nothing where it has none."""

    __slots__ = ("_counts", "_place")

    def __init__(self, counts: dict[tuple[RunId, WorkItemId], int], place: tuple[RunId, WorkItemId] | None) -> None:
        self._counts = counts
        self._place = place

    def __enter__(self) -> None:
        if self._place is not None:
            self._counts[self._place] = self._counts.get(self._place, 0) + 1

    def __exit__(self, *_: object) -> None:
        if self._place is not None and (left := self._counts.pop(self._place) - 1):
            self._counts[self._place] = left
