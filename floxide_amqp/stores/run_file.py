"""An exported run as a file: a mark, frames, and at the end a digest of all that came before.

    floxide run, format 1 | frame … frame
    frame = length (4 bytes) | CRC-32 (4 bytes) | msgpack array: kind, fields …

The first frame says what the file holds, the last that it is whole. A frame is one cell, one counter, or a page of a
log or an index, so writing and reading it needs no more memory than the largest of them. The mark and the first three
fields of the first frame, kind, format and release, stay as they are in every later format.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

from floxide_amqp.exceptions import RunFileError
from floxide_amqp.stores.packing import MAX_RECORD_BYTES, scan

_msgpack: Any = msgpack

MARK: Final = b"floxide run\n"
"""What the file begins with."""

FORMAT: Final = 1
"""Number of this format; it rises when an older release could not read the file any more."""

_LENGTH_AND_CHECKSUM: Final = struct.Struct("!II")
_MAX_FRAME: Final = MAX_RECORD_BYTES + 64 * 1024

HEAD, CELL, COUNTER, LOG, ENTRIES, VERSION, LIVE, ARRIVALS, END = (
    "head",
    "cell",
    "counter",
    "log",
    "entries",
    "version",
    "live",
    "in",
    "end",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFileHead:
    """What a file says of itself.

    Attributes:
        release: The release that wrote it.
        status: The run's, as stored.
        created_at_ms, exported_at_ms: When the run was started and the file written, milliseconds since 1970.
        store_id: The store it comes from.
    """

    release: str
    run_id: str
    workflow: str
    version: str
    status: str
    created_at_ms: int
    exported_at_ms: int
    store_id: str


class CellFrame(NamedTuple):
    """A cell of the run's partition."""

    name: str
    version: int
    value: bytes


class CounterFrame(NamedTuple):
    """A counter of the run's partition."""

    name: str
    value: int


class LogFrame(NamedTuple):
    """A log of the run's partition: where its first entry is; its entries follow, page by page."""

    name: str
    first: int


class EntriesFrame(NamedTuple):
    """Entries of a log, from a position on."""

    name: str
    position: int
    entries: tuple[bytes, ...]


class VersionFrame(NamedTuple):
    """What is known of the run's version of its workflow, which the other store may know nothing of."""

    description: bytes


class LiveFrame(NamedTuple):
    """Entries of the index of the run's live items."""

    entries: tuple[tuple[str, bytes], ...]


class ArrivalsFrame(NamedTuple):
    """Entries of the index of what arrived at one join, or of the run's outputs."""

    opener: str
    entries: tuple[tuple[str, bytes], ...]


Frame: TypeAlias = CellFrame | CounterFrame | LogFrame | EntriesFrame | VersionFrame | LiveFrame | ArrivalsFrame

_KINDS: Final[dict[str, type[Any]]] = {
    CELL: CellFrame, COUNTER: CounterFrame, LOG: LogFrame, ENTRIES: EntriesFrame, VERSION: VersionFrame,
    LIVE: LiveFrame, ARRIVALS: ArrivalsFrame,
}  # fmt: skip
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    HEAD: (str, int, str, str, str, str, str, int, int, str), CELL: (str, str, int, bytes), COUNTER: (str, str, int),
    LOG: (str, str, int), ENTRIES: (str, str, int, tuple), VERSION: (str, bytes), LIVE: (str, tuple),
    ARRIVALS: (str, str, tuple), END: (str, int, bytes),
}  # fmt: skip


class RunFileWriter:
    """Writes a file, frame by frame."""

    def __init__(self, file: BinaryIO, head: RunFileHead) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._frames = 0
        self._write(MARK)
        self._frame(
            HEAD, FORMAT, head.release, head.run_id, head.workflow, head.version, head.status, head.created_at_ms,
            head.exported_at_ms, head.store_id,
        )  # fmt: skip

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        self._frame(_NAMES[type(frame)], *frame)

    def end(self) -> None:
        """Write the last frame."""
        self._frame(END, self._frames, self._digest.digest())

    def _frame(self, *values: object) -> None:
        body = cast("bytes", _msgpack.packb(values))
        self._write(_LENGTH_AND_CHECKSUM.pack(len(body), zlib.crc32(body)))
        self._write(body)
        self._frames += 1

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)


class RunFileReader:
    """Reads a file from its beginning, each time it is gone through.

    Args:
        path: The file.

    Raises:
        RunFileError: When it is read: it is no such file, is damaged or cut off, or of a later format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def head(self) -> RunFileHead:
        """Return what the file says of itself."""
        with self._open() as file:
            return self._head(file, hashlib.sha256())

    def frames(self) -> Iterator[Frame]:
        """Go through all frames; what is damaged is noticed when it is come to, and at the end whether all is there."""
        digest = hashlib.sha256()
        with self._open() as file:
            self._head(file, digest)
            count = 1
            while True:
                sum_before = digest.digest()
                kind, *fields = self._next(file, digest)
                if kind == END:
                    break
                count += 1
                yield self._frame(str(kind), fields)
            if fields != [count, sum_before]:
                raise self._damaged("its digest is not that of its content")
            if file.read(1):
                raise self._damaged("something follows its end")

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            problem, cure = f"it cannot be opened: {error.strerror}", "Name another file."
            raise RunFileError(path=str(self._path), problem=problem, cure=cure) from error

    def _head(self, file: BinaryIO, digest: Any) -> RunFileHead:
        mark = file.read(len(MARK))
        if mark != MARK:
            problem = "it is empty" if not mark else "it is no exported run"
            raise RunFileError(path=str(self._path), problem=problem, cure="Name one that `floxide export` wrote.")
        digest.update(mark)
        values = self._next(file, digest)
        if values[0] != HEAD:
            raise self._damaged("it does not begin with what it holds")
        _, _, release, run_id, workflow, version, status, created_at_ms, exported_at_ms, store_id = values
        return RunFileHead(
            release=release, run_id=run_id, workflow=workflow, version=version, status=status,
            created_at_ms=created_at_ms, exported_at_ms=exported_at_ms, store_id=store_id,
        )  # fmt: skip

    def _next(self, file: BinaryIO, digest: Any) -> tuple[Any, ...]:
        start = file.tell()
        prefix = file.read(_LENGTH_AND_CHECKSUM.size)
        if len(prefix) < _LENGTH_AND_CHECKSUM.size:
            raise self._damaged(f"it breaks off at byte {start}")
        length, checksum = _LENGTH_AND_CHECKSUM.unpack(prefix)
        if length > _MAX_FRAME:
            raise self._damaged(f"a frame at byte {start} claims {length} bytes")
        body = file.read(length)
        if len(body) < length:
            raise self._damaged(f"it breaks off at byte {start}")
        if zlib.crc32(body) != checksum:
            raise self._damaged(f"the checksum of what is at byte {start} is wrong")
        digest.update(prefix)
        digest.update(body)
        return self._unpacked(body, start)

    def _unpacked(self, body: bytes, start: int) -> tuple[Any, ...]:
        try:
            scan(body)
            found: Any = _msgpack.unpackb(body, use_list=False)
        except Exception as error:  # msgpack raises whatever the bytes make it raise
            raise self._damaged(f"there is no frame at byte {start}") from error
        values = cast("tuple[Any, ...]", found)
        if type(values) is not tuple:
            raise self._damaged(f"there is no frame at byte {start}")
        kind = values[0] if values else None
        if kind == HEAD and len(values) > 2 and type(values[1]) is int and values[1] > FORMAT:
            raise RunFileError(
                path=str(self._path),
                problem=f"release {values[2]} wrote it in format {values[1]}, and this one reads format {FORMAT}",
                cure="Import it with that release.",
            )
        if tuple(map(type, values)) != _TYPES.get(str(kind)):
            raise self._damaged(f"there is no frame at byte {start}")
        return values

    def _frame(self, kind: str, fields: list[Any]) -> Frame:
        if kind not in _KINDS:
            raise self._damaged("it says twice what it holds")
        frame: Frame = _KINDS[kind](*fields)
        entries = frame.entries if isinstance(frame, EntriesFrame | LiveFrame | ArrivalsFrame) else ()
        wanted = (bytes,) if isinstance(frame, EntriesFrame) else (str, bytes)
        for entry in entries:
            found = tuple(map(type, entry)) if isinstance(entry, tuple) else (type(entry),)
            if found != wanted:
                raise self._damaged("an entry of a log or an index is none")
        return frame

    def _damaged(self, problem: str) -> RunFileError:
        return RunFileError(path=str(self._path), problem=f"it is damaged: {problem}")
