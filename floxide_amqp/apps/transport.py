"""What carries an application's messages: a broker, or where it has none the process itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from floxide_amqp.apps.absent import AbsentControlBus, AbsentWorkQueue, BrokerUse
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.dead_letters import AmqpDeadLetterQueue
from floxide_amqp.drivers.amqp.message_source import AmqpMessageSource
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.source_topology import SourceBinding, SourceTopology
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.exceptions import BrokerError
from floxide_amqp.ports.control import ControlBus
from floxide_amqp.ports.health import ConnectionHealth
from floxide_amqp.ports.message_source import MessageSource
from floxide_amqp.ports.work_queue import WorkQueue
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.services import DeclaredSource


@dataclass(frozen=True, slots=True)
class InProcess:
    """What all workers and orchestrators of an application without a broker share."""

    queue: WorkQueue = field(default_factory=MemoryWorkQueue)
    bus: ControlBus = field(default_factory=MemoryControlBus)


@dataclass(frozen=True, slots=True)
class Transport:
    """Opens what carries messages, for one worker or orchestrator.

    Attributes:
        broker: The broker's URL; None where there is none.
        in_process: What takes its place then.
        namespace: First word of every exchange and queue name.
        settings: Deadlines and security of its connections.
    """

    broker: str | None
    in_process: InProcess | None
    namespace: str
    settings: AmqpSettings

    async def open(self, stack: AsyncExitStack, use: BrokerUse) -> tuple[WorkQueue, ControlBus]:
        """Return the work queue and the control bus, which are closed with the stack.

        Raises:
            BrokerError: The broker cannot be reached, and is needed.
        """
        if self.in_process is not None:
            return self.in_process.queue, self.in_process.bus
        if use is BrokerUse.NONE:
            return AbsentWorkQueue(), AbsentControlBus()
        try:
            queue = await stack.enter_async_context(
                AmqpWorkQueue(str(self.broker), namespace=self.namespace, settings=self.settings)
            )
            bus = await stack.enter_async_context(
                AmqpControlBus(str(self.broker), namespace=self.namespace, settings=self.settings)
            )
        except BrokerError as error:
            if use is BrokerUse.NEEDED:
                raise
            return AbsentWorkQueue(), AbsentControlBus(str(getattr(error, "reason", "") or error))
        return queue, bus

    def dead_letters(self) -> AmqpDeadLetterQueue | None:
        """Return where the broker puts what it gives up on; the in-process queue gives nothing up."""
        if self.broker is None:
            return None
        return AmqpDeadLetterQueue(self.broker, namespace=self.namespace, settings=self.settings)

    def message_sources(self, sources: Iterable[DeclaredSource]) -> Mapping[str, MessageSource]:
        """Return where the messages of sources come from; without a broker only of those that name their own."""
        found = dict[str, MessageSource]()
        for source in sources:
            if isinstance(source, AmqpSource) and (url := source.broker or self.broker) is not None:
                topology = source_topology(source)
                found[source.name] = AmqpMessageSource(url, topology, namespace=self.namespace, settings=self.settings)
        return found


def source_topology(source: AmqpSource[Any]) -> SourceTopology:
    """Return what a source says of its queue, in the driver's words."""
    bindings = tuple(
        SourceBinding(exchange=each.exchange, routing_key=each.routing_key, declare=each.declare)
        for each in source.bindings
    )
    return SourceTopology(queue=source.queue, declare=source.declare, arguments=source.arguments, bindings=bindings)


def connections_of(*parts: object) -> Sequence[ConnectionHealth]:
    """Return how the connections of the broker's drivers are; the in-process ones have none."""
    found: list[ConnectionHealth] = []
    for part in parts:
        if isinstance(part, AmqpWorkQueue | AmqpControlBus | AmqpDeadLetterQueue):
            found += part.health()
    return found
