"""What one attempt of a step receives of signals, and what it sends.

It receives the value that woke it, then what its run's mailbox has. What it sends becomes letters of its commit.
"""

from __future__ import annotations

from typing import TypeVar, cast

from floxide_amqp.core.letters import Letter
from floxide_amqp.core.records import Mail
from floxide_amqp.core.signals import Signal
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.signal_letters import signal_letter
from floxide_amqp.stores.mailbox import Unread
from floxide_amqp.stores.sealed_places import mail_place
from floxide_amqp.stores.sealed_records import check_mail

T = TypeVar("T")


class StepMail:
    """One attempt's view of its run's mailbox.

    Attributes:
        version: Of the mailbox as it was read.
        taken: What the body received of it, in order.
        sent: The letters of what the body sends, in order.
    """

    def __init__(self, services: Services, admitted: Admitted, unread: Unread | None) -> None:
        self._services = services
        self._run_id = admitted.run.header.run_id
        self._node = admitted.item.node
        self._own = admitted.item.mail
        self._unread = None if unread is None else list(unread.mail)
        self.version = 0 if unread is None else unread.version
        self.taken: list[Mail] = []
        self.sent: list[Letter] = []
        self._admitted = admitted

    @property
    def has_unread(self) -> bool:
        """Whether there is anything in the mailbox that no step has taken."""
        return bool(self._unread)

    def received(self, signal: Signal[T]) -> T | None:
        """Return the next value of a signal; None where there is none.

        Raises:
            DefinitionError: The mailbox was not read.
            CodecError, MissingKeyError: The value cannot be read.
        """
        own = self._own
        if own is not None and own.name == signal.name:
            value = self._value(signal, own)
            self._own = None
            return value
        if self._unread is None:
            raise DefinitionError(
                f"Node {self._node!r} asks for the signal {signal.name!r}, but it is not annotated to return Hold, so "
                "the run's mailbox was not read for it. Annotate what it returns with `| Hold`."
            )
        mail = self.oldest((signal.name,))
        if mail is None:
            return None
        value = self._value(signal, mail)
        self._unread.remove(mail)
        self.taken.append(mail)
        return value

    def send(self, run_id: str, signal: Signal[T], value: T, signal_id: str) -> None:
        """Send a run a value when the step's commit stands; raises as `signal_letter`."""
        number = len(self.sent)
        letter = signal_letter(
            self._services, self._admitted, number, run_id, signal, value, signal_id=signal_id
        )  # fmt: skip
        self.sent.append(letter)

    def oldest(self, names: tuple[str, ...]) -> Mail | None:
        """Return the oldest value of some signals that the body has not received."""
        left = [mail for mail in self._unread or () if mail.name in names]
        return min(left, key=lambda mail: (mail.sent_at_ms, mail.number), default=None)

    def left(self, names: tuple[str, ...]) -> Mail | None:
        """Return the value that woke the item, if its body did not receive it and does not wait for its like again."""
        return None if self._own is None or self._own.name in names else self._own

    def _value(self, signal: Signal[T], mail: Mail) -> T:
        place = mail_place(self._run_id, mail.name, mail.signal_id)
        payload = self._services.sealing.open(mail.payload, place)
        return cast(T, decode_stored(signal.payload, payload, f"A value of signal {signal.name!r}"))


async def read_mail(services: Services, admitted: Admitted) -> StepMail:
    """Return what a step may receive whose node may hold.

    Raises:
        MissingKeyError: This process lacks a key or a codec for some of it: the step is left to one that has it.
    """
    run_id = admitted.run.header.run_id
    unread = admitted.unread or await services.mailbox.unread(run_id)
    check_mail(services.sealing, run_id, unread.mail)
    return StepMail(services, admitted, unread)
