"""Lets an item on which workers have died run with nothing beside it.

A process that dies takes everything with it that it has at work, and whose fault it was cannot be seen from outside.
So an item is only condemned for deaths that happened while it was alone: the others are let finish, new ones wait at
the door, and the claim that is written then says so. One that takes long is not waited for for ever: it says in the
store that it has company from now on, and the door opens.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from floxide_amqp.core.ids import RunId, WorkItemId

Place: TypeAlias = tuple[RunId, WorkItemId]


class Solitude:
    """The chains at work in one process, and the one item that wants to be alone among them."""

    def __init__(self) -> None:
        self._at_work = 0
        self._suspect: Place | None = None
        self._is_closed = False
        self._changed = asyncio.Event()

    def at_work(self) -> Solitude:
        """Work a delivery off inside the block; entering waits while somebody is alone. Safe to cancel."""
        return self

    async def __aenter__(self) -> None:
        while self._is_closed:
            await self._changed.wait()
        self._at_work += 1

    async def __aexit__(self, *_: object) -> None:
        self._at_work -= 1
        if self._is_closed:  # only then does anybody wait
            self._tell()

    def suspect(self, run_id: RunId, item_id: WorkItemId) -> bool:
        """Note the one suspect of this process; False while there is another. `let_go` must follow."""
        if self._suspect is not None:
            return False
        self._suspect = (run_id, item_id)
        return True

    async def alone(self, within_seconds: float) -> bool:
        """Let nobody else begin and wait until the suspect's chain is the only one; return whether it is.

        Args:
            within_seconds: How long to wait; then the others may begin again.
        """
        self._is_closed = True
        try:
            async with asyncio.timeout(within_seconds):
                while self._at_work > 1:
                    await self._changed.wait()
        except TimeoutError:
            self.have_company()
            return False
        except BaseException:
            self.have_company()
            raise
        return True

    def have_company(self) -> None:
        """Others may begin beside the suspect, and another may be the suspect: no death counts for this one now."""
        self._suspect = None
        self._is_closed = False
        self._tell()

    def let_go(self, run_id: RunId, item_id: WorkItemId) -> None:
        """The suspect is no longer at work; of another item this does nothing."""
        if self._suspect == (run_id, item_id):
            self.have_company()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
