"""Turns a decision, in the words of the domain, into one atomic batch of the key-value port."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core import changes as c
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.joins import arrived, waiting
from floxide_amqp.core.kin import ALONE, Kin
from floxide_amqp.core.kin_changes import ChildIs, PutChild
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
from floxide_amqp.core.records import RunState
from floxide_amqp.core.signal_changes import (
    EnterWait,
    KeepMail,
    LeaveWait,
    MailboxIs,
    MailIsThere,
    NoteSignal,
    SignalIsNew,
    TakeMail,
    WaitersAre,
)
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
from floxide_amqp.stores.attributes import attribute_writes
from floxide_amqp.stores.children import child_writes
from floxide_amqp.stores.context_snapshots import moved_context
from floxide_amqp.stores.dead_letters import encode_letter, encode_place
from floxide_amqp.stores.letters import letter_writes
from floxide_amqp.stores.limit_keys import ticket_write
from floxide_amqp.stores.moments import encode_moment
from floxide_amqp.stores.signal_writes import signal_check, signal_writes

STATUS_LETTERS = {status: status.value[0:2].encode() for status in WorkItemStatus}
"""How the list of live items tells an item's status without its record."""


class BatchWriter:
    """Builds the batches of one run.

    Attributes:
        run_entry: The run's entry in the lists of runs, from its header's creation time.
        workflow: Its workflow's name, for the list of ended runs; empty where nothing is written that may end it.
        kin: Who must be told when it ends.
        version: Its workflow's version, for the lists of runs by status; empty where it is not known.
    """

    def __init__(
        self, run_id: RunId, created_at_ms: int, workflow: str = "", kin: Kin = ALONE, version: str = ""
    ) -> None:
        self.run_id = run_id
        self.version = version
        self.kin = kin
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
            if isinstance(change, c.Count):  # as most of them are
                writes.append(Add(keys.count(self.run_id, change.name), change.amount))
            else:
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
            case c.AttributesAre(version):
                return Check(keys.attributes(self.run_id), version)
            case SignalIsNew() | MailIsThere() | MailboxIs() | WaitersAre():
                return signal_check(self.run_id, condition)
            case c.ContextLengthIs(length):
                return CheckLength(keys.context_log(self.run_id), length)
            case ChildIs(child_id, version):
                return Check(keys.child(self.run_id, child_id), version)
            case c.LetterIsNew(letter_id):
                return Check(keys.received(self.run_id, letter_id), ABSENT)

    def _change(self, change: c.Change, token: bytes, out: list[Write]) -> None:
        run_id = self.run_id
        match change:
            case c.PutItem(item, is_listed):
                out.append(Put(keys.item(run_id, item.item_id), codec.encode_item(item, token)))
                live = keys.live_items(run_id)
                letters = STATUS_LETTERS[item.status]
                out.append(Enter(live, item.item_id, letters) if is_listed else Leave(live, item.item_id))
            case c.PutHeader() | c.PutRun() | c.RelistRun():
                self._run(change, out)
            case c.MoveContext(position, snapshot, segments):
                out += moved_context(run_id, position, snapshot, segments)
            case c.PutAttributes(before, after):
                out += attribute_writes(run_id, self.run_entry, before, after)
            case c.OpenScope(scope) | c.CloseScope(scope):
                out.append(Put(keys.scope(run_id, scope.scope_id), codec.encode_scope(scope)))
            case c.CountScope() | c.Count() | c.CountJoins():
                out.append(Add(self._counter(change), change.amount))
            case c.Arrive(opener, order, item_id, payload):
                out.append(Enter(keys.arrivals(run_id, opener), keys.arrival_entry(order, item_id), payload))
            case c.PutPage() | c.DropPage():
                page = keys.page(run_id, change.opener, change.number)
                routes = change.routes if isinstance(change, c.PutPage) else None
                out.append(Delete(page) if routes is None else Put(page, codec.encode_page(routes)))
            case (
                c.AppendDelta()
                | c.AppendError()
                | c.AppendHistory()
                | c.AppendMoment()
                | c.AppendAudit()
                | c.AppendCompensable()
                | c.ArriveAt()
                | c.AwaitJoin()
            ):
                out.append(self._append(change))
            case NoteSignal() | KeepMail() | TakeMail() | EnterWait() | LeaveWait():
                out += signal_writes(run_id, change, token)
            case c.PutDeadLetter() | c.DropDeadLetter() | c.PostLetter() | c.MarkReceived():
                out += self._letter(change)
            case EnterTicket() | LeaveTicket():
                out.append(ticket_write(run_id, change))
            case PutChild(child, is_new):
                out += child_writes(run_id, child, is_new=is_new)
            case c.WhenScope() | c.WhenCount() | c.WhenJoins():
                then, otherwise = self.writes(change.then, token), self.writes(change.otherwise, token)
                out.append(When(self._counter(change), change.equals, then, otherwise))
            case _:
                out.append(self._entry(change))

    def _run(self, change: c.PutHeader | c.PutRun | c.RelistRun, out: list[Write]) -> None:
        match change:
            case c.PutHeader(header):
                out.append(Put(keys.header(self.run_id), codec.encode_header(header)))
                out.append(Enter(keys.RUNS, self.run_entry))
                out.append(Enter(keys.runs_of_workflow(header.workflow), self.run_entry))
            case c.RelistRun(status, version):
                listed = keys.runs_with_status(status)
                out.append(Enter(listed, self.run_entry, keys.listed_as(self.workflow, version)))
            case c.PutRun(state, was):
                out.append(Put(keys.state(self.run_id), codec.encode_state(state)))
                if was is not state.status:
                    self._move(was, state, out)

    def _letter(self, change: c.PutDeadLetter | c.DropDeadLetter | c.PostLetter | c.MarkReceived) -> tuple[Write, ...]:
        run_id = self.run_id
        match change:
            case c.PutDeadLetter(letter):
                place = encode_place(run_id, letter.item_id)
                return (
                    Put(keys.dead_letter(run_id, letter.item_id), encode_letter(letter)),
                    Enter(keys.DEAD_LETTERS, letter.letter_id, place),
                )
            case c.DropDeadLetter(letter_id, item_id):
                return Delete(keys.dead_letter(run_id, item_id)), Leave(keys.DEAD_LETTERS, letter_id)
            case c.PostLetter(posted):
                return letter_writes(posted)
            case c.MarkReceived(letter_id):
                return (Put(keys.received(run_id, letter_id), b""),)

    def _counter(self, change: c.CountScope | c.Count | c.CountJoins | c.WhenScope | c.WhenCount | c.WhenJoins) -> Key:
        """Return the counter that a change adds to, or asks about."""
        match change:
            case c.CountScope(path) | c.WhenScope(path):
                return keys.scope_count(self.run_id, path)
            case c.Count(name) | c.WhenCount(name):
                return keys.count(self.run_id, name)
            case c.CountJoins(name) | c.WhenJoins(name):
                return keys.joined(self.run_id, name)

    def _append(
        self,
        change: c.AppendDelta | c.AppendError | c.AppendHistory | c.AppendMoment | c.AppendAudit | c.AppendCompensable
        | c.ArriveAt | c.AwaitJoin,
    ) -> Write:  # fmt: skip
        match change:
            case c.ArriveAt(join_id, position, item_id, payload):
                arrival = codec.encode_join_arrival(position, item_id, payload)
                return Append(keys.joined(self.run_id, arrived(join_id)), (arrival,))
            case c.AwaitJoin(scope, join):
                return Append(keys.joined(self.run_id, waiting(scope)), (codec.encode_awaited_join(join),))
            case c.AppendMoment(moment):
                return Append(keys.moments(self.run_id), (encode_moment(moment),))
            case c.AppendAudit(record):
                return Append(keys.audit(self.run_id), (codec.encode_audit(record),))
            case c.AppendCompensable(step):
                return Append(keys.compensables(self.run_id), (codec.encode_compensable(step),))
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
        | c.LeaveParked
        | c.EnterBegun
        | c.LeaveBegun,
    ) -> Write:
        run_id = self.run_id
        match change:
            case c.EnterBegun(step):
                return Enter(keys.begun(run_id), step.item_id, codec.encode_compensable(step))
            case c.LeaveBegun(item_id):
                return Leave(keys.begun(run_id), item_id)
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

    def _move(self, was: RunStatus | None, state: RunState, out: list[Write]) -> None:
        if was is not None:
            out.append(Leave(keys.runs_with_status(was), self.run_entry))
        listed_as = keys.listed_as(self.workflow, self.version)
        out.append(Enter(keys.runs_with_status(state.status), self.run_entry, listed_as))
        if state.finished_at_ms is not None:
            entry = keys.timed_run(state.finished_at_ms, self.run_id)
            out.append(Enter(keys.ended_runs(state.status), entry, self.workflow.encode()))
