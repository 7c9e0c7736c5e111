"""Turns a decision, in the words of the domain, into one atomic batch of the key-value port."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core import changes as c
from floxide_amqp.core.commit_conditions import (
    AttributesAre,
    Condition,
    ContextLengthIs,
    EpochIs,
    LetterIsNew,
    NotDeleted,
    ScopeIsOpen,
    TurnIs,
)
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.joins import arrived, waiting
from floxide_amqp.core.kin import ALONE, Kin
from floxide_amqp.core.kin_changes import ChildIs, PutChild
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
from floxide_amqp.core.log_changes import (
    AppendAudit,
    AppendCompensable,
    AppendDelta,
    AppendError,
    AppendHistory,
    AppendMoment,
)
from floxide_amqp.core.place_changes import (
    DropTimer,
    EnterBegun,
    EnterMessage,
    EnterOwner,
    EnterParked,
    LeaveBegun,
    LeaveMessage,
    LeaveOwner,
    LeaveParked,
    PlaceChange,
    SetTimer,
)
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
from floxide_amqp.stores import child_keys, keys, parked_keys, run_list_keys
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
        self.run_entry = run_list_keys.run_entry(created_at_ms, run_id)
        self._live = keys.live_items(run_id)
        self._state = keys.state(run_id)
        self._counts: dict[str, Key] = {}

    def batch(
        self,
        conditions: Iterable[Condition],
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

    def _count(self, name: str) -> Key:
        key = self._counts.get(name)
        if key is None:
            key = self._counts[name] = keys.count(self.run_id, name)
        return key

    def _put_item(self, change: c.PutItem, token: bytes, out: list[Write]) -> None:
        item = change.item
        out.append(Put(keys.item(self.run_id, item.item_id), codec.encode_item(item, token)))
        if change.is_listed:
            out.append(Enter(self._live, item.item_id, STATUS_LETTERS[item.status]))
        else:
            out.append(Leave(self._live, item.item_id))

    def _condition(self, condition: Condition) -> Precondition:
        match condition:
            case TurnIs(item_id, turn):
                return Check(keys.item(self.run_id, item_id), turn)
            case EpochIs(epoch):
                return Check(self._state, epoch)
            case NotDeleted():
                return Check(keys.tombstone(self.run_id), ABSENT)
            case ScopeIsOpen(scope_id):
                return Check(keys.scope(self.run_id, scope_id), 1)
            case AttributesAre(version):
                return Check(keys.attributes(self.run_id), version)
            case SignalIsNew() | MailIsThere() | MailboxIs() | WaitersAre():
                return signal_check(self.run_id, condition)
            case ContextLengthIs(length):
                return CheckLength(keys.context_log(self.run_id), length)
            case ChildIs(child_id, version):
                return Check(child_keys.child(self.run_id, child_id), version)
            case LetterIsNew(letter_id):
                return Check(keys.received(self.run_id, letter_id), ABSENT)

    def _change(self, change: c.Change, token: bytes, out: list[Write]) -> None:
        run_id = self.run_id
        match change:  # what every step writes comes first: the classes are asked one after the other
            case c.Count():
                out.append(Add(self._count(change.name), change.amount))
            case c.PutItem():
                self._put_item(change, token, out)
            case AppendHistory():
                out.append(Append(keys.history(run_id), (codec.encode_history(change.entry),)))
            case c.PutHeader() | c.PutRun() | c.RelistRun():
                self._run(change, out)
            case c.MoveContext(position, snapshot, segments):
                out += moved_context(run_id, position, snapshot, segments)
            case c.PutAttributes(before, after):
                out += attribute_writes(run_id, self.run_entry, before, after)
            case c.CountScope() | c.CountJoins():
                out.append(Add(self._counter(change), change.amount))
            case c.Arrive(opener, order, item_id, payload):
                out.append(Enter(keys.arrivals(run_id, opener), keys.arrival_entry(order, item_id), payload))
            case c.OpenScope() | c.CloseScope() | c.PutPage() | c.DropPage():
                out.append(self._fan_out(change))
            case (
                AppendDelta()
                | AppendError()
                | AppendMoment()
                | AppendAudit()
                | AppendCompensable()
                | c.ArriveAt()
                | c.AwaitJoin()
            ):
                out.append(self._append(change))
            case NoteSignal() | KeepMail() | TakeMail() | EnterWait() | LeaveWait():
                out += signal_writes(run_id, change, token)
            case c.PutDeadLetter() | c.DropDeadLetter() | c.PostLetter() | c.MarkReceived():
                out += self._letter(change)
            case PutChild(child, is_new):
                out += child_writes(run_id, child, is_new=is_new)
            case c.WhenScope() | c.WhenCount() | c.WhenJoins():
                then, otherwise = self.writes(change.then, token), self.writes(change.otherwise, token)
                out.append(When(self._counter(change), change.equals, then, otherwise))
            case EnterTicket() | LeaveTicket():
                out.append(ticket_write(run_id, change))
            case _:
                out.append(self._entry(change))

    def _run(self, change: c.PutHeader | c.PutRun | c.RelistRun, out: list[Write]) -> None:
        match change:
            case c.PutHeader(header):
                out.append(Put(keys.header(self.run_id), codec.encode_header(header)))
                out.append(Enter(run_list_keys.RUNS, self.run_entry))
                out.append(Enter(run_list_keys.runs_of_workflow(header.workflow), self.run_entry))
            case c.RelistRun(status, version):
                listed = run_list_keys.runs_with_status(status)
                out.append(Enter(listed, self.run_entry, run_list_keys.listed_as(self.workflow, version)))
            case c.PutRun(state, was):
                out.append(Put(keys.state(self.run_id), codec.encode_state(state)))
                if was is not state.status:
                    self._move(was, state, out)

    def _fan_out(self, change: c.OpenScope | c.CloseScope | c.PutPage | c.DropPage) -> Write:
        match change:
            case c.OpenScope(scope) | c.CloseScope(scope):
                return Put(keys.scope(self.run_id, scope.scope_id), codec.encode_scope(scope))
            case c.PutPage(opener, number, routes):
                return Put(keys.page(self.run_id, opener, number), codec.encode_page(routes))
            case c.DropPage(opener, number):
                return Delete(keys.page(self.run_id, opener, number))

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

    def _counter(self, change: c.CountScope | c.CountJoins | c.WhenScope | c.WhenCount | c.WhenJoins) -> Key:
        """Return the counter that a change adds to, or asks about."""
        match change:
            case c.CountScope(path) | c.WhenScope(path):
                return keys.scope_count(self.run_id, path)
            case c.WhenCount(name):
                return self._count(name)
            case c.CountJoins(name) | c.WhenJoins(name):
                return keys.joined(self.run_id, name)

    def _append(
        self,
        change: AppendDelta | AppendError | AppendMoment | AppendAudit | AppendCompensable | c.ArriveAt
        | c.AwaitJoin,
    ) -> Write:  # fmt: skip
        match change:
            case c.ArriveAt(join_id, position, item_id, payload):
                arrival = codec.encode_join_arrival(position, item_id, payload)
                return Append(keys.joined(self.run_id, arrived(join_id)), (arrival,))
            case c.AwaitJoin(scope, join):
                return Append(keys.joined(self.run_id, waiting(scope)), (codec.encode_awaited_join(join),))
            case AppendMoment(moment):
                return Append(keys.moments(self.run_id), (encode_moment(moment),))
            case AppendAudit(record):
                return Append(keys.audit(self.run_id), (codec.encode_audit(record),))
            case AppendCompensable(step):
                return Append(keys.compensables(self.run_id), (codec.encode_compensable(step),))
            case AppendDelta(item_id, delta):
                return Append(keys.context_log(self.run_id), (codec.encode_delta(item_id, delta),))
            case AppendError(record):
                return Append(keys.errors(self.run_id), (codec.encode_error(record),))

    def _entry(self, change: PlaceChange) -> Write:
        run_id = self.run_id
        match change:
            case EnterBegun(step):
                return Enter(keys.begun(run_id), step.item_id, codec.encode_compensable(step))
            case LeaveBegun(item_id):
                return Leave(keys.begun(run_id), item_id)
            case EnterMessage(queue, entry, item_id, turn, publisher, tries):
                note = codec.encode_message_note(run_id, item_id, turn, publisher, tries)
                return Enter(keys.messages(queue), entry, note)
            case LeaveMessage(queue, entry):
                return Leave(keys.messages(queue), entry)
            case EnterOwner(worker, item_id):
                return Enter(keys.owned(worker), keys.place_entry(run_id, item_id))
            case LeaveOwner(worker, item_id):
                return Leave(keys.owned(worker), keys.place_entry(run_id, item_id))
            case SetTimer(timer):
                value = codec.encode_timer_value(timer.kind, timer.turn, timer.after)
                return Enter(keys.TIMERS, keys.timer_entry(timer), value)
            case DropTimer(timer):
                return Leave(keys.TIMERS, keys.timer_entry(timer))
            case EnterParked(queue, workflow, version, node, item_id):
                entry = parked_keys.parked_entry((workflow, version, node), run_id, item_id)
                return Enter(parked_keys.parked(queue), entry)
            case LeaveParked(queue, workflow, version, node, item_id):
                entry = parked_keys.parked_entry((workflow, version, node), run_id, item_id)
                return Leave(parked_keys.parked(queue), entry)

    def _move(self, was: RunStatus | None, state: RunState, out: list[Write]) -> None:
        if was is not None:
            out.append(Leave(run_list_keys.runs_with_status(was), self.run_entry))
        listed_as = run_list_keys.listed_as(self.workflow, self.version)
        out.append(Enter(run_list_keys.runs_with_status(state.status), self.run_entry, listed_as))
        if state.finished_at_ms is not None:
            entry = run_list_keys.timed_run(state.finished_at_ms, self.run_id)
            out.append(Enter(run_list_keys.ended_runs(state.status), entry, self.workflow.encode()))
