"""Turns a decision, in the words of the domain, into one atomic batch of the key-value port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias, cast, get_args

from floxide_amqp.core import changes as c
from floxide_amqp.core import commit_conditions as is_so
from floxide_amqp.core import log_changes as logged
from floxide_amqp.core import place_changes as places
from floxide_amqp.core import signal_changes as signals
from floxide_amqp.core.fast_dataclasses import maker, replace
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.kin import ALONE, Kin
from floxide_amqp.core.kin_changes import ChildIs, PutChild
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
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
from floxide_amqp.stores import child_keys, keys, run_list_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import attribute_writes
from floxide_amqp.stores.children import child_writes
from floxide_amqp.stores.context_snapshots import moved_context
from floxide_amqp.stores.dead_letters import encode_letter, encode_place
from floxide_amqp.stores.large_inputs import is_put, lies_apart, mark_as_put, without_input
from floxide_amqp.stores.letters import letter_writes
from floxide_amqp.stores.limit_keys import ticket_write
from floxide_amqp.stores.log_writes import Logged, log_write
from floxide_amqp.stores.place_writes import place_write
from floxide_amqp.stores.signal_writes import signal_check, signal_writes

STATUS_LETTERS = {status: status.value[0:2].encode() for status in WorkItemStatus}
"""How the list of live items tells an item's status without its record."""

_NO_ITEM = WorkItemId("")

_make_batch = maker(Batch)

_Checking: TypeAlias = Callable[["BatchWriter", Any], Precondition]
_Writing: TypeAlias = Callable[["BatchWriter", Any, bytes, list[Write]], None]


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
        self._history = keys.history(run_id)
        self._counts: dict[str, Key] = {}
        self._last_item, self._last_key = _NO_ITEM, self._state
        self._conditions: tuple[is_so.Condition, ...] = ()

    def batch(
        self,
        conditions: Iterable[is_so.Condition],
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
        checks = self._CHECKS
        self._conditions = conditions = tuple(conditions)
        return _make_batch(
            slot=slot_of(self.run_id),
            checks=tuple([checks[type(condition)](self, condition) for condition in conditions]),
            witness=None if witness is None else self._item(witness),
            writes=self.writes(changes, token),
            token=token,
        )

    def writes(self, changes: Iterable[c.Change], token: bytes = b"") -> tuple[Write, ...]:
        """Return the operations of some changes, in order."""
        writes: list[Write] = []
        for change in changes:
            self._WRITES[type(change)](self, change, token, writes)
        return tuple(writes)

    # --- keys that a step asks for again and again

    def _item(self, item_id: WorkItemId) -> Key:
        """Return an item's key; a step checks, puts and names as its witness the item that the one before put last."""
        if item_id != self._last_item:
            self._last_item, self._last_key = item_id, keys.item(self.run_id, item_id)
        return self._last_key

    def _count(self, name: str) -> Key:
        key = self._counts.get(name)
        if key is None:
            key = self._counts[name] = keys.count(self.run_id, name)
        return key

    # --- conditions

    def _turn(self, condition: is_so.TurnIs) -> Check:
        return Check(self._item(condition.item_id), condition.turn)

    def _epoch(self, condition: is_so.EpochIs) -> Check:
        return Check(self._state, condition.epoch)

    def _scope(self, condition: is_so.ScopeIsOpen) -> Check:
        return Check(keys.scope(self.run_id, condition.scope_id), 1)

    def _signal(self, condition: signals.SignalCondition) -> Check:
        return signal_check(self.run_id, condition)

    def _rarer(
        self,
        condition: is_so.NotDeleted | is_so.AttributesAre | is_so.ContextLengthIs | is_so.LetterIsNew | ChildIs,
    ) -> Precondition:
        run_id = self.run_id
        match condition:
            case is_so.NotDeleted():
                return Check(keys.tombstone(run_id), ABSENT)
            case is_so.AttributesAre(version):
                return Check(keys.attributes(run_id), version)
            case is_so.ContextLengthIs(length):
                return CheckLength(keys.context_log(run_id), length)
            case ChildIs(child_id, version):
                return Check(child_keys.child(run_id, child_id), version)
            case is_so.LetterIsNew(letter_id):
                return Check(keys.received(run_id, letter_id), ABSENT)

    # --- changes

    def _put_item(self, change: c.PutItem, token: bytes, out: list[Write]) -> None:
        item = change.item
        item_id = item.item_id
        if lies_apart(item.input):
            self._put_input(item_id, item.input.payload, out)
            item = without_input(item)
        elif change.dropped and lies_apart(replace(item.input, payload=change.dropped)):
            out.append(Put(keys.item_input(self.run_id, item_id), b""))
        out.append(Put(self._item(item_id), codec.encode_item(item, token)))
        if change.is_listed:
            out.append(Enter(self._live, item_id, STATUS_LETTERS[item.status]))
        else:
            out.append(Leave(self._live, item_id))

    def _put_input(self, item_id: WorkItemId, payload: bytes, out: list[Write]) -> None:
        """Put a large input apart, unless it is there: the item is put again, and its input is the same."""
        if is_put(payload, item_id) and any(
            isinstance(each, is_so.TurnIs) and each.item_id == item_id and each.turn for each in self._conditions
        ):
            return
        mark_as_put(payload, item_id)
        out.append(Put(keys.item_input(self.run_id, item_id), bytes(payload)))  # plain to a driver, which may keep it

    def _add(self, change: c.Count, token: bytes, out: list[Write]) -> None:
        del token
        out.append(Add(self._count(change.name), change.amount))

    def _add_to_scope(self, change: c.CountScope, token: bytes, out: list[Write]) -> None:
        del token
        out.append(Add(keys.scope_count(self.run_id, change.scope), change.amount))

    def _add_to_joins(self, change: c.CountJoins, token: bytes, out: list[Write]) -> None:
        del token
        out.append(Add(keys.joined(self.run_id, change.name), change.amount))

    def _append_history(self, change: logged.AppendHistory, token: bytes, out: list[Write]) -> None:
        del token
        out.append(Append(self._history, (codec.encode_history(change.entry),)))

    def _arrive(self, change: c.Arrive, token: bytes, out: list[Write]) -> None:
        del token
        entry = keys.arrival_entry(change.order, change.item_id)
        out.append(Enter(keys.arrivals(self.run_id, change.opener), entry, change.payload))

    def _when(self, change: c.WhenScope | c.WhenCount | c.WhenJoins, token: bytes, out: list[Write]) -> None:
        match change:
            case c.WhenScope():
                counter = keys.scope_count(self.run_id, change.scope)
            case c.WhenCount():
                counter = self._count(change.name)
            case c.WhenJoins():
                counter = keys.joined(self.run_id, change.name)
        then, otherwise = self.writes(change.then, token), self.writes(change.otherwise, token)
        out.append(When(counter, change.equals, then, otherwise))

    def _log(self, change: Logged, token: bytes, out: list[Write]) -> None:
        del token
        out.append(log_write(self.run_id, change))

    def _place(self, change: places.PlaceChange, token: bytes, out: list[Write]) -> None:
        del token
        out.append(place_write(self.run_id, change))

    def _ticket(self, change: EnterTicket | LeaveTicket, token: bytes, out: list[Write]) -> None:
        del token
        out.append(ticket_write(self.run_id, change))

    def _fan_out(
        self, change: c.OpenScope | c.CloseScope | c.PutPage | c.DropPage, token: bytes, out: list[Write]
    ) -> None:
        del token
        match change:
            case c.OpenScope(scope) | c.CloseScope(scope):
                out.append(Put(keys.scope(self.run_id, scope.scope_id), codec.encode_scope(scope)))
            case c.PutPage(opener, number, routes):
                out.append(Put(keys.page(self.run_id, opener, number), codec.encode_page(routes)))
            case c.DropPage(opener, number):
                out.append(Delete(keys.page(self.run_id, opener, number)))

    def _signals(self, change: signals.SignalChange, token: bytes, out: list[Write]) -> None:
        out += signal_writes(self.run_id, change, token)

    def _put_run(self, change: c.PutRun, token: bytes, out: list[Write]) -> None:
        del token
        out.append(Put(self._state, codec.encode_state(change.state)))
        if change.was is not change.state.status:
            self._move(change.was, change.state, out)

    def _move(self, was: RunStatus | None, state: RunState, out: list[Write]) -> None:
        if was is not None:
            out.append(Leave(run_list_keys.runs_with_status(was), self.run_entry))
        listed_as = run_list_keys.listed_as(self.workflow, self.version)
        out.append(Enter(run_list_keys.runs_with_status(state.status), self.run_entry, listed_as))
        if state.finished_at_ms is not None:
            entry = run_list_keys.timed_run(state.finished_at_ms, self.run_id)
            out.append(Enter(run_list_keys.ended_runs(state.status), entry, self.workflow.encode()))

    def _several(
        self,
        change: c.PutHeader | c.RelistRun | c.MoveContext | c.PutAttributes | c.PutDeadLetter | c.DropDeadLetter
        | c.PostLetter | c.MarkReceived | PutChild,
        token: bytes,
        out: list[Write],
    ) -> None:  # fmt: skip
        del token
        run_id = self.run_id
        match change:
            case c.PutHeader(header):
                out.append(Put(keys.header(run_id), codec.encode_header(header)))
                out.append(Enter(run_list_keys.RUNS, self.run_entry))
                out.append(Enter(run_list_keys.runs_of_workflow(header.workflow), self.run_entry))
            case c.RelistRun(status, version):
                listed = run_list_keys.runs_with_status(status)
                out.append(Enter(listed, self.run_entry, run_list_keys.listed_as(self.workflow, version)))
            case c.MoveContext(position, snapshot, segments):
                out += moved_context(run_id, position, snapshot, segments)
            case c.PutAttributes(before, after):
                out += attribute_writes(run_id, self.run_entry, before, after)
            case c.PutDeadLetter(letter):
                place = encode_place(run_id, letter.item_id)
                out.append(Put(keys.dead_letter(run_id, letter.item_id), encode_letter(letter)))
                out.append(Enter(keys.DEAD_LETTERS, letter.letter_id, place))
            case c.DropDeadLetter(letter_id, item_id):
                out += (Delete(keys.dead_letter(run_id, item_id)), Leave(keys.DEAD_LETTERS, letter_id))
            case c.PostLetter(posted):
                out += letter_writes(posted)
            case c.MarkReceived(letter_id):
                out.append(Put(keys.received(run_id, letter_id), b""))
            case PutChild(child, is_new):
                out += child_writes(run_id, child, is_new=is_new)

    _CHECKS: ClassVar = cast(
        "Mapping[type, _Checking]",
        {
            is_so.TurnIs: _turn,
            is_so.EpochIs: _epoch,
            is_so.ScopeIsOpen: _scope,
            **dict.fromkeys(get_args(signals.SignalCondition), _signal),
            **dict.fromkeys((is_so.NotDeleted, is_so.AttributesAre, is_so.ContextLengthIs), _rarer),
            **dict.fromkeys((is_so.LetterIsNew, ChildIs), _rarer),
        },
    )
    _WRITES: ClassVar = cast(
        "Mapping[type, _Writing]",
        {
            c.PutItem: _put_item,
            c.Count: _add,
            logged.AppendHistory: _append_history,
            c.PutRun: _put_run,
            c.Arrive: _arrive,
            c.CountScope: _add_to_scope,
            c.CountJoins: _add_to_joins,
            **dict.fromkeys((c.WhenScope, c.WhenCount, c.WhenJoins), _when),
            **dict.fromkeys(get_args(places.PlaceChange), _place),
            **dict.fromkeys(get_args(Logged), _log),
            **dict.fromkeys((c.OpenScope, c.CloseScope, c.PutPage, c.DropPage), _fan_out),
            **dict.fromkeys(get_args(signals.SignalChange), _signals),
            **dict.fromkeys((EnterTicket, LeaveTicket), _ticket),
            **dict.fromkeys((c.PutHeader, c.RelistRun, c.MoveContext, c.PutAttributes, PutChild), _several),
            **dict.fromkeys((c.PutDeadLetter, c.DropDeadLetter, c.PostLetter, c.MarkReceived), _several),
        },
    )
