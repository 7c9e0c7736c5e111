"""What holds a chain: the message it came with, or an owner entry in the store once a step has run for long.

The message is acknowledged when the chain has ended, or as soon as the owner entry holds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from floxide_amqp.core import moves
from floxide_amqp.core.changes import Change
from floxide_amqp.core.decisions import Anchor, MessageAnchor, OwnerAnchor
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.place_changes import LeaveMessage, LeaveOwner
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Check, Conflict
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.writes import BatchWriter


class Anchorage:
    """Holds one chain, and lets its message go at the right moment.

    Args:
        services: The process's parts.
        delivery: The message, unacknowledged.
        envelope: What it says.
        on_long: Told when the message was acknowledged early, so that the slot stays taken without it.

    Attributes:
        anchor: What holds the chain now.
        must_release: Whether the message goes back at the end: its next delivery finds out what is left to do.
    """

    def __init__(
        self, services: Services, delivery: Delivery, envelope: Envelope, on_long: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._delivery = delivery
        self._run_id = envelope.run_id
        self._on_long = on_long
        self._is_acknowledged = False
        self.anchor: Anchor = MessageAnchor(envelope.queue, envelope.entry)
        self.must_release = False

    async def end(self) -> None:
        """Acknowledge the message, or give it back where something is left to do."""
        if self.must_release and not self._is_acknowledged:
            await self._delivery.release()
        else:
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """Take the message off its queue, once."""
        if not self._is_acknowledged:
            self._is_acknowledged = True
            await self._delivery.acknowledge()

    async def forget_message(self, message: MessageAnchor) -> None:
        """Take the entry of a message away, if it came with one."""
        if message.entry:
            await self._forget(LeaveMessage(message.queue, message.entry))

    async def forget(self, item_id: WorkItemId) -> None:
        """Take away what led to an item of a run that is over."""
        if isinstance(self.anchor, OwnerAnchor):
            await self._forget(LeaveOwner(self._services.name, item_id))
        else:
            await self.forget_message(self.anchor)

    async def move_to_store(self, admitted: Admitted) -> Admitted:
        """Put an owner entry in the message's place, and acknowledge the message; the step runs meanwhile.

        Returns:
            The item with its new turn; as it was, where somebody else has touched it.

        Raises:
            StoreError: The store did not take it, or did not say so; the message goes on holding the chain. After what
                `WAITED_FOR` names this may be repeated.
        """
        message = self.anchor
        if not isinstance(message, MessageAnchor):
            return admitted
        decision = moves.anchor(admitted.item, admitted.turn, self._services.name, message)
        outcome = await self._services.commit(admitted.run.writer, decision)
        if isinstance(outcome, Conflict):
            again = await self.look_again(admitted, outcome.check) if isinstance(outcome.check, Check) else None
            if again is None or not again.item.anchored:
                return admitted  # whoever touched the item is met at the commit
            owned, turn = again.item, again.turn  # another copy of the message has done it
        else:
            self.anchor = OwnerAnchor()
            owned, turn = decision.effects.keep or admitted.item, admitted.turn + 1
        await self.acknowledge()
        await self._on_long()
        return replace(admitted, item=owned, turn=turn)

    async def look_again(self, admitted: Admitted, check: Check) -> Admitted | None:
        """After a conflict: what the step stands on now, or None where its result is void."""
        services, run_id, item_id = self._services, admitted.run.header.run_id, admitted.item.item_id
        if check.key == keys.state(run_id):
            stored = await services.runs.find(run_id)
            if stored is None or stored.state.is_over_for(admitted.item):
                return None
            if stored.header.version != admitted.run.header.version:  # raised meanwhile: this graph is not the run's
                services.cache.forget(run_id)
                return None
            return replace(admitted, state=stored.state, epoch=stored.epoch)
        if check.key != keys.item(run_id, item_id):
            return None  # a scope around it was closed
        found = (await services.items.find(run_id, (item_id,)))[0]
        if found is None or found.turn == admitted.turn:
            return None
        if found.item.owner != services.name or found.item.status is not WorkItemStatus.IN_PROGRESS:
            return None
        if found.item.anchored:
            await self._let_message_go()
        return replace(admitted, item=found.item, turn=found.turn)

    async def _let_message_go(self) -> None:
        """Another copy of the message has put an owner entry in its place, which holds the chain from here on."""
        if isinstance(self.anchor, MessageAnchor):
            await self.forget_message(self.anchor)
        self.anchor = OwnerAnchor()  # not before: where the store is away, all this is done again

    async def _forget(self, change: Change) -> None:
        await self._services.session.commit(BatchWriter(self._run_id, 0).batch((), (change,)))
