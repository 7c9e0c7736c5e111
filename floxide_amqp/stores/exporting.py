"""Writing a run into a file, as it stands at one moment.

A run that has ended or is paused stands still, but for steps that were in flight; so its records are read page by page,
and then it is listed again: where a record has another version, value or length than the file has, or there is another
one, the file is thrown away and written anew. What lies in indexes changes only together with records.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError, InvalidRunStateError, RunChangedError, RunFileError
from floxide_amqp.ports.key_value import IndexRange, LogRange, Read, RecordInfo, RecordKind, Snapshot
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.run_file import (
    ArrivalsFrame,
    CellFrame,
    CounterFrame,
    EntriesFrame,
    LiveFrame,
    LogFrame,
    RunFileHead,
    RunFileWriter,
    VersionFrame,
)
from floxide_amqp.stores.runs import RunStore, StoredRun
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.versions import VersionStore

TRIES: Final = 3
"""How often a run that changes meanwhile is exported anew before it is left."""

PAGE: Final = 500
"""Records listed, and entries read, in one round trip at most."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""About how many bytes are read in one round trip."""

EXPORTABLE = (RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class RunExport:
    """Writes runs into files.

    Args:
        session: The store they are in.
        store_id: Its id, for the file.
        all_stand_still: Whether no worker lives, so that runs which go on stand still as well.
    """

    def __init__(self, session: Session, store_id: str, *, all_stand_still: bool = False) -> None:
        self._session = session
        self._store_id = store_id
        self._all_stand_still = all_stand_still
        self._runs = RunStore(session)

    async def write(self, run_id: RunId, path: Path) -> RunFileHead:
        """Write a run into a new file, under another name until it is whole.

        Memory: the largest record, and some 200 bytes for each record that the run has.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It neither is paused nor has ended.
            RunChangedError: It was worked on, each time it was tried.
            RunFileError: There is a file of this name, or it cannot be written.
        """
        if path.exists():  # noqa: ASYNC240 - files are written here, in small pieces
            raise _not_written(path, "there is such a file already", "Name another, or remove it.")
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            for _ in range(TRIES):
                head = await self._write_once(run_id, part)
                if head is not None:
                    part.rename(path)
                    return head
        except OSError as error:
            raise _not_written(path, error.strerror or str(error), "Free space, or name another.") from error
        finally:
            part.unlink(missing_ok=True)
        raise RunChangedError(run_id=run_id)

    async def _write_once(self, run_id: RunId, part: Path) -> RunFileHead | None:
        """Write a file; None if the run changed meanwhile."""
        run = await self._runs.load(run_id)
        if run.state.status not in EXPORTABLE and not self._all_stand_still:
            raise InvalidRunStateError(
                run_id=run_id, action="export", status=run.status.value,
                cure="Pause it first (`floxide pause`), or wait for its end.",
            )  # fmt: skip
        head = self._head(run)
        with open(part, "wb", opener=_for_its_owner) as file:  # noqa: ASYNC230 - written in small pieces
            writer = RunFileWriter(file, head)
            if not self._all_stand_still:  # else all that is known goes with the runs
                await self._write_version(writer, head)
            one = _OneRun(self._session, run_id, writer)
            if not await one.write():
                return None
            file.flush()
            os.fsync(file.fileno())
        return head

    async def _write_version(self, writer: RunFileWriter, head: RunFileHead) -> None:
        beside = self._session.beside(RunId(head.run_id))
        description = await VersionStore(beside).read(head.workflow, head.version)
        if description is not None:
            writer.write(VersionFrame(description))

    def _head(self, run: StoredRun) -> RunFileHead:
        header = run.header
        return RunFileHead(
            release=version("floxide-amqp"), run_id=header.run_id, workflow=header.workflow, version=header.version,
            status=run.state.status.value, created_at_ms=header.created_at_ms, exported_at_ms=self._session.now_ms(),
            store_id=self._store_id,
        )  # fmt: skip


class _OneRun:
    """Writes what the store has of one run; remembers what it wrote, to see whether it still is so at the end."""

    def __init__(self, session: Session, run_id: RunId, writer: RunFileWriter) -> None:
        self._session = session
        self._run_id = run_id
        self._slot = slot_of(run_id)
        self._writer = writer
        self._unconfirmed: dict[bytes, bool] = {}
        self._openers = set(keys.ALWAYS)

    async def write(self) -> bool:
        """Write everything and the end; False if the run changed meanwhile."""
        async for page in list_run(self._session, self._run_id):
            await self._write_records([record for record in page if self._is_new(record)])
        await self._write_live()
        for opener in sorted(self._openers):
            await self._write_arrivals(opener)
        async for page in list_run(self._session, self._run_id):
            if not all(map(self._confirm, page)):
                return False
        if any(self._unconfirmed.values()):
            return False
        self._writer.end()
        return True

    def _is_new(self, record: RecordInfo) -> bool:
        """Note a record, and say whether it is listed for the first time."""
        mark = _mark_of(record)
        is_new = mark not in self._unconfirmed
        self._unconfirmed[mark] = True
        if record.kind is RecordKind.CELL and record.key.name.startswith(keys.SCOPE_PREFIX):
            self._openers.add(keys.opener_of(record.key))
        return is_new

    def _confirm(self, record: RecordInfo) -> bool:
        mark = _mark_of(record)
        if mark not in self._unconfirmed:
            return False
        self._unconfirmed[mark] = False
        return True

    async def _write_records(self, records: Sequence[RecordInfo]) -> None:
        group: list[RecordInfo] = []
        size = 0
        for record in records:
            if record.kind is RecordKind.COUNTER:
                self._writer.write(CounterFrame(record.key.name, record.number))
            elif record.kind is RecordKind.LOG:
                await self._write_log(record)
            else:
                group.append(record)
                size += record.size
                if size >= PAGE_BYTES:
                    await self._write_cells(group)
                    group, size = [], 0
        await self._write_cells(group)

    async def _write_cells(self, records: Sequence[RecordInfo]) -> None:
        if not records:
            return
        cells = (await self._read(Read(slot=self._slot, cells=tuple(record.key for record in records)))).cells
        for record, cell in zip(records, cells, strict=True):
            self._writer.write(CellFrame(record.key.name, record.number, cell.value))
            if record.key.name.startswith(keys.ITEM_PREFIX):
                with suppress(CodecError):
                    self._openers.add(codec.decode_item(cell.value).input.opener)
            if cell.version != record.number:
                self._unconfirmed[_CHANGED] = True

    async def _write_log(self, record: RecordInfo) -> None:
        position, name = 0, record.key.name
        limit = PAGE if not record.size else max(1, min(PAGE, PAGE_BYTES * record.number // record.size))
        is_begun = False
        while True:
            wanted = LogRange(record.key, position, limit)
            page = (await self._read(Read(slot=self._slot, logs=(wanted,)))).logs[0]
            if not is_begun:
                self._writer.write(LogFrame(name, page.first))
                is_begun, position = True, page.first
            if page.first != position or page.length != record.number:
                self._unconfirmed[_CHANGED] = True
                return
            if page.entries:
                self._writer.write(EntriesFrame(name, position, page.entries))
            position += len(page.entries)
            if position >= page.length:
                return

    async def _write_live(self) -> None:
        async for entries in self._index(keys.live_items(self._run_id), PAGE):
            self._writer.write(LiveFrame(entries))

    async def _write_arrivals(self, opener: str) -> None:
        async for entries in self._index(keys.arrivals(self._run_id, opener), PAGE // 10):
            self._writer.write(ArrivalsFrame(opener, entries))

    async def _index(self, name: str, limit: int) -> AsyncGenerator[tuple[tuple[str, bytes], ...]]:
        after = ""
        while True:
            found = (await self._read(Read(slot=self._slot, indexes=(IndexRange(name, after, limit=limit),)))).indexes[
                0
            ]
            if found:
                yield tuple((entry.entry, entry.value) for entry in found)
            if len(found) < limit:
                return
            after = found[-1].entry

    async def _read(self, read: Read) -> Snapshot:
        return await self._session.read(read)


_CHANGED: Final = b"changed"
"""A mark that no record has, and nothing confirms."""


def _mark_of(record: RecordInfo) -> bytes:
    """Return 16 bytes that stand for a record in its present state."""
    text = f"{record.kind.value}\0{record.number}\0{record.key.name}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


async def list_run(session: Session, run_id: RunId) -> AsyncGenerator[Sequence[RecordInfo]]:
    """List the records of a run's partition, page by page, without counters that are 0."""
    after: bytes | None = b""
    while after is not None:
        page = await session.records(slot_of(run_id), partition=run_id, after=after, limit=PAGE)
        yield [record for record in page.records if record.kind is not RecordKind.COUNTER or record.number]
        after = page.after


def _for_its_owner(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _not_written(path: Path, problem: str, cure: str) -> RunFileError:
    return RunFileError(path=str(path), problem=problem, cure=cure, action="written")
