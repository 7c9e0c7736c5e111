"""A source from an async iterator that can be resumed, as an application declares it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, Final, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.sources import SourceSpec, check_source_name, source_run_id
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError, UnusableMessageError
from floxide_amqp.runtime.amqp_source import DEFAULT_BATCH, DEFAULT_OPEN_RUNS, MOST_OPEN_RUNS
from floxide_amqp.runtime.registry import graph_of

InT = TypeVar("InT")
P = TypeVar("P", str, int)

DEFAULT_AGAIN: Final = timedelta(seconds=5)
"""Pause before an iterator that has ended is begun again: somebody may have added something."""


@dataclass(frozen=True, slots=True)
class IteratorSource(Generic[InT, P]):
    """Each item of an async iterator is one run, and the iterator goes on where it was, whoever dies.

        async def orders(after: int | None) -> AsyncIterator[tuple[int, Order]]:
            async for row in database.execute("SELECT * FROM orders WHERE id > ? ORDER BY id", after or 0):
                yield row.id, Order(row.item)

        IteratorSource("orders", OrderProcessing, orders)

    One process at a time has the iterator. A position is recorded once the runs up to it are, so that after a crash
    some items come again: their runs have the same ids, and are found to be there.

    Attributes:
        name: Its name, 1 to 100 printable characters without a colon; its runs' ids begin with it.
        workflow: The workflow whose runs it starts.
        items: Returns the items behind a position, each with its own; behind None all of them. It is called again from
            the last position when the iterator has ended or failed, and in another process when this one has died.
        key: What tells an item from all others; by default its position.
        context: Makes the run's initial context of its input; None where every field has a default.
        attributes: Makes the run's attributes of its input.
        again_after: Pause after the iterator has ended, `timedelta` or seconds, more than 0.
        max_open_runs: How many runs of the source may be not over, about; the iterator is not asked for more meanwhile.
            1 to 100,000; None for any number.
        rate: Runs started per second at most; None for as many as can be.
        batch: Runs started together at most, 1 to 1,000.
        run_by_workers: Whether the workers of the application run it; else ``floxide sources run`` does.

    Raises:
        DefinitionError: Something of it cannot be.
    """

    name: str
    workflow: type[WorkflowDefinition[InT, Any, Any]]
    items: Callable[[P | None], AsyncIterator[tuple[P, InT]]]
    _: KW_ONLY
    key: Callable[[InT], str] | None = None
    context: Callable[[InT], Context] | None = None
    attributes: Callable[[InT], Attributes] | None = None
    again_after: timedelta | float = DEFAULT_AGAIN
    max_open_runs: int | None = DEFAULT_OPEN_RUNS
    rate: float | None = None
    batch: int = DEFAULT_BATCH
    run_by_workers: bool = True

    def __post_init__(self) -> None:
        check_source_name(self.name)
        for what, given in (("rate", self.rate), ("again_after", self.again_seconds)):
            if given is not None and not (math.isfinite(given) and given > 0):
                raise DefinitionError(f"Source {self.name!r}: {what}={given!r} has to be more than 0.")
        for what, number, most in (("max_open_runs", self.max_open_runs, MOST_OPEN_RUNS), ("batch", self.batch, 1_000)):
            if number is not None and not 1 <= number <= most:
                raise DefinitionError(f"Source {self.name!r}: {what}={number!r} has to be from 1 to {most:,}.")

    @property
    def again_seconds(self) -> float:
        """The pause after the iterator has ended, seconds."""
        again = self.again_after
        return again.total_seconds() if isinstance(again, timedelta) else float(again)

    @property
    def spec(self) -> SourceSpec:
        """What is kept of it in the store."""
        graph = graph_of(self.workflow)
        origin = f"iterator {getattr(self.items, '__qualname__', type(self.items).__name__)}"
        return SourceSpec(
            name=self.name, kind="iterator", workflow=graph.workflow, version=graph.version, origin=origin
        )  # fmt: skip

    def run_id(self, position: P, item: InT) -> RunId:
        """Return the id of an item's run.

        Raises:
            UnusableMessageError: It has no key.
        """
        made = cast("object", str(position) if self.key is None else self.key(item))
        key = made if isinstance(made, str) else ""
        if not key:
            raise UnusableMessageError(
                problem=f"The item at position {position!r:.60} has no key: key=... made {made!r:.60} of it",
                cure="It has to return a text for each item",
            )
        return source_run_id(self.name, key)
