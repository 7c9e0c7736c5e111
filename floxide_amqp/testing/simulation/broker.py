"""The simulated broker: task queues that lose, repeat, delay and reorder messages, and connections that break.

It promises what a broker does, no more: a confirmed message was in a queue for a moment. What a consumer holds when
its connection breaks comes back as redelivered, and settling it over the broken connection does nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.testing.simulation.loop import SeededLoop, context_of
from floxide_amqp.testing.simulation.story import Story

DEAD_LETTERS = "dead letters"
"""The queue of the messages that were given up."""

REASONS = ("expired", "maxlen", "rejected")
"""Why a message is given up that did not come back too often."""


@dataclass(kw_only=True)
class BrokerWeather:
    """How the broker behaves right now; shares are of the messages, 0 to 1.

    Attributes:
        latency: Longest time one way, in seconds.
        dropped: Messages confirmed and then lost.
        duplicated: Messages that are in the queue `copies` times.
        copies: How often a duplicated message is there.
        delayed: Messages that take up to `longest_delay` seconds to their queue, though confirmed at once.
        shuffled: Messages that go to a place in their queue drawn by chance.
        is_lifo: Whether the message that came last is delivered first.
        unconfirmed: Messages whose confirm is lost.
        returned: Messages that find no queue.
        refused: Messages that the broker refuses.
        given_up: Messages that are confirmed and then given up: they go to the dead letters.
        delivery_limit: How often a message may come back before it is given up; 0 for as often as it likes.
        is_blocked: Whether publishers must wait.
        is_away: Whether the broker can be reached by nobody.
    """

    latency: float = 0.002
    dropped: float = 0.0
    duplicated: float = 0.0
    copies: int = 2
    delayed: float = 0.0
    longest_delay: float = 3.0
    shuffled: float = 0.0
    is_lifo: bool = False
    unconfirmed: float = 0.0
    returned: float = 0.0
    refused: float = 0.0
    given_up: float = 0.0
    delivery_limit: int = 0
    is_blocked: bool = False
    is_away: bool = False


@dataclass(slots=True)
class Parcel:
    """One copy of a message in a queue.

    Attributes:
        redelivered: Whether it was delivered before.
        returns: How often it came back.
        was_in: The queue that gave it up; empty of one that is alive.
        reason: Why, in the broker's word.
    """

    body: bytes
    redelivered: bool = False
    returns: int = 0
    was_in: str = ""
    reason: str = ""


class Receiver(Protocol):
    """The client's end of a connection on which messages are delivered."""

    def deliver(self, tag: int, queue: str, parcel: Parcel) -> None:
        """Take a message; not more than the prefetch at a time."""
        ...

    def disconnected(self) -> None:
        """The connection broke: what it delivered is void."""
        ...


class Channel:
    """The broker's end of one consumer's connection."""

    def __init__(self, who: str, queues: Iterable[str], prefetch: int, receiver: Receiver) -> None:
        self.who = who
        self.queues = deque(dict.fromkeys(queues))
        self.prefetch = prefetch
        self.receiver = receiver
        self.held: dict[int, tuple[str, Parcel]] = {}
        self.takes_more = True

    @property
    def has_room(self) -> bool:
        """Whether it takes another message."""
        return self.takes_more and len(self.held) < self.prefetch


class BrokerServer:
    """Task queues, and who consumes from them.

    Args:
        loop: The simulation's loop.
        chance: Draws what goes wrong.
        story: What happens is noted there.

    Attributes:
        on_delivery: Told of every message's bytes when it is handed to a consumer.
        on_publish: Told who publishes which bytes, and when they were sent.
        on_acknowledged: Told who takes which bytes off their queue, and when they said so.
        on_outcomes: Told who hears what of messages that it published.
        foreign: Queues of somebody else's, which the engine must not take for its own; nothing is given up there.
    """

    def __init__(self, loop: SeededLoop, chance: random.Random, story: Story) -> None:
        self.loop = loop
        self.chance = chance
        self.story = story
        self.weather = BrokerWeather()
        self.on_delivery: Callable[[bytes], None] = _ignore
        self.on_publish: Callable[[str, bytes, float], None] = _ignore
        self.on_acknowledged: Callable[[str, bytes, float], None] = _ignore
        self.on_outcomes: Callable[[str, Sequence[Message], Sequence[PublishOutcome]], None] = _ignore
        self.foreign: set[str] = set()
        self.queues: dict[str, deque[Parcel]] = {}
        self.late = 0
        self.published = 0
        self.delivered = 0
        self._channels: deque[Channel] = deque()
        self._tags = 0
        self._context = context_of(None)

    # --- publishing

    def publish(self, who: str, message: Message, sent_at: float) -> PublishOutcome:
        """Put one message, sent at some time before, into its queue, as far as the weather lets it."""
        weather, happens = self.weather, self._happens
        self.published += 1
        self.on_publish(who, message.body, sent_at)
        self.story.note(who, "publish", message.queue, message.correlation_id, len(message.body))
        if message.queue not in self.queues:
            self.story.fault("unroutable", who, message.queue)
            return PublishOutcome.RETURNED
        if happens(weather.returned, "returned", who):
            return PublishOutcome.RETURNED
        if happens(weather.refused, "refused", who):
            return PublishOutcome.REFUSED
        if not happens(weather.dropped, "dropped", who):
            copies = weather.copies if happens(weather.duplicated, "duplicated", who) else 1
            for _ in range(copies):
                self._take_in(message, who)
        return PublishOutcome.UNKNOWN if happens(weather.unconfirmed, "lost confirm", who) else PublishOutcome.CONFIRMED

    def inject(self, queue: str, body: bytes) -> None:
        """Put bytes into a queue that no part of the engine published."""
        self.queues.setdefault(queue, deque()).append(Parcel(body))
        self.serve()

    def _take_in(self, message: Message, who: str) -> None:
        weather = self.weather
        if self._happens(weather.delayed, "delayed", who):
            seconds = self.chance.uniform(0, weather.longest_delay)
            self.late += 1
            self.loop.call_later(seconds, self._arrive_late, message, context=self._context)
            return
        self._put(message)

    def _arrive_late(self, message: Message) -> None:
        self.late -= 1
        if message.queue in self.queues:
            self._put(message)

    def _put(self, message: Message) -> None:
        queue, parcel = self.queues[message.queue], Parcel(message.body)
        if self._happens(self.weather.given_up, "given up", "broker"):
            self._give_up(message.queue, parcel, self.chance.choice(REASONS))
        elif self.weather.is_lifo and queue:
            self.story.fault("reordered", "broker", message.queue)
            queue.appendleft(parcel)
        elif queue and self._happens(self.weather.shuffled, "reordered", "broker"):
            queue.insert(self.chance.randint(0, len(queue) - 1), parcel)
        else:
            queue.append(parcel)
        self.serve()

    def _give_up(self, queue: str, parcel: Parcel, reason: str) -> None:
        dead = Parcel(parcel.body, was_in=queue, reason=reason)
        self.queues.setdefault(DEAD_LETTERS, deque()).append(dead)

    def _comes_back(self, queue: str, parcel: Parcel) -> bool:
        """A message comes back to its queue; return whether it is given up instead."""
        parcel.redelivered = True
        parcel.returns += 1
        limit = self.weather.delivery_limit
        if not limit or parcel.returns < limit or queue == DEAD_LETTERS or queue in self.foreign:
            return False
        self.story.fault("came back too often", "broker", queue)
        self._give_up(queue, parcel, "delivery_limit")
        return True

    # --- consuming

    def open(self, channel: Channel) -> None:
        """Connect a consumer, making the queues that are missing."""
        for queue in channel.queues:
            self.queues.setdefault(queue, deque())
        self._channels.append(channel)
        self.serve()

    def close(self, channel: Channel) -> None:
        """End a connection; what it holds comes back as redelivered, before what waits."""
        if channel not in self._channels:
            return
        self._channels.remove(channel)
        for queue, parcel in reversed(channel.held.values()):
            if queue in self.queues and not self._comes_back(queue, parcel):
                self.queues[queue].appendleft(parcel)
        channel.held.clear()
        self.serve()

    def is_open(self, channel: Channel) -> bool:
        """Whether a connection still stands."""
        return channel in self._channels

    def settle(self, channel: Channel, tag: int, *, give_back: bool, sent_at: float) -> None:
        """End a delivery, if its connection still stands; `sent_at` is when the consumer said so."""
        found = channel.held.pop(tag, None)
        if found is None or channel not in self._channels:
            return
        queue, parcel = found
        self.story.note(channel.who, "release" if give_back else "ack", tag)
        if give_back:
            if queue in self.queues and not self._comes_back(queue, parcel):
                self.queues[queue].append(parcel)
        elif queue != DEAD_LETTERS:
            self.on_acknowledged(channel.who, parcel.body, sent_at)
        self.serve()

    def has_another(self, body: bytes) -> bool:
        """Whether a copy of a message is in a queue or in somebody's hands."""
        waiting = (parcel for queue in self.queues.values() for parcel in queue)
        held = (parcel for channel in self._channels for _, parcel in channel.held.values())
        return any(parcel.body == body for parcels in (waiting, held) for parcel in parcels)

    def serve(self) -> None:
        """Hand out what waits, one message to each consumer in turn, while any can be handed out."""
        progress = True
        while progress:
            progress = False
            for channel in tuple(self._channels):
                if channel.has_room and self._hand_out(channel):
                    progress = True

    def _hand_out(self, channel: Channel) -> bool:
        for _ in range(len(channel.queues)):
            name = channel.queues[0]
            channel.queues.rotate(-1)
            if not self.queues.get(name):
                continue
            parcel = self.queues[name].popleft()
            self._tags += 1
            channel.held[self._tags] = (name, parcel)
            self.delivered += 1
            self.story.note(channel.who, "deliver", name, self._tags, parcel.redelivered)
            self.on_delivery(parcel.body)
            channel.receiver.deliver(self._tags, name, parcel)
            self._channels.remove(channel)
            self._channels.append(channel)
            return True
        return False

    # --- what befalls it

    def disconnect(self, who: str | None = None) -> int:
        """Break the connections of one process, or all; return how many."""
        broken = [channel for channel in tuple(self._channels) if who is None or channel.who == who]
        for channel in broken:
            self.close(channel)
            channel.receiver.disconnected()
        return len(broken)

    def purge(self, queue: str) -> int:
        """Lose what waits in a queue; return how many messages."""
        lost = len(self.queues.get(queue, ()))
        self.queues.get(queue, deque[Parcel]()).clear()
        return lost

    def wipe(self) -> int:
        """Lose everything: the queues, what waits, what is delivered; return how many messages."""
        lost = sum(map(len, self.queues.values())) + sum(len(channel.held) for channel in self._channels)
        self.queues.clear()
        for channel in self._channels:
            channel.held.clear()
        self.disconnect()
        return lost

    @property
    def unsettled(self) -> int:
        """Messages in queues, on their way late, and in the hands of consumers."""
        held = sum(len(channel.held) for channel in self._channels)
        return sum(map(len, self.queues.values())) + held + self.late

    def _happens(self, share: float, kind: str, who: str) -> bool:
        if share <= 0 or self.chance.random() >= share:
            return False
        self.story.fault(kind, who)
        return True


def _ignore(*_facts: object) -> None:
    """The default of what nobody asks about."""
