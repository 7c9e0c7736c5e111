"""One index held in memory: an ordered map from (entry key, slot) to a value.

The keys lie in chunks of bounded size, so inserting and removing cost the same with a hundred entries as with a
million: a search among the chunks' largest keys, a search in one chunk, and a shift within it. It is the idea of the
`sortedcontainers` package, without the dependency.

Invariants: no chunk is empty; `_largest[i] == _chunks[i][-1]`; concatenated, the chunks are strictly ascending and
hold exactly the keys of `_values`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TypeAlias

from floxide_amqp.core.ids import Slot

CHUNK_SIZE = 512
"""Keys a chunk is split down to; it holds at most twice as many."""

EntryKey: TypeAlias = tuple[str, int]
_BELOW_EVERY_SLOT = -(1 << 63)
_ABOVE_EVERY_SLOT = 1 << 63


class SortedEntries:
    """An ordered map from (entry, slot) to bytes; entries sort by their Unicode code points, then by slot."""

    __slots__ = ("_chunks", "_largest", "_values")

    def __init__(self) -> None:
        self._values: dict[EntryKey, bytes] = {}
        self._chunks: list[list[EntryKey]] = []
        self._largest: list[EntryKey] = []

    def __len__(self) -> int:
        return len(self._values)

    def enter(self, key: EntryKey, value: bytes) -> bytes | None:
        """Put an entry or replace its value; return the value it had."""
        before = self._values.get(key)
        self._values[key] = value
        if before is None:
            self._insert(key)
        return before

    def leave(self, key: EntryKey) -> bytes | None:
        """Take an entry out; return the value it had."""
        before = self._values.pop(key, None)
        if before is not None:
            self._remove(key)
        return before

    def restore(self, key: EntryKey, value: bytes | None) -> None:
        """Give an entry the value it had before: None where it was not there."""
        if value is None:
            self.leave(key)
        else:
            self.enter(key, value)

    def between(self, after: str, before: str | None, *, reverse: bool) -> Iterator[tuple[str, Slot, bytes]]:
        """Yield the entries with ``after < entry < before`` in order, or backwards."""
        values = self._values
        for key in self._keys(after, before, reverse=reverse):
            yield key[0], Slot(key[1]), values[key]

    def _keys(self, after: str, before: str | None, *, reverse: bool) -> Iterator[EntryKey]:
        low_chunk, low = self._position((after, _ABOVE_EVERY_SLOT))
        if before is None:
            high_chunk, high = len(self._chunks), 0
        else:
            high_chunk, high = self._position((before, _BELOW_EVERY_SLOT))
        spans = range(low_chunk, min(high_chunk + 1, len(self._chunks)))
        for number in reversed(spans) if reverse else spans:
            chunk = self._chunks[number]
            offsets = range(low if number == low_chunk else 0, high if number == high_chunk else len(chunk))
            for offset in reversed(offsets) if reverse else offsets:
                yield chunk[offset]

    def _position(self, key: EntryKey) -> tuple[int, int]:
        """Return chunk and offset of the first key not below `key`."""
        number = bisect_left(self._largest, key)
        if number == len(self._chunks):
            return number, 0
        return number, bisect_left(self._chunks[number], key)

    def _insert(self, key: EntryKey) -> None:
        largest = self._largest
        if not largest:
            self._chunks.append([key])
            largest.append(key)
            return
        number = bisect_left(largest, key)
        if number == len(largest):
            number -= 1
            chunk = self._chunks[number]
            chunk.append(key)
            largest[number] = key
        else:
            chunk = self._chunks[number]
            insort(chunk, key)
        if len(chunk) > 2 * CHUNK_SIZE:
            self._split(number)

    def _split(self, number: int) -> None:
        chunk = self._chunks[number]
        upper = chunk[CHUNK_SIZE:]
        del chunk[CHUNK_SIZE:]
        self._largest[number] = chunk[-1]
        self._chunks.insert(number + 1, upper)
        self._largest.insert(number + 1, upper[-1])

    def _remove(self, key: EntryKey) -> None:
        number = bisect_left(self._largest, key)
        chunk = self._chunks[number]
        del chunk[bisect_left(chunk, key)]
        if not chunk:
            del self._chunks[number], self._largest[number]
            return
        self._largest[number] = chunk[-1]
        if len(chunk) < CHUNK_SIZE // 4 and number + 1 < len(self._chunks):
            self._merge_with_next(number)

    def _merge_with_next(self, number: int) -> None:
        """Join a chunk that became small with the next, so that a sparse index is not many tiny chunks."""
        self._chunks[number] += self._chunks[number + 1]
        self._largest[number] = self._largest[number + 1]
        del self._chunks[number + 1], self._largest[number + 1]
        if len(self._chunks[number]) > 2 * CHUNK_SIZE:
            self._split(number)
