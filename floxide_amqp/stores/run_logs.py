"""What the logs of a run tell from a position on, all of them as of one moment, in the order in which it happened.

Each log is in the order of its commits; between logs the times decide, as the workers' clocks told them. A position
says how far each log was read, so whoever goes on from it misses nothing and is told nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.log_records import AuditRecord, ErrorRecord, HistoryEntry
from floxide_amqp.core.moments import Moment
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.ports.key_value import Key, LogPage, LogRange
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.moments import decode_moment

PAGE: Final = 500
"""Entries read of each log at a time."""

Told: TypeAlias = AuditRecord | ErrorRecord | Moment | HistoryEntry
"""One entry of one of the logs."""

_DECODERS: Final[Sequence[Callable[[bytes], Any]]] = (
    codec.decode_audit, codec.decode_error, decode_moment, codec.decode_history,
)  # fmt: skip
"""Of the logs in the order in which entries of one commit are told."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a run's story was told.

    Attributes:
        read: How many entries of each log: what was done to the run, failed attempts, moments, ended items.
        epoch: In which the run was told to have ended; 1 once its start was told, 0 before.
    """

    read: tuple[int, ...] = (0, 0, 0, 0)
    epoch: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, (self.epoch, *self.read)))

    @classmethod
    def parse(cls, text: str) -> LogPosition:
        """Return the position that a text stands for; the beginning for an empty one.

        Raises:
            DefinitionError: It is none.
        """
        if not text:
            return cls()
        parts = text.split(".")
        if len(parts) != 1 + len(_DECODERS) or not all(part.isascii() and part.isdecimal() for part in parts):
            raise DefinitionError(f"{text!r} is no position of an event; pass `position` of one, or nothing.")
        epoch, *read = map(int, parts)
        return cls(tuple(read), epoch)

    def ranges(self, run_id: RunId) -> tuple[LogRange, ...]:
        """Return what to read next of a run's logs."""
        logs = (keys.audit(run_id), keys.errors(run_id), keys.moments(run_id), keys.history(run_id))
        return tuple(LogRange(log, start, PAGE) for log, start in zip(logs, self.read, strict=True))


@dataclass(frozen=True, slots=True)
class TellingPage:
    """Entries in the order in which they happened, each with the position behind it.

    Attributes:
        is_all: Whether the logs had no more when they were read.
        position: Behind the last of them.
    """

    told: Sequence[tuple[Told, LogPosition]]
    is_all: bool
    position: LogPosition


def telling_of(position: LogPosition, ranges: Sequence[LogRange], pages: Sequence[LogPage]) -> TellingPage:
    """Return what some pages of a run's logs tell behind a position.

    Raises:
        UnreadableRecordError: An entry cannot be read.
    """
    position = replace(position, read=tuple(page.first for page in pages))
    heads = [_decoded(asked.log, page, decode) for asked, page, decode in zip(ranges, pages, _DECODERS, strict=True)]
    is_cut = [page.first + len(page.entries) < page.length for page in pages]
    taken = [0] * len(pages)
    told: list[tuple[Told, LogPosition]] = []
    while True:
        left = [number for number, head in enumerate(heads) if taken[number] < len(head)]
        if not left or any(is_cut[number] and number not in left for number in range(len(heads))):
            return TellingPage(told, not any(is_cut), position)
        earliest = _earliest({number: heads[number][taken[number]] for number in left})
        entry = heads[earliest][taken[earliest]]
        taken[earliest] += 1
        read = (count + (number == earliest) for number, count in enumerate(position.read))
        position = replace(position, read=tuple(read))
        told.append((entry, position))


def _decoded(log: Key, page: LogPage, decode: Callable[[bytes], Any]) -> list[Told]:
    return [
        read_record(decode, data, log, f"position {position}") for position, data in enumerate(page.entries, page.first)
    ]


def _earliest(heads: Mapping[int, Told]) -> int:
    """Return which log's next entry comes first.

    Of those of one millisecond, what was done to the run is told first. An item's failed attempts and its waiting come
    before its end, but after the end of any other item that the log of ended items has before it: it may follow from
    that one, and never that one from it.
    """
    first = min(map(_at, heads.values()))
    tied = {number: entry for number, entry in heads.items() if _at(entry) == first}
    ended = next((entry for entry in tied.values() if isinstance(entry, HistoryEntry)), None)
    return min(tied, key=lambda number: (_rank(tied[number], ended), number))


def _rank(entry: Told, ended: HistoryEntry | None) -> int:
    match entry:
        case AuditRecord():
            return 0
        case HistoryEntry():
            return 2
        case ErrorRecord() | Moment():
            is_before = ended is None or not entry.item_id or entry.item_id == ended.item_id
            return 1 if is_before else 3


def _at(entry: Told) -> int:
    return entry.ended_at_ms if isinstance(entry, HistoryEntry) else entry.at_ms
