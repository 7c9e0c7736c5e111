"""Turns a decision, in the words of the domain, into one atomic batch of the key-value port."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core import changes as c
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.records import RunState
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
    Delete,
    Enter,
    Key,
    Leave,
    Precondition,
    Put,
    When,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.dead_letters import encode_letter, encode_place

STATUS_LETTERS = {status: status.value[0:2].encode() for status in WorkItemStatus}
"""How the list of live items tells an item's status without its record."""


class BatchWriter:
    """Builds the batches of one run.

    Attributes:
        run_entry: The run's entry in the lists of runs, from its header's creation time.
        workflow: Its workflow's name, for the list of ended runs; empty where nothing is written that may end it.
    """

    def __init__(self, run_id: RunId, created_at_ms: int, workflow: str = "") -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.run_entry = keys.run_entry(created_at_ms, run_id)

    def batch(
        self,
        conditions: Iterable[c.Condition],
        changes: Iterable[c.Change],
        *,
        token: bytes = b"",
        witness: WorkItemId | None = None,
    ) -> Batch:
        """Return one atomic batch.

        Args:
            conditions: What must still hold.
            changes: What is written if it does.
            token: Unique per commit; kept in every item it writes.
            witness: The item by which a lost reply is settled; one that the changes put unconditionally.
        """
        return Batch(
            slot=slot_of(self.run_id),
            checks=tuple(self._condition(condition) for condition in conditions),
            writes=self.writes(changes, token),
            token=token,
            witness=None if witness is None else keys.item(self.run_id, witness),
        )

    def writes(self, changes: Iterable[c.Change], token: bytes = b"") -> tuple[Write, ...]:
        """Return the operations of some changes, in order."""
        writes: list[Write] = []
        for change in changes:
            self._change(change, token, writes)
        return tuple(writes)

    def _condition(self, condition: c.Condition) -> Precondition:
        match condition:
            case c.TurnIs(item_id, turn):
                return Check(keys.item(self.run_id, item_id), turn)
            case c.EpochIs(epoch):
                return Check(keys.state(self.run_id), epoch)
            case c.NotDeleted():
                return Check(keys.tombstone(self.run_id), ABSENT)
            case c.ScopeIsOpen(scope_id):
                return Check(keys.scope(self.run_id, scope_id), 1)
            case c.ContextLengthIs(length):
                return CheckLength(keys.context_log(self.run_id), length)

    def _change(self, change: c.Change, token: bytes, out: list[Write]) -> None:
        run_id = self.run_id
        match change:
            case c.PutItem(item, is_listed):
                out.append(Put(keys.item(run_id, item.item_id), codec.encode_item(item, token)))
                live = keys.live_items(run_id)
                letters = STATUS_LETTERS[item.status]
                out.append(Enter(live, item.item_id, letters) if is_listed else Leave(live, item.item_id))
            case c.PutHeader(header):
                out.append(Put(keys.header(run_id), codec.encode_header(header)))
                out.append(Enter(keys.RUNS, self.run_entry))
                out.append(Enter(keys.runs_of_workflow(header.workflow), self.run_entry))
            case c.PutRun(state, was):
                out.append(Put(keys.state(run_id), codec.encode_state(state)))
                if was is not state.status:
                    self._move(was, state, out)
            case c.OpenScope(scope):
                out.append(Put(keys.scope(run_id, scope.scope_id), codec.encode_scope(scope)))
            case c.CountScope(path, amount):
                out.append(Add(keys.scope_count(run_id, path), amount))
            case c.Count(name, amount):
                out.append(Add(keys.count(run_id, name), amount))
            case c.Arrive(opener, order, item_id, payload):
                out.append(Enter(keys.arrivals(run_id, opener), keys.arrival_entry(order, item_id), payload))
            case c.PutPage(opener, number, routes):
                out.append(Put(keys.page(run_id, opener, number), codec.encode_page(routes)))
            case c.DropPage(opener, number):
                out.append(Delete(keys.page(run_id, opener, number)))
            case c.AppendDelta() | c.AppendError() | c.AppendHistory():
                out.append(self._append(change))
            case c.PutLetter(letter):
                out.append(Put(keys.dead_letter(run_id, letter.item_id), encode_letter(letter)))
                out.append(Enter(keys.DEAD_LETTERS, letter.letter_id, encode_place(run_id, letter.item_id)))
            case c.DropLetter(letter_id, item_id):
                out.append(Delete(keys.dead_letter(run_id, item_id)))
                out.append(Leave(keys.DEAD_LETTERS, letter_id))
            case c.WhenScope(path, equals, then, otherwise):
                out.append(self._when(keys.scope_count(run_id, path), equals, then, otherwise, token))
            case c.WhenCount(name, equals, then, otherwise):
                out.append(self._when(keys.count(run_id, name), equals, then, otherwise, token))
            case _:
                out.append(self._entry(change))

    def _append(self, change: c.AppendDelta | c.AppendError | c.AppendHistory) -> Write:
        match change:
            case c.AppendDelta(item_id, delta):
                return Append(keys.context_log(self.run_id), (codec.encode_delta(item_id, delta),))
            case c.AppendError(record):
                return Append(keys.errors(self.run_id), (codec.encode_error(record),))
            case c.AppendHistory(entry):
                return Append(keys.history(self.run_id), (codec.encode_history(entry),))

    def _entry(
        self,
        change: c.EnterMessage
        | c.LeaveMessage
        | c.EnterOwner
        | c.LeaveOwner
        | c.SetTimer
        | c.DropTimer
        | c.EnterParked
        | c.LeaveParked,
    ) -> Write:
        run_id = self.run_id
        match change:
            case c.EnterMessage(queue, entry, item_id, turn, publisher, tries):
                note = codec.encode_message_note(run_id, item_id, turn, publisher, tries)
                return Enter(keys.messages(queue), entry, note)
            case c.LeaveMessage(queue, entry):
                return Leave(keys.messages(queue), entry)
            case c.EnterOwner(worker, item_id):
                return Enter(keys.owned(worker), keys.place_entry(run_id, item_id))
            case c.LeaveOwner(worker, item_id):
                return Leave(keys.owned(worker), keys.place_entry(run_id, item_id))
            case c.SetTimer(timer):
                value = codec.encode_timer_value(timer.kind, timer.turn, timer.after)
                return Enter(keys.TIMERS, keys.timer_entry(timer), value)
            case c.DropTimer(timer):
                return Leave(keys.TIMERS, keys.timer_entry(timer))
            case c.EnterParked(queue, workflow, version, node, item_id):
                return Enter(keys.parked(queue), keys.parked_entry((workflow, version, node), run_id, item_id))
            case c.LeaveParked(queue, workflow, version, node, item_id):
                return Leave(keys.parked(queue), keys.parked_entry((workflow, version, node), run_id, item_id))

    def _when(
        self, counter: Key, equals: int, then: tuple[c.Change, ...], otherwise: tuple[c.Change, ...], token: bytes
    ) -> When:
        return When(counter, equals, self.writes(then, token), self.writes(otherwise, token))

    def _move(self, was: RunStatus | None, state: RunState, out: list[Write]) -> None:
        if was is not None:
            out.append(Leave(keys.runs_with_status(was), self.run_entry))
        out.append(Enter(keys.runs_with_status(state.status), self.run_entry))
        if state.finished_at_ms is not None:
            entry = keys.timed_run(state.finished_at_ms, self.run_id)
            out.append(Enter(keys.ended_runs(state.status), entry, self.workflow.encode()))
