"""Looks through the file of a run before anything of it is put into a store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin_letters import START
from floxide_amqp.core.records import RunHeader, RunState
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError, RunFileError
from floxide_amqp.stores import child_keys, keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import decode_attributes
from floxide_amqp.stores.children import decode_child
from floxide_amqp.stores.dead_letters import decode_letter
from floxide_amqp.stores.letters import decode_letter as decode_posted
from floxide_amqp.stores.run_file import ArrivalsFrame, CellFrame, EntriesFrame, LogFrame, RunFileReader

MOST_TRIMMED: Final = 1_000_000_000
"""Trimmed entries that a log can have: a thousand changes a second for ten days."""

HEADER: Final = keys.header(RunId("")).name
STATE: Final = keys.state(RunId("")).name
ATTRIBUTES: Final = keys.attributes(RunId("")).name
RESERVED: Final = frozenset({keys.tombstone(RunId("")).name, keys.imported(RunId("")).name})
"""Records that no exported run has."""


class CheckedFile:
    """A file that was gone through and is whole.

    Attributes:
        letters: The turns of items that wait with a dead letter.
        children: The run's children that go on, as far as it knows, but for those that are yet to be started.
    """

    def __init__(self, path: Path, reader: RunFileReader, statuses: Sequence[RunStatus]) -> None:
        self._path = path
        self.head = reader.head()
        self.letters: dict[str, int] = {}
        self.attributes: Attributes = {}
        self.children: set[RunId] = set()
        called: set[RunId] = set()
        self._ends: dict[str, int] = {}
        led: dict[str, CellFrame] = {}
        for frame in reader.frames():
            if isinstance(frame, CellFrame):
                self._check_cell(frame)
                if frame.name in (HEADER, STATE):
                    led[frame.name] = frame
            elif isinstance(frame, LogFrame | EntriesFrame):
                self._check_log(frame)
            elif isinstance(frame, ArrivalsFrame) and frame.opener == keys.POSTED:
                called |= _children_called(frame)
        self.children -= called
        if len(led) < 2:
            raise self._damaged("the run's header or state is missing")
        self.header_frame, self.state_frame = led[HEADER], led[STATE]
        try:
            self.header: RunHeader = codec.decode_header(self.header_frame.value)
            self.state: RunState = codec.decode_state(self.state_frame.value)
        except CodecError as error:
            raise self._damaged(str(error).rstrip(".")) from error
        if self.header.run_id != self.head.run_id or self.state.status not in statuses:
            raise self._damaged(f"it holds run {self.header.run_id!r}, {self.state.status.value}")

    def _check_cell(self, frame: CellFrame) -> None:
        if frame.version < 1 or frame.name in RESERVED:
            raise self._damaged(f"the record {frame.name!r} has version {frame.version}")
        if frame.name == ATTRIBUTES:
            with suppress(CodecError):
                self.attributes = decode_attributes(frame.value)
        if frame.name.startswith(child_keys.CHILD_PREFIX):
            with suppress(CodecError):
                child = decode_child(frame.value)
                if child.status is None:
                    self.children.add(child.run_id)
        if frame.name.startswith(keys.DEAD_LETTER_PREFIX):
            with suppress(CodecError):
                letter = decode_letter(frame.value)
                if letter.is_kept:
                    self.letters[letter.item_id] = letter.turn

    def _check_log(self, frame: LogFrame | EntriesFrame) -> None:
        if isinstance(frame, LogFrame):
            if not 0 <= frame.first <= MOST_TRIMMED:
                raise self._damaged(f"the log {frame.name!r} begins at {frame.first}")
            self._ends[frame.name] = frame.first
            return
        if self._ends.get(frame.name) != frame.position:
            raise self._damaged(f"a part of the log {frame.name!r} is missing")
        self._ends[frame.name] += len(frame.entries)

    def _damaged(self, problem: str) -> RunFileError:
        return RunFileError(path=str(self._path), problem=f"it is damaged: {problem}")


def _children_called(letters: ArrivalsFrame) -> set[RunId]:
    """Return the children that letters of the run are yet to start."""
    found: set[RunId] = set()
    for letter_id, value in letters.entries:
        with suppress(CodecError):
            letter = decode_posted(letter_id, value)
            if letter.kind == START:
                found.add(letter.to_run)
    return found
