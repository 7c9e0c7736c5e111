"""Moving what a slot holds from one server to another, while no worker lives.

First everything is copied, run by run, each as a file that is imported whole. Then, at the source, what leads to runs
is taken out of the indexes, and at last the records go. So whatever this dies at, what is left tells how to go on: a
run that is whole at the target needs no copy any more, whatever the source still has of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from floxide_amqp.core.ids import RunId, Slot
from floxide_amqp.core.limit_moves import LIMIT_PREFIX
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError, ReshardingError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Cell,
    Check,
    Clear,
    Committed,
    Enter,
    Entry,
    IndexRange,
    Key,
    Leave,
    Put,
    Read,
    RecordKind,
    Write,
)
from floxide_amqp.stores import keys, parked_keys, run_list_keys, schedule_keys, source_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import attribute_index, decode_attributes
from floxide_amqp.stores.checked_file import ATTRIBUTES, HEADER
from floxide_amqp.stores.claims import CLAIM_PREFIX, copy_claim
from floxide_amqp.stores.exporting import RunExport
from floxide_amqp.stores.importing import RunImport
from floxide_amqp.stores.limit_keys import copy_limit
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.own_entries import own_entries
from floxide_amqp.stores.rate_keys import RATE_PREFIX, copy_rate
from floxide_amqp.stores.run_file import CellFrame, RunFileReader
from floxide_amqp.stores.schedules import copied_schedule
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sources import copy_source

PAGE: Final = 500
"""Records listed, and entries read or removed, in one round trip."""

AT_ONCE: Final = 16
"""Runs that are copied side by side, so that they share round trips."""

OF_THE_DELETED: Final = (keys.CONDEMNED, keys.TOMBSTONES, keys.RUNS_ASIDE)
"""Indexes whose entries go with tombstones."""

KNOWN: Final = (
    run_list_keys.RUNS, *OF_THE_DELETED, keys.TIMERS, keys.SET_ASIDE, keys.DEAD_LETTERS, keys.LETTERS,
    keys.LIMITS, keys.RATES, schedule_keys.SCHEDULES, source_keys.SOURCES,
    *(run_list_keys.runs_with_status(status) for status in RunStatus),
    *(run_list_keys.ended_runs(status) for status in RunStatus),
)  # fmt: skip
"""Indexes over all runs whose names are known; the others are named after workflows, task queues and workers."""


@dataclass(slots=True)
class Held:
    """What a slot holds of one run.

    Attributes:
        bytes: Of its records, without entries of indexes.
        is_run: Whether it is one: a deleted run has left only a tombstone.
    """

    bytes: int = 0
    is_run: bool = False


@dataclass(slots=True, kw_only=True)
class SlotMove:
    """Moves one slot.

    Attributes:
        source, target: The conversations with the two servers.
        slot: The slot.
        store_id: The store's id, for the files.
        since_ms: When the workers were stopped, store time.
        folder: Where files may lie meanwhile.
    """

    source: Session
    target: Session
    slot: Slot
    store_id: str
    since_ms: int
    folder: Path
    _indexes: set[str] = field(default_factory=lambda: set(KNOWN))
    _copied: set[RunId] = field(default_factory=set[RunId])

    async def copy(self, on_run: Callable[[], None]) -> None:
        """Copy everything to the target; what is there already stays.

        Args:
            on_run: Called for each run that is there.

        Raises:
            RunChangedError: Somebody works on a run.
            ReshardingError: The target has another run of the same id.
            StoreError: A record cannot be read, or a server failed.
        """
        await self._note_workers()
        while missing := await self._missing():
            deleted = await self._of_the_deleted()
            run_ids = list(missing)
            for start in range(0, len(run_ids), AT_ONCE):
                some = run_ids[start : start + AT_ONCE]
                done = await asyncio.gather(
                    *(self._copy_one(run_id, deleted.get(run_id, ())) for run_id in some), return_exceptions=True
                )
                for run_id, error in zip(some, done, strict=True):
                    if error is not None:
                        raise error
                    if missing[run_id].is_run:
                        on_run()
            self._copied |= missing.keys()

    async def drop(self) -> None:
        """Remove everything from the source that was copied."""
        for index in sorted(self._indexes):
            while entries := await self._page(index):
                await self._at_source(tuple(Leave(index, entry.entry) for entry in entries))
        for run_id in sorted(self._copied):
            async for leaves in own_entries(self.source, run_id):
                await self._at_source(leaves)
            await clear(self.source, self.slot, run_id)

    # --- one run

    async def _missing(self) -> dict[RunId, Held]:
        """Return what was not copied: at first everything, and then what somebody has put there meanwhile."""
        held = await held_in(self.source, self.slot)
        return {run_id: each for run_id, each in held.items() if run_id not in self._copied}

    async def _copy_one(self, run_id: RunId, lists: Sequence[Write]) -> None:
        if (schedule := schedule_keys.schedule_of(run_id)) is not None:
            await self._copy_schedule(schedule)
            return
        if run_id.startswith(LIMIT_PREFIX):
            await copy_limit(self.source, self.target, run_id)
            return
        if run_id.startswith(CLAIM_PREFIX):
            await copy_claim(self.source, self.target, run_id)
            return
        if run_id.startswith(RATE_PREFIX):
            await copy_rate(self.source, self.target, run_id)
            return
        if (name := source_keys.source_of(run_id)) is not None:
            self._indexes.add(source_keys.open_runs_of_source(name))
            await copy_source(self.source, self.target, name)
            return
        cells = (keys.header(run_id), keys.state(run_id), keys.tombstone(run_id), keys.imported(run_id))
        header, state, tombstone, mark = await self._cells(self.source, cells)
        there, _, _, its_mark = await self._cells(self.target, cells)
        is_there = bool(there.version and not its_mark.version)
        if header.version and state.version:
            await self._copy_run(run_id, header, there if is_there else None)
        elif (header.version or state.version) and not is_there:
            raise unreadable(run_id, "its header or its state is missing")
        elif tombstone.version and not mark.version and not is_there:
            writes = (Put(keys.tombstone(run_id), tombstone.value), *lists)
            batch = Batch(slot=self.slot, checks=(Check(keys.tombstone(run_id), ABSENT),), writes=writes)
            await self.target.commit(batch)  # a conflict tells that it is there

    async def _copy_schedule(self, name: str) -> None:
        cells = (schedule_keys.schedule_spec(name), schedule_keys.schedule_state(name))
        spec, state = await self._cells(self.source, cells)
        if spec.version and state.version:
            writes = copied_schedule(name, spec, state)
            batch = Batch(slot=self.slot, checks=(Check(cells[0], ABSENT),), writes=writes)
            await self.target.commit(batch)  # a conflict tells that it is there

    async def _copy_run(self, run_id: RunId, header: Cell, there: Cell | None) -> None:
        if there is not None and there.value != header.value:
            raise ReshardingError(
                reason=f"there are two runs {run_id!r}, on the servers {self.source.shard!r} and {self.target.shard!r}",
                cure="Delete one of them where it is.",
            )
        path = self.folder / hashlib.sha256(run_id.encode()).hexdigest()
        try:
            await RunExport(self.source, self.store_id, all_stand_still=True).write(run_id, path)
            self._note_names(path)
            if there is None:
                await RunImport(self.target, standing_since_ms=self.since_ms).read(path)
        finally:
            path.unlink(missing_ok=True)

    def _note_names(self, path: Path) -> None:
        """Note the indexes that may lead to a run."""
        for frame in RunFileReader(path).frames():
            if not isinstance(frame, CellFrame):
                continue
            with suppress(CodecError):
                if frame.name == HEADER:
                    self._indexes.add(run_list_keys.runs_of_workflow(codec.decode_header(frame.value).workflow))
                elif frame.name == ATTRIBUTES:
                    attributes = decode_attributes(frame.value)
                    self._indexes |= {attribute_index(name, value) for name, value in attributes.items()}
                elif frame.name.startswith(keys.ITEM_PREFIX):
                    item = codec.decode_item(frame.value)
                    self._note_queue(item.queue)
                    if item.owner:
                        self._indexes.add(keys.owned(item.owner))

    async def _note_workers(self) -> None:
        for record in await LivenessStore(self.source).all():
            self._indexes.add(keys.owned(record.worker_id))
            for queue in record.queues:
                self._note_queue(queue)

    def _note_queue(self, queue: str) -> None:
        self._indexes |= {keys.messages(queue), parked_keys.parked(queue)}

    async def _of_the_deleted(self) -> dict[RunId, list[Write]]:
        """Return the entries that go with tombstones."""
        found: dict[RunId, list[Write]] = defaultdict(list)
        for index in OF_THE_DELETED:
            after = ""
            while entries := await self._page(index, after):
                for entry in entries:
                    original = keys.run_aside(entry.entry)[1] if index == keys.RUNS_ASIDE else entry.entry
                    found[run_list_keys.time_and_run(original)[1]].append(Enter(index, entry.entry, entry.value))
                after = entries[-1].entry
        return found

    # --- the source

    async def _page(self, index: str, after: str = "") -> tuple[Entry, ...]:
        wanted = IndexRange(index, after, limit=PAGE)
        return (await self.source.read(Read(slot=self.slot, indexes=(wanted,)))).indexes[0]

    async def _at_source(self, writes: tuple[Write, ...]) -> None:
        await self.source.commit(Batch(slot=self.slot, writes=writes))

    async def _cells(self, session: Session, cells: tuple[Key, ...]) -> tuple[Cell, ...]:
        return (await session.read(Read(slot=self.slot, cells=cells))).cells


def unreadable(run_id: RunId, problem: str) -> ReshardingError:
    """Return what tells of a run that cannot be moved."""
    return ReshardingError(
        reason=f"run {run_id!r} is damaged: {problem}", cure="Bring back its records from a backup, or remove them."
    )


async def held_in(session: Session, slot: Slot) -> dict[RunId, Held]:
    """Return what a slot holds, by run; it goes through all its records."""
    found: dict[RunId, Held] = defaultdict(Held)
    after: bytes | None = b""
    while after is not None:
        page = await session.records(slot, after=after, limit=PAGE)
        for record in page.records:
            if record.kind is RecordKind.COUNTER and not record.number:
                continue
            held = found[RunId(record.key.partition)]
            held.bytes += record.size
            held.is_run |= record.key.name == HEADER
        after = page.after
    return dict(found)


async def clear(session: Session, slot: Slot, partition: str, keep: Collection[str] = ()) -> None:
    """Remove the records of a partition, page by page, but those of these names."""
    while True:
        outcome = await session.commit(Batch(slot=slot, writes=(Clear(partition, PAGE, tuple(keep)),)))
        if not isinstance(outcome, Committed) or outcome.cleared < PAGE:
            return
