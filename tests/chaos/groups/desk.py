"""What deeds are done with: an orchestrator, a journal, and the patience of users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from floxide_amqp import Floxide, FloxideError, Orchestrator, RunError, RunStatus

T = TypeVar("T")

AGAIN_SECONDS = 0.5
LOOK_SECONDS = 0.1

FINAL: tuple[type[FloxideError], ...] = (RunError,)
"""What a run says of itself: asking again gets the same answer."""


class Journal(Protocol):
    """Where a client writes what it intends and what it has been told, line by line."""

    def write(self, *lines: str) -> None: ...


@dataclass(frozen=True)
class Desk:
    """What a deed is done with.

    Attributes:
        app: The application, for clients of its own kind.
        broker: Its broker's URL, for those who send messages of their own; None for none.
    """

    orchestrator: Orchestrator
    app: Floxide
    journal: Journal
    seed: int
    broker: str | None = None

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer: broker and store may be away.

        Raises:
            RunError: What the answer is.
        """
        while True:
            try:
                return await call()
            except FINAL:
                raise
            except FloxideError as error:
                self.tell("refused", "-", f"{type(error).__name__} {error}")
                await asyncio.sleep(AGAIN_SECONDS)

    def tell(self, word: str, run_id: str, what: object = None) -> None:
        """Write down what was done or heard of a run."""
        self.journal.write(f"{word} {run_id} {json.dumps(what)}")

    async def start(self, workflow: Any, input: Any, run_id: str, **options: Any) -> Any:
        """Start a run, and write down that it is."""
        handle = await self.ask(lambda: self.orchestrator.start(workflow, input, run_id=run_id, **options))
        self.journal.write(f"started {run_id}")
        return handle

    async def end_of(self, run_id: str) -> RunStatus:
        """Wait for a run's end."""
        status = await self.ask(lambda: self.orchestrator.wait(run_id))
        self.tell("ended", run_id, status.value)
        return status

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something can be seen."""
        while not await self.ask(holds):  # noqa: ASYNC110 - others make it so
            await asyncio.sleep(LOOK_SECONDS)

    async def is_over(self, run_id: str) -> bool:
        """Whether a run has ended."""
        return (await self.orchestrator.status(run_id)).is_terminal


@dataclass(frozen=True)
class Group:
    """One group: its number among the eleven, what its workers run, and what a client does.

    Attributes:
        kinds: What is done in turn.
        close: What is done when the faults are over, so that the group comes to an end.
    """

    number: int
    name: str
    kinds: Sequence[str]
    workflows: Sequence[Any]
    deed: Callable[[Desk, str, int], Awaitable[None]]
    close: Callable[[Desk], Awaitable[None]] | None = None

    async def do(self, desk: Desk, number: int) -> None:
        """Do the deed of a number."""
        await self.deed(desk, self.kinds[number % len(self.kinds)], number)


Groups = Mapping[str, Group]
