"""Signals that nodes send: letters, posted in the commit of the step, so that they are sent exactly if it stands."""

from __future__ import annotations

from typing import Final, TypeVar

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.signals import Signal
from floxide_amqp.exceptions import (
    CodecError,
    InvalidRunStateError,
    PayloadMismatchError,
    RunDeletedError,
    RunNotFoundError,
    SignalConflictError,
    UnknownSignalError,
    UnreadableRecordError,
)
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.child_letters import ensure_started
from floxide_amqp.runtime.letters import payload_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.signals import MAY_GO_ON, encode_value, sealed_for, send
from floxide_amqp.runtime.unreadable import quarantine
from floxide_amqp.stores.encoding import pack, unpack

_log = get_logger("floxide_amqp.letters")

T = TypeVar("T")

SIGNAL: Final = "signal"
"""The kind of these letters."""

IN_VAIN = (InvalidRunStateError, SignalConflictError, UnknownSignalError, PayloadMismatchError)
"""What says that a run will never accept a signal."""

WAITS_FOR_RUN_MS: Final = 60_000
"""How long a signal waits for a run that is not there: longer than it takes until a child is started whose starter has
died, and those have that look after its letters."""


def signal_letter(
    services: Services, admitted: Admitted, number: int, run_id: str, signal: Signal[T], value: T, *, signal_id: str
) -> Letter:
    """Return the letter by which a step sends a run a value.

    Args:
        services: The process's parts.
        admitted: The step.
        number: Tells the signals of one attempt apart.
        run_id: Who gets it.
        signal: Which signal.
        value: Its value.
        signal_id: Its id; empty for the letter's own.

    Raises:
        CodecError: The value is not of the signal's type, or too large.
        DefinitionError: The id cannot be one.
    """
    payload, from_run = encode_value(services, signal, value, signal_id), admitted.run.header.run_id
    letter_id = derive_letter_id(SIGNAL, from_run, admitted.item.item_id, admitted.turn, number)
    sent_at_ms, order = services.stamps.next(services.now_ms(from_run))
    body = pack([signal.name, signal_id or letter_id, signal.payload.description, order])
    return Letter(
        letter_id=letter_id, kind=SIGNAL, to_run=RunId(run_id), from_run=from_run, posted_at_ms=sent_at_ms, body=body,
        payload=payload,
    )  # fmt: skip


class SendSignal:
    """Sends a signal. The run has accepted its id, where that was done before."""

    name: str = SIGNAL

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Deliver the value, or say in the log that nobody will ever take it. A failed run may be resumed yet.

        A run that is not there may be about to start: one that the sender has called is started first, another one is
        waited for. What nobody ever starts goes into the quarantine.
        """
        name = _unpack(letter)[0]
        try:
            await self._send(services, letter)
        except RunDeletedError as error:
            _note_in_vain(letter, name, error)
        except RunNotFoundError as error:
            return await self._wait_for_run(services, letter, name, error)
        except IN_VAIN as error:
            _note_in_vain(letter, name, error)
        return True

    async def _send(self, services: Services, letter: Letter) -> None:
        name, signal_id, described, order = _unpack(letter)
        sending = sealed_for(
            services, letter.to_run, name, payload_of(services, letter), signal_id=signal_id, kind=described,
            sent=(letter.posted_at_ms, order),
        )  # fmt: skip
        try:
            await send(services, sending, MAY_GO_ON)
        except RunNotFoundError:
            if not await ensure_started(services, letter):
                raise
            await send(services, sending, MAY_GO_ON)

    async def _wait_for_run(self, services: Services, letter: Letter, name: str, error: RunNotFoundError) -> bool:
        if services.now_ms(letter.from_run) < letter.posted_at_ms + WAITS_FOR_RUN_MS:
            return False
        stored = await services.letters.stored(letter.from_run, letter.letter_id)
        if stored is not None:
            reason = f"The signal {name!r} that run {letter.from_run!r} has sent: {error}"
            await quarantine(services, "", stored.value, reason)
        _note_in_vain(letter, name, error)
        return True


async def waits_until_ms(services: Services, letter: Letter) -> int | None:
    """Return until when, store time, a signal waits for a run that is not there; None where it waits for none."""
    if letter.kind != SIGNAL or services.is_out_of_reach(letter.to_run):
        return None
    is_there = await services.runs.find(letter.to_run) is not None
    return None if is_there else letter.posted_at_ms + WAITS_FOR_RUN_MS


def _note_in_vain(letter: Letter, name: str, error: Exception) -> None:
    _log.warning("signal.in_vain", run_id=letter.to_run, from_run=letter.from_run, signal=name, error=str(error))


def _unpack(letter: Letter) -> tuple[str, str, str, int]:
    match unpack(letter.body):
        case [str() as name, str() as signal_id, str() as described, int() as order]:
            return name, signal_id, described, order
        case _:
            pass
    raise UnreadableRecordError(place=f"letter {letter.letter_id}", problem="It is no signal.") from CodecError()
