"""Sending signals: one commit per value, in the slot of the run that gets it, then a message for the item it wakes.

A value goes to the item that has waited longest, else it is kept until a step takes it. A signal has an id, and a run
accepts each id once: so a commit whose reply was lost is repeated without harm, and so may a sender do.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from floxide_amqp.core import signal_moves
from floxide_amqp.core.decisions import Decision, Outgoing
from floxide_amqp.core.ids import RunId, ScopeId
from floxide_amqp.core.moment_moves import telling_of_signal
from floxide_amqp.core.records import Mail, RunHeader
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import (
    DefinitionError,
    FloxideError,
    InvalidRunStateError,
    MailboxFullError,
    PayloadMismatchError,
    PayloadTooLargeError,
    SignalConflictError,
    UnknownSignalError,
)
from floxide_amqp.ports.key_value import Conflict, Outcome
from floxide_amqp.runtime.payload_limits import check_payload
from floxide_amqp.runtime.publishing import publish_many
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.runtime.signal_waiters import GONE, find_waiter, note_closed
from floxide_amqp.stores import signal_keys
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.mailbox import SignalPlace
from floxide_amqp.stores.sealed_places import mail_place
from floxide_amqp.stores.writes import BatchWriter

T = TypeVar("T")

MAX_SIGNAL_ID_LENGTH = 200
"""Characters of a signal's id: it is a part of keys."""

GOES_ON = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED)
"""Stored statuses of runs that may still receive something."""

MAY_GO_ON = (*GOES_ON, RunStatus.FAILED)
"""The same with those that somebody may resume."""

AT_ONCE = 1_000
"""Signals on their way at a time: enough for full groups of the store, few enough to stay small in memory."""

LONGEST_STEP_BACK_SECONDS = 0.1
"""Longest pause before a signal is tried again because others changed the same run meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReport:
    """What became of signals sent to many runs.

    Attributes:
        accepted: How many runs accepted theirs.
        repeated: How many had accepted it before, under the same id.
        failures: Why the others did not, by run.
    """

    accepted: int
    repeated: int
    failures: Mapping[str, FloxideError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A value on its way to a run: encoded, and sealed for its place.

    Attributes:
        kind: Of the signal's values, as it is described.
        parts: What makes it the same as another one under the same id.
        digest: The same as a digest.
    """

    run_id: RunId
    mail: Mail
    kind: str
    parts: tuple[bytes, ...]
    digest: str


def prepare(services: Services, run_id: str, signal: Signal[T], value: T, signal_id: str) -> Sending:
    """Return a signal with its value encoded; nothing is stored yet.

    Raises:
        CodecError: The value is not of the signal's type, or too large.
        DefinitionError: The id cannot be one.
    """
    payload = encode_value(services, signal, value, signal_id)
    return sealed_for(
        services, RunId(run_id), signal.name, payload, signal_id=signal_id or uuid.uuid4().hex,
        kind=signal.payload.description,
    )  # fmt: skip


def encode_value(services: Services, signal: Signal[T], value: T, signal_id: str) -> bytes:
    """Return the value of a signal as bytes; raises as `prepare`."""
    if len(signal_id) > MAX_SIGNAL_ID_LENGTH or not signal_id.isprintable():
        raise DefinitionError(
            f"signal_id={signal_id!r} must be at most {MAX_SIGNAL_ID_LENGTH} printable characters; leave it out for a "
            "random one."
        )
    what = f"The value of signal {signal.name!r}"
    try:
        payload = encode_payload(signal.payload, value)
    except (PayloadMismatchError, PayloadTooLargeError) as error:
        raise error.at(what) from error
    check_payload(payload, services.limits, what)
    return payload


def sealed_for(
    services: Services,
    run_id: RunId,
    name: str,
    payload: bytes,
    *,
    signal_id: str,
    kind: str,
    sent: tuple[int, int] | None = None,
) -> Sending:
    """Return an encoded value sealed for its place.

    Args:
        services: The process's parts.
        run_id: Whose it is.
        name: The signal's.
        payload: The value.
        signal_id: Tells it from all others of the run.
        kind: Of the signal's values, as it is described.
        sent: When it was sent, and its number then; None for now.
    """
    sent_at_ms, number = sent or services.stamps.next(services.now_ms(run_id))
    sealed = services.sealing.seal(payload, mail_place(run_id, name, signal_id))
    mail = Mail(signal_id=signal_id, name=name, payload=sealed, sent_at_ms=sent_at_ms, number=number)
    parts = (name.encode(), payload)
    return Sending(run_id=run_id, mail=mail, kind=kind, parts=parts, digest=services.sealing.digest(*parts))


async def send(services: Services, sending: Sending, takers: Sequence[RunStatus] = GOES_ON) -> bool:
    """Deliver a signal; return whether it is new: one whose id the run has accepted before changes nothing.

    Only a run of one of the statuses `takers` accepts it.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: The run is over.
        UnknownSignalError: Its workflow says which signals it takes, and this is none of them.
        SignalConflictError: The run has accepted another value under this id.
        MailboxFullError: The run has too many values that nobody has taken.
    """
    accepted = await _accept(services, sending, takers)
    if accepted is None:
        return False
    await publish_many(services, accepted, position=None)
    return True


async def send_all(services: Services, sendings: Iterable[Sending]) -> SignalReport:
    """Deliver signals to many runs, in grouped commits and publishes, whatever becomes of single ones."""
    counts = {True: 0, False: 0}
    failures: dict[str, FloxideError] = {}
    some: list[Sending] = []
    for sending in sendings:
        some.append(sending)
        if len(some) >= AT_ONCE:
            await _send_some(services, some, counts, failures)
            some = []
    await _send_some(services, some, counts, failures)
    return SignalReport(accepted=counts[True], repeated=counts[False], failures=failures)


async def _send_some(
    services: Services, sendings: Sequence[Sending], counts: dict[bool, int], failures: dict[str, FloxideError]
) -> None:
    outgoing: list[tuple[RunHeader, Outgoing]] = []

    async def accept(sending: Sending) -> None:
        try:
            accepted = await _accept(services, sending)
        except FloxideError as error:
            failures[sending.run_id] = error
            return
        counts[accepted is not None] += 1
        outgoing.extend(accepted or ())

    await side_by_side(accept, sendings, at_once=AT_ONCE)
    if outgoing:
        await publish_many(services, outgoing, position=None)


async def _accept(
    services: Services, sending: Sending, takers: Sequence[RunStatus] = GOES_ON
) -> list[tuple[RunHeader, Outgoing]] | None:
    """Commit a signal; return what is to be published then, or None where the run has accepted it before."""
    tries, closed = 0, set[ScopeId]()
    while True:
        place = await services.mailbox.look(sending.run_id, sending.mail.name, sending.mail.signal_id)
        if place is None:
            await services.runs.load(sending.run_id)  # says why it is not there
            continue
        if place.mark is not None:
            if not services.sealing.is_digest_of(place.mark, *sending.parts):
                raise SignalConflictError(run_id=sending.run_id, signal_id=sending.mail.signal_id)
            return None
        _check(services, sending, place, takers)
        waiter = await find_waiter(services, sending.mail.name, place, closed, is_first=tries == 0)
        if waiter is not GONE:
            decision = _decide(services, sending, place, waiter)
            outcome = await _commit(services, sending, place, decision)
            if not isinstance(outcome, Conflict):
                return [(place.header, out) for out in decision.effects.publish]
            if note_closed(outcome, closed):
                continue
        tries += 1
        if tries > 1:  # others signal the same run, or its items begin to wait: do not race with them for ever
            longest = min(LONGEST_STEP_BACK_SECONDS, 0.001 * 2**tries)
            await asyncio.sleep(services.random.uniform(0, longest))


def _decide(services: Services, sending: Sending, place: SignalPlace, waiter: StoredItem | None) -> Decision:
    """Return the commit that a signal makes: it is given to the item that waits for it, or kept."""
    if waiter is None:
        if place.unread >= services.limits.mailbox:
            raise MailboxFullError(run_id=sending.run_id, unread=place.unread, limit=services.limits.mailbox)
        return signal_moves.keep(sending.mail, sending.digest, place.epoch, place.waiters_version)
    return signal_moves.give(
        sending.mail, sending.digest, waiter.item, waiter.turn, place.state, place.epoch,
        now_ms=services.now_ms(sending.run_id), publisher=services.name, run_id=sending.run_id,
    )  # fmt: skip


async def _commit(services: Services, sending: Sending, place: SignalPlace, decision: Decision) -> Outcome:
    header = place.header
    decision = telling_of_signal(decision, sending.mail.name, sending.mail.sent_at_ms)
    writer = BatchWriter(header.run_id, header.created_at_ms, header.workflow, version=header.version)
    witness = signal_keys.signal_mark(sending.run_id, sending.mail.signal_id)
    return await services.commit(writer, decision, witness=witness)


def _check(services: Services, sending: Sending, place: SignalPlace, takers: Sequence[RunStatus]) -> None:
    header, status = place.header, place.state.status
    if status not in takers:
        raise InvalidRunStateError(run_id=sending.run_id, action="signal", status=status.value)
    graph = services.registry.find(header.workflow, header.version)
    if graph is None or not graph.signals:
        return
    declared = graph.signals.get(sending.mail.name)
    if declared is None:
        raise UnknownSignalError(
            run_id=sending.run_id, workflow=header.workflow, signal=sending.mail.name, known=tuple(graph.signals)
        )
    if declared.payload.description != sending.kind:
        raise PayloadMismatchError(expected=declared.payload.description, got=sending.kind).at(
            f"The signal {sending.mail.name!r}"
        )
