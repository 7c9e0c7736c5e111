"""Removing a run that has ended: condemned in one commit, then cleared in pages, then only a tombstone is left.

The commit that condemns a run checks its epoch and takes away its state and header: for everybody else the run is gone
from then on, and whoever resumes or cancels it at the same moment wins or loses cleanly. Each later commit checks the
tombstone, so that a remover who was asleep harms no run that has the same id much later.

Invariant: a run that is condemned and not cleared has an entry among the condemned, by which its removal goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from floxide_amqp.core import changes as c
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.place_changes import DropTimer, LeaveOwner
from floxide_amqp.core.records import RunHeader, Tombstone, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Check,
    Clear,
    Committed,
    Delete,
    Enter,
    IndexRange,
    Leave,
    LogRange,
    Put,
    Read,
    Trim,
    Write,
)
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import attribute_index, decode_attributes
from floxide_amqp.stores.dead_letters import decode_letter
from floxide_amqp.stores.parked_places import leave_parked
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.writes import BatchWriter

PAGE = 500
"""Records that one commit removes at most."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run's entry among those that ended so, at a time; its workflow is empty if an older release noted it."""

    status: RunStatus
    ended_at_ms: int
    run_id: RunId
    workflow: str = ""

    @property
    def entry(self) -> str:
        """Where it stands in the index."""
        return run_list_keys.timed_run(self.ended_at_ms, self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedRun:
    """A run's entry in an index of those that are to be deleted, as it lies in the store.

    Attributes:
        aside: Its entry among the runs set aside, because deleting it failed; empty of one that was not.
    """

    index: str
    entry: str
    run_id: RunId
    value: bytes = b""
    aside: str = ""


class RunRemoval:
    """Condemns, clears and forgets runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- what is due

    async def ended(self, status: RunStatus, *, until_ms: int, after: str = "", limit: int = PAGE) -> list[EndedRun]:
        """Return runs that ended so before a moment, earliest first; those behind the entry `after`, if it is given."""
        before = keys.timers_until(until_ms)
        wanted = IndexRange(run_list_keys.ended_runs(status), after=after, before=before, limit=limit)
        return [
            EndedRun(status, *run_list_keys.time_and_run(entry.entry), entry.value.decode(errors="replace"))
            for entry in await self._session.scan(wanted)
        ]

    async def condemned(self, *, limit: int = PAGE) -> list[tuple[int, RunId]]:
        """Return runs whose removal has begun, each with the time when it did, earliest first."""
        return await self._runs_of(IndexRange(keys.CONDEMNED, limit=limit))

    async def aside(self, *, until_ms: int, limit: int = PAGE) -> list[NotedRun]:
        """Return runs that could not be deleted and are to be tried again before a moment."""
        wanted = IndexRange(keys.RUNS_ASIDE, before=keys.timers_until(until_ms), limit=limit)
        found: list[NotedRun] = []
        for entry in await self._session.scan(wanted):
            index, original = keys.run_aside(entry.entry)
            _, run_id = run_list_keys.time_and_run(original)
            found.append(NotedRun(index=index, entry=original, run_id=run_id, value=entry.value, aside=entry.entry))
        return found

    async def set_aside(self, noted: NotedRun, again_at_ms: int) -> None:
        """Move a run that could not be deleted out of the way of the others."""
        aside = keys.aside_run(again_at_ms, noted.index, noted.entry)
        writes = (Leave(noted.index, noted.entry), Enter(keys.RUNS_ASIDE, aside, noted.value))
        await self._session.commit(Batch(slot=slot_of(noted.run_id), writes=writes))

    async def bring_back(self, noted: NotedRun) -> None:
        """Put a run that was set aside back where it stood."""
        writes = (Leave(keys.RUNS_ASIDE, noted.aside), Enter(noted.index, noted.entry, noted.value))
        await self._session.commit(Batch(slot=slot_of(noted.run_id), writes=writes))

    async def expired(self, *, until_ms: int, limit: int = PAGE) -> list[tuple[int, RunId]]:
        """Return tombstones whose time was over before a moment, each with that time."""
        return await self._runs_of(IndexRange(keys.TOMBSTONES, before=keys.timers_until(until_ms), limit=limit))

    async def _runs_of(self, wanted: IndexRange) -> list[tuple[int, RunId]]:
        return [run_list_keys.time_and_run(entry.entry) for entry in await self._session.scan(wanted)]

    # --- one run

    async def condemn(self, run: StoredRun, now_ms: int) -> bool:
        """Take an ended run out of the store for everybody; False if something touched it meanwhile.

        A commit whose reply was lost conflicts with itself when it is sent again: the tombstone tells that it was this.
        """
        header, state = run.header, run.state
        ended_at = state.finished_at_ms or state.updated_at_ms
        tombstone = Tombstone(
            run_id=header.run_id, workflow=header.workflow, version=header.version, input_digest=header.input_digest,
            status=state.status, ended_at_ms=ended_at, deleted_at_ms=now_ms,
            openers=await self._foreign_openers(header),
        )  # fmt: skip
        run_id, run_entry = header.run_id, run.writer.run_entry
        attributes, leaves = await self._attribute_leaves(run_id, run_entry)
        writes: tuple[Write, ...] = (
            Put(keys.tombstone(run_id), codec.encode_tombstone(tombstone)),
            Enter(keys.CONDEMNED, run_list_keys.timed_run(now_ms, run_id)),
            Delete(keys.state(run_id)),
            Delete(keys.header(run_id)),
            Leave(run_list_keys.RUNS, run_entry),
            Leave(run_list_keys.runs_of_workflow(header.workflow), run_entry),
            Leave(run_list_keys.runs_with_status(state.status), run_entry),
            Leave(run_list_keys.ended_runs(state.status), run_list_keys.timed_run(ended_at, run_id)),
            *leaves,
        )
        checks = (Check(keys.state(run_id), run.epoch), Check(keys.attributes(run_id), attributes))
        outcome = await self._session.commit(Batch(slot=slot_of(run_id), checks=checks, writes=writes))
        return isinstance(outcome, Committed) or await self._was_condemned_at(run_id, now_ms)

    async def _foreign_openers(self, header: RunHeader) -> tuple[str, ...]:
        """Return what opened the fan-outs that a forked run began in: its own history does not name it."""
        if header.forked_from is None:
            return ()
        cell = keys.item(header.run_id, header.start_item)
        found = (await self._session.read(Read(slot=slot_of(header.run_id), cells=(cell,)))).cells[0]
        with suppress(CodecError):  # damaged: what arrived there is left behind
            return tuple(scope.partition(".")[0] for scope in codec.decode_item(found.value).scope)
        return ()

    async def _was_condemned_at(self, run_id: RunId, now_ms: int) -> bool:
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.tombstone(run_id),)))).cells[0]
        return cell.version != ABSENT and codec.decode_tombstone(cell.value).deleted_at_ms == now_ms

    async def _attribute_leaves(self, run_id: RunId, run_entry: str) -> tuple[int, list[Leave]]:
        """Return the version of a run's attributes, and what takes it out of the lists of runs that have them."""
        cell = (await self._session.read(Read(slot=slot_of(run_id), cells=(keys.attributes(run_id),)))).cells[0]
        leaves: list[Leave] = []
        with suppress(CodecError):  # damaged: the entries lead to no run, and are passed over
            attributes = decode_attributes(cell.value) if cell.version else {}
            leaves = [Leave(attribute_index(name, value), run_entry) for name, value in attributes.items()]
        return cell.version, leaves

    async def forget_entry(self, ended: EndedRun) -> None:
        """Take an entry away whose run goes on, or ended at another time too."""
        entry = Leave(run_list_keys.ended_runs(ended.status), ended.entry)
        await self._session.commit(Batch(slot=slot_of(ended.run_id), writes=(entry,)))

    async def forget_condemned(self, deleted_at_ms: int, run_id: RunId) -> None:
        """Take an entry away whose run is cleared."""
        entry = Leave(keys.CONDEMNED, run_list_keys.timed_run(deleted_at_ms, run_id))
        await self._session.commit(Batch(slot=slot_of(run_id), writes=(entry,)))

    async def clear(self, tombstone: Tombstone, version: int, *, free_at_ms: int) -> bool:
        """Remove one more page of what a condemned run left behind; return whether nothing is left.

        Args:
            tombstone: The run's.
            version: Its version, as read.
            free_at_ms: When the tombstone goes too, and with it the id is free.
        """
        run_id = tombstone.run_id
        writes = (
            await self._live_page(tombstone) or await self._arrivals_page(tombstone) or await self._log_page(run_id)
        )
        if not writes:
            outcome = await self._commit(run_id, version, (Clear(run_id, PAGE, (keys.tombstone(run_id).name,)),))
            if outcome is not None and outcome.cleared >= PAGE:
                return False
            writes = (
                Put(keys.tombstone(run_id), codec.encode_tombstone(replace(tombstone, is_cleared=True))),
                Leave(keys.CONDEMNED, run_list_keys.timed_run(tombstone.deleted_at_ms, run_id)),
                Enter(keys.TOMBSTONES, run_list_keys.timed_run(free_at_ms, run_id)),
            )
            await self._commit(run_id, version, writes)
            return True
        return await self._commit(run_id, version, writes) is None

    async def forget(self, run_id: RunId, free_at_ms: int, version: int) -> None:
        """Take a tombstone away; its id is free."""
        writes = (Delete(keys.tombstone(run_id)), Leave(keys.TOMBSTONES, run_list_keys.timed_run(free_at_ms, run_id)))
        await self._commit(run_id, version, writes)

    async def _commit(self, run_id: RunId, version: int, writes: tuple[Write, ...]) -> Committed | None:
        """Commit while the tombstone is as it was read; None if somebody else has come further."""
        checks = (Check(keys.tombstone(run_id), version),)
        outcome = await self._session.commit(Batch(slot=slot_of(run_id), checks=checks, writes=writes))
        return outcome if isinstance(outcome, Committed) else None

    # --- pages

    async def _live_page(self, tombstone: Tombstone) -> tuple[Write, ...]:
        """What leads to items that never ended: their place among the live ones, timers, owner and parked entries."""
        run_id = tombstone.run_id
        live = keys.live_items(run_id)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), indexes=(IndexRange(live, limit=PAGE),)))
        ids = [WorkItemId(entry.entry) for entry in snapshot.indexes[0]]
        if not ids:
            return ()
        cells = [*(keys.item(run_id, one) for one in ids), *(keys.dead_letter(run_id, one) for one in ids)]
        found = (await self._session.read(Read(slot=slot_of(run_id), cells=tuple(cells)))).cells
        changes: list[c.Change] = []
        for item_id, cell, letter in zip(ids, found[: len(ids)], found[len(ids) :], strict=True):
            with suppress(CodecError):  # what leads to an item that nobody can read finds nothing, and is dropped then
                changes += _led_to(tombstone, codec.decode_item(cell.value), cell.version) if cell.version else ()
            with suppress(CodecError):
                changes += (c.DropDeadLetter(decode_letter(letter.value).letter_id, item_id),) if letter.version else ()
        return (*(Leave(live, item_id) for item_id in ids), *BatchWriter(run_id, 0).writes(changes))

    async def _arrivals_page(self, tombstone: Tombstone) -> tuple[Write, ...]:
        """What arrived at joins, and outputs: by the items in the history, any of which may have opened a fan-out."""
        run_id = tombstone.run_id
        history, slot = keys.history(run_id), slot_of(run_id)
        page = (await self._session.read(Read(slot=slot, logs=(LogRange(history, 0, PAGE),)))).logs[0]
        names = [
            keys.arrivals(run_id, opener) for opener in (*keys.ALWAYS, *tombstone.openers, *_items_of(page.entries))
        ]
        first = await self._session.read(Read(slot=slot, indexes=tuple(IndexRange(name, limit=1) for name in names)))
        writes: list[Write] = []
        for name in (name for name, entries in zip(names, first.indexes, strict=True) if entries):
            left = IndexRange(name, limit=PAGE - len(writes))
            arrived = (await self._session.read(Read(slot=slot, indexes=(left,)))).indexes[0]
            writes += (Leave(name, entry.entry) for entry in arrived)
            if len(writes) >= PAGE:
                return tuple(writes)
        if page.entries:
            writes.append(Trim(history, page.first + len(page.entries)))
        return tuple(writes)

    async def _log_page(self, run_id: RunId) -> tuple[Write, ...]:
        named = (keys.context_log, keys.errors, keys.audit, keys.compensables, keys.moments)
        logs = [log(run_id) for log in named]
        asked = tuple(LogRange(log, 0, 1) for log in logs)
        pages = (await self._session.read(Read(slot=slot_of(run_id), logs=asked))).logs
        return tuple(
            Trim(log, min(page.length, page.first + PAGE))
            for log, page in zip(logs, pages, strict=True)
            if page.length - page.first > PAGE
        )


def _items_of(history: Sequence[bytes]) -> Iterator[WorkItemId]:
    for entry in history:
        with suppress(CodecError):  # an entry that nobody can read keeps no run from being removed
            yield codec.decode_history(entry).item_id


def _led_to(tombstone: Tombstone, item: WorkItem, turn: int) -> Sequence[c.Change]:
    """What an item that never ended left in indexes that span all runs."""
    changes: list[c.Change] = []
    if item.owner:
        changes.append(LeaveOwner(item.owner, item.item_id))
    if item.due_ms:
        kind = TimerKind.HOLD if item.status is WorkItemStatus.HELD else TimerKind.RETRY
        timer = Timer(due_ms=item.due_ms, run_id=tombstone.run_id, item_id=item.item_id, kind=kind, turn=turn)
        changes.append(DropTimer(timer))
    return [*changes, *leave_parked(item, tombstone.workflow, tombstone.version)]
