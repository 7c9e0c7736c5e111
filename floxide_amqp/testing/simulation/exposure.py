"""Which nodes ran while something befell their worker, and which only ever ran in peace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.transition import Transition
from floxide_amqp.exceptions import ResourceNotFoundError
from floxide_amqp.runtime.interceptors import Interceptor, StepCall
from floxide_amqp.testing.simulation.loop import CURRENT
from floxide_amqp.testing.simulation.tale import Tale

DISTURBS = frozenset(
    {
        "crash", "cut from the broker", "cut from the store", "freeze", "full disk", "graceful stop", "hung loop",
        "lost reply", "name lost", "slow store", "store out of reach", "store refused", "zombie",
    }
)  # fmt: skip
"""Faults that befall whatever their worker has in hand: after any of them its body may run once more."""


class Exposure(Interceptor):
    """Stands around every body: notes where it runs, and what befalls its worker before it is committed.

    Args:
        tale: Who runs what is told there.

    Attributes:
        disturbed: Nodes that ran under a fault: between the beginning of a body and its commit.
        bodies: Every body that began: its run, item and node.
        missing: What a node asked for and nobody gave it.
    """

    def __init__(self, tale: Tale) -> None:
        self._tale = tale
        self._in_hand: dict[tuple[str, str], tuple[str, str]] = {}
        self.turn_of: Callable[[str, str], int] = _unknown
        self.disturbed: set[str] = set()
        self.bodies: set[tuple[str, str, str]] = set()
        self.missing: ResourceNotFoundError | None = None

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Note who runs what."""
        lane = CURRENT.get()
        who = "somebody" if lane is None else lane.name
        self._in_hand[call.run_id, call.item_id] = (who, call.node)
        self.bodies.add((call.run_id, call.item_id, call.node))
        about = f"{call.node} of {call.run_id}"
        self._tale.say(f"{who} runs {about} (turn {self.turn_of(call.run_id, call.item_id)})")
        try:
            return await proceed()
        except ResourceNotFoundError as error:
            self.missing = self.missing or error
            raise
        except Exception as error:
            self._tale.say(f"{about} raises {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            raise

    def item_written(self, run_id: str, item: WorkItem) -> None:
        """An item was committed: unless it is at work, nobody has it in hand any more."""
        if item.status is not WorkItemStatus.IN_PROGRESS:
            self._in_hand.pop((run_id, item.item_id), None)

    def befell(self, kind: str, who: str) -> None:
        """A fault befell somebody."""
        if kind in DISTURBS:
            self.disturbed.update(node for worker, node in self._in_hand.values() if worker == who)


def _unknown(_run_id: str, _item_id: str) -> int:
    """The default of `Exposure.turn_of`."""
    return 1
