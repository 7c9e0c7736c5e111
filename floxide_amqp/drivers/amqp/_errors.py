"""The one table that turns what aio-pika, aiormq, pamqp and the socket raise into this package's errors.

aio-pika's own ``CONNECTION_EXCEPTIONS`` is of no use here: it holds ``RuntimeError`` and so would swallow programming
errors. What a lost connection raises out of a pending call is wider than any exception class, though: aiormq rejects
futures with ``CancelledError`` in tasks that nobody cancelled, and with the bare class ``Exception``.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import aiormq.exceptions as foreign
from pamqp.exceptions import PAMQPException

from floxide_amqp.exceptions import (
    BrokerAccessRefusedError,
    BrokerConnectionLostError,
    BrokerError,
    TopologyClashError,
)

FOREIGN_EXCEPTIONS: Final = (
    foreign.AMQPError,
    foreign.ChannelInvalidStateError,
    PAMQPException,
    OSError,  # refused, reset, DNS, TLS and TimeoutError are all of this class
    EOFError,
)
"""What a broken, refused or half-dead connection may raise, apart from the two that `is_foreign` adds."""

_REFUSALS: Final = (
    foreign.ChannelAccessRefused,
    foreign.ProbableAuthenticationError,
    foreign.AuthenticationError,
)
_WRONG_LOGINS: Final = (foreign.ProbableAuthenticationError, foreign.AuthenticationError)
_NOT_ALLOWED: Final = 530
"""AMQP reply code of a virtual host that does not exist or is not the user's."""

_INTERNAL: Final = "INTERNAL_ERROR"
"""What RabbitMQ's reason begins with where it met a defect of its own."""

_CLASH = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>exchange|queue) '(?P<name>[^']*)' in vhost '[^']*': "
    r"received (?P<wanted>.+?) but current is (?P<existing>.+?)\"?$"
)
_VALUE = re.compile(r"the value ('.*') of type '\w+'")
_TOO_LARGE = re.compile(r"larger than (?:configured )?max size (\d+)")


def is_foreign(error: BaseException) -> bool:
    """Whether an error tells about the connection, not about the program."""
    return isinstance(error, FOREIGN_EXCEPTIONS) or type(error) is Exception


def translate(error: BaseException, *, url: str, operation: str) -> BrokerError:
    """Return this package's error for a foreign one, for a `raise … from error`."""
    reason = describe(error)
    if isinstance(error, foreign.ChannelPreconditionFailed) and (clash := _CLASH.search(reason)):
        facts = clash.groupdict()
        existing, wanted = _VALUE.sub(r"\1", facts.pop("existing")), _VALUE.sub(r"\1", facts.pop("wanted"))
        return TopologyClashError(**facts, existing=existing, wanted=wanted)
    if _is_refusal(error):
        return BrokerAccessRefusedError(url=url, operation=operation, reason=reason, cure=cure_for(error))
    return BrokerConnectionLostError(url=url, operation=operation, reason=reason)


def reason_for(error: BaseException, *, url: str, operation: str) -> BaseException:
    """Return what to raise for whatever came out of a call: this package's error, or a programming error as it is."""
    if not is_foreign(error):
        return error
    translated = translate(error, url=url, operation=operation)
    translated.__cause__ = error
    return translated


def describe(error: BaseException) -> str:
    """Return one line about a foreign error; never contains a password, for none of them carries the URL."""
    if isinstance(error, asyncio.CancelledError):
        return "connection lost"
    if isinstance(error, foreign.InvalidFrameError) and "Connection.OpenOk" in str(error):
        return "the virtual host was refused: it does not exist, is not this user's, or is still starting"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__


def cure_for(error: BaseException) -> str:
    """Return what to do about a refusal where the error's own sentence does not fit; empty otherwise."""
    if isinstance(error, _WRONG_LOGINS):
        return "Check the user and the password in the broker's URL."
    if _is_virtual_host(error):
        return (
            "Name another virtual host after the last slash of the broker's URL, or create it: rabbitmqctl add_vhost "
            "NAME, then rabbitmqctl set_permissions -p NAME USER '.*' '.*' '.*'."
        )
    return ""


def _is_virtual_host(error: BaseException) -> bool:
    is_unanswered = isinstance(error, foreign.InvalidFrameError) and "Connection.OpenOk" in str(error)
    return is_unanswered or (_is_refusal(error) and not isinstance(error, _REFUSALS))


def largest_size_allowed(error: BaseException | None) -> int | None:
    """Return the broker's message size limit in bytes, if this is what it says when a message is over it."""
    if isinstance(error, foreign.ChannelPreconditionFailed) and (found := _TOO_LARGE.search(str(error))):
        return int(found.group(1))
    return None


def is_missing(error: BaseException) -> bool:
    """Whether the broker said that an exchange or a queue does not exist."""
    return isinstance(error, foreign.ChannelNotFoundEntity)


def is_locked(error: BaseException) -> bool:
    """Whether the broker said that an exclusive queue is another connection's."""
    return isinstance(error, foreign.ChannelLockedResource)


def is_internal(reason: str) -> bool:
    """Whether the broker closed the connection because of a defect of its own."""
    return _INTERNAL in reason


def is_access_refused(error: BaseException) -> bool:
    """Whether the broker said that the user lacks a permission."""
    return isinstance(error, foreign.ChannelAccessRefused)


def _is_refusal(error: BaseException) -> bool:
    """Whether waiting will not help: a refused login or permission, a virtual host that is not there."""
    if isinstance(error, _REFUSALS):
        return True
    is_not_allowed = isinstance(error, foreign.ConnectionNotAllowed) or (
        isinstance(error, foreign.ConnectionClosed) and bool(error.args) and error.args[0] == _NOT_ALLOWED
    )
    return is_not_allowed and "is down" not in str(error)  # a virtual host that still starts is down, not refused
