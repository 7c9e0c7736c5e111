"""The orchestrator's part for messages that the broker gave up on, and for those that nobody could read."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.runtime import dead_letter_actions, queries, views
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.sources import opened


class Salvaging:
    """What an `Orchestrator` does about dead letters and quarantined messages: list them, requeue them, drop them."""

    services: Services

    async def dead_letters(self, *, after: str = "", limit: int = 100) -> Sequence[views.DeadLetterInfo]:
        """Return messages that the broker gave up on while an item waits for them, and those nobody could read.

        Args:
            after: Id of the last one seen; they come oldest first.
            limit: How many at most, 1 to 1,000.
        """
        limit = max(1, min(limit, queries.MAX_PAGE))
        return await dead_letter_actions.list_letters(self.services, after=after, limit=limit)

    async def dead_letter(self, letter_id: str) -> views.DeadLetterInfo:
        """Return one dead letter.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
        """
        return await dead_letter_actions.show_letter(self.services, letter_id)

    async def requeue_dead_letter(self, letter_id: str) -> None:
        """Put the item of a dead letter on its way again; an unreadable message is published as it is.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
            InvalidRunStateError: Its run is over.
            BrokerUnavailableError: An unreadable message could not be published; it stays where it is.
        """
        await dead_letter_actions.requeue_letter(self.services, letter_id)

    async def drop_dead_letter(self, letter_id: str) -> None:
        """Give the item of a dead letter up: it fails with `DeadLetterError`; an unreadable message is deleted.

        The failure takes the item's fallback edge, or fails the run.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
            UnknownWorkflowError: This application lacks the run's workflow, which says what follows from a failure.
        """
        await dead_letter_actions.drop_letter(self.services, letter_id)

    async def quarantine(self, *, after: str = "", limit: int = 100) -> Sequence[Quarantined]:
        """Return messages nobody could read, oldest first, with their reasons; of long ones only the beginning."""
        return await self.services.quarantine.list(after=after, limit=limit)

    async def quarantined(self, quarantine_id: str) -> Quarantined | None:
        """Return a message nobody could read with all that is kept of it, or None where there is none of this id."""
        found = await self.services.quarantine.find(quarantine_id)
        return None if found is None else opened(self.services, found)
