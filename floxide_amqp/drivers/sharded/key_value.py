"""A key-value store whose slots are spread over several servers.

A batch and a read concern one slot, so each goes to one server as it is; a scan asks all and merges what they answer
by the order of the entry keys. A group that concerns several servers goes to all of them at once: then one of them
may fail alone, and what the others did is done. `Session` never sends such a group; it keeps a conversation per shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sharded.placement import placement, shard_of
from floxide_amqp.exceptions import CommitOutcomeUnknownError, ConfigurationError
from floxide_amqp.ports.key_value import (
    Batch,
    CommitReply,
    Durability,
    Entry,
    IndexRange,
    KeyValueStore,
    Read,
    ReadReply,
    RecordPage,
)
from floxide_amqp.ports.sharding import merge_pages


class _OfSlot(Protocol):
    @property
    def slot(self) -> Slot: ...


_AskedT = TypeVar("_AskedT", bound=_OfSlot)
_AnswerT = TypeVar("_AnswerT")


class ShardedKeyValueStore:
    """One store over several.

    Args:
        shards: The stores by their names. A name decides which slots are its store's, so it stays the same when a
            server moves to another address; the order does not matter. Closed with this one.

    Raises:
        ConfigurationError: There is no shard, or one has no name.
    """

    def __init__(self, shards: Mapping[str, KeyValueStore]) -> None:
        if not shards or not all(shards):
            raise ConfigurationError("A sharded store needs at least one shard, and each shard a name.")
        self._shards = dict(sorted(shards.items()))
        self._placement = placement(self._shards)

    @property
    def shards(self) -> Mapping[str, KeyValueStore]:
        """The stores by their names."""
        return self._shards

    def shard_of(self, slot: Slot) -> str:
        """Return the name of the shard that holds a slot: the same in every process."""
        return self._placement.get(slot) or shard_of(self._shards, slot)

    @property
    def durability(self) -> Durability:
        """That of the weakest shard."""
        order = tuple(Durability)
        return min((shard.durability for shard in self._shards.values()), key=order.index)

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open all of the shards."""
        return all(shard.is_shared for shard in self._shards.values())

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches, each on its own server, in order on each.

        Raises:
            StoreUnavailableError: Nothing was applied; safe to repeat.
            CommitOutcomeUnknownError: A reply was lost, or one server failed and another did its part.
            StoreError: The group is faulty; nothing was applied.
        """
        groups = self._by_shard(batches)
        replies = await _all(self._shards[shard].commit(group) for shard, (_, group) in groups.items())
        failures = [reply for reply in replies if isinstance(reply, BaseException)]
        if failures and len(failures) < len(replies):
            failed = next(shard for shard, reply in zip(groups, replies, strict=True) if reply is failures[0])
            raise CommitOutcomeUnknownError(
                store=f"shard {failed!r}", reason=f"it failed, and other shards applied their part: {failures[0]}"
            ) from failures[0]
        if failures:
            raise next((each for each in failures if isinstance(each, CommitOutcomeUnknownError)), failures[0])
        answers = [reply for reply in replies if isinstance(reply, CommitReply)]
        outcomes = _in_order(len(batches), [group[0] for group in groups.values()], [a.outcomes for a in answers])
        return CommitReply(tuple(outcomes), max(answer.now_ms for answer in answers))

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Read from each server what it has; each `Read` is one consistent snapshot.

        Raises:
            StoreError: One of the servers could not answer.
        """
        groups = self._by_shard(reads)
        answers = await _all_or_error(self._shards[shard].read(group) for shard, (_, group) in groups.items())
        snapshots = _in_order(len(reads), [group[0] for group in groups.values()], [a.snapshots for a in answers])
        return ReadReply(tuple(snapshots), max(answer.now_ms for answer in answers))

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Read one index over all slots of all servers, in the order of the entry keys.

        Raises:
            StoreError: One of the servers could not answer.
        """
        pages = await _all_or_error(shard.scan(index_range) for shard in self._shards.values())
        return merge_pages(pages, index_range)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List what a slot holds, from the server that has it.

        Raises:
            StoreError: That server could not answer.
        """
        shard = self._shards[self.shard_of(slot)]
        return await shard.records(slot, partition=partition, after=after, limit=limit)

    async def aclose(self) -> None:
        """Close the shards; a second call does nothing."""
        await _all_or_error(shard.aclose() for shard in self._shards.values())

    def _by_shard(self, asked: Sequence[_AskedT]) -> dict[str, tuple[list[int], list[_AskedT]]]:
        """Return what is asked by shard, with the places that the answers have in the reply.

        Where nothing is asked, any one server tells the time.
        """
        groups: dict[str, tuple[list[int], list[_AskedT]]] = {} if asked else {next(iter(self._shards)): ([], [])}
        for place, each in enumerate(asked):
            places, group = groups.setdefault(self.shard_of(each.slot), ([], []))
            places.append(place)
            group.append(each)
        return groups


def _in_order(count: int, places: Sequence[Sequence[int]], answers: Sequence[Sequence[_AnswerT]]) -> list[_AnswerT]:
    """Return the answers of several groups in the order in which they were asked for."""
    found: dict[int, _AnswerT] = {}
    for group_places, group_answers in zip(places, answers, strict=True):
        found.update(zip(group_places, group_answers, strict=True))
    return [found[place] for place in range(count)]


async def _all(calls: Iterable[Awaitable[_AnswerT]]) -> list[_AnswerT | BaseException]:
    """Await several calls side by side to their ends, also where one fails."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def _all_or_error(calls: Iterable[Awaitable[_AnswerT]]) -> list[_AnswerT]:
    """Await several calls side by side to their ends, and raise the first error."""
    answers = await _all(calls)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
