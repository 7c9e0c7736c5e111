"""A checkpoint: what a run goes on from. It is a view of the store, never written as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.stores.contexts import ContextStore
from floxide_amqp.stores.items import PAGE, ItemStore
from floxide_amqp.stores.runs import RunStore, StoredRun
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session

C = TypeVar("C", bound=Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Generic[C]):
    """A run's saved state: its record, its context, and the items that are not ended, with inputs as stored."""

    run: StoredRun
    context: C
    pending: tuple[WorkItem, ...]


class CheckpointStore:
    """Reads checkpoints."""

    def __init__(self, session: Session, contexts: ContextStore | None = None, sealing: Sealing = PLAIN) -> None:
        self._runs = RunStore(session, sealing)
        self._items = ItemStore(session, sealing)
        self._contexts = contexts or ContextStore(session)

    async def load(self, run_id: RunId, kind: type[C]) -> Checkpoint[C]:
        """Return a run's checkpoint.

        Raises:
            RunNotFoundError: There is no such run.
        """
        run = await self._runs.load(run_id)
        state, _ = await self._contexts.load(run.header, kind)
        pending: list[WorkItem] = []
        after = ""
        while True:
            page = await self._items.live(run_id, after=after)
            pending += [found.item for found in page]
            if len(page) < PAGE:
                break
            after = page[-1].item.item_id
        context: C = state.view("checkpoint")
        return Checkpoint(run=run, context=context, pending=tuple(pending))
