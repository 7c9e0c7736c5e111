from __future__ import annotations

import asyncio
import socket
import ssl

import aio_pika.exceptions
import pytest
from aiormq import exceptions as foreign
from pamqp.exceptions import PAMQPException, UnmarshalingException

from floxide_amqp.drivers.amqp._errors import (
    FOREIGN_EXCEPTIONS,
    cure_for,
    describe,
    is_foreign,
    largest_size_allowed,
    reason_for,
    translate,
)
from floxide_amqp.exceptions import (
    BrokerAccessRefusedError,
    BrokerConnectionLostError,
    BrokerError,
    TopologyClashError,
)

URL = "amqp://guest:***@broker/"

LOST = [
    foreign.AMQPConnectionError("Server connection reset"),
    foreign.ConnectionClosed(320, "CONNECTION_FORCED - broker forced connection closure"),
    foreign.ConnectionInternalError("boom"),
    foreign.ChannelClosed(None, None),
    foreign.ChannelInvalidStateError("closed"),
    foreign.ChannelNotFoundEntity("NOT_FOUND - no queue 'x'"),
    foreign.ChannelLockedResource("RESOURCE_LOCKED"),
    foreign.InvalidFrameError("bad"),
    foreign.ConnectionNotAllowed("NOT_ALLOWED - vhost 'x' is down"),
    PAMQPException("bad"),
    UnmarshalingException("Frame", "bad"),
    ConnectionRefusedError(111, "refused"),
    ConnectionResetError(104, "reset"),
    BrokenPipeError(32, "pipe"),
    TimeoutError(),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLCertVerificationError("certificate verify failed"),
    EOFError(),
    Exception(),
]

REFUSED = [
    foreign.ChannelAccessRefused("ACCESS_REFUSED - access to queue 'x' in vhost '/' refused for user 'u'"),
    foreign.ProbableAuthenticationError("ACCESS_REFUSED - Login was refused"),
    foreign.AuthenticationError(["EXTERNAL"], ["PLAIN"]),
    foreign.ConnectionNotAllowed("NOT_ALLOWED - access to vhost 'x' refused for user 'u'"),
    foreign.ConnectionClosed(530, "NOT_ALLOWED - vhost x not found"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_what_a_broken_connection_raises_becomes_a_lost_connection(error: Exception) -> None:
    assert is_foreign(error)
    ours = translate(error, url=URL, operation="Declaring queue x")
    assert type(ours) is BrokerConnectionLostError
    assert ours.retryable
    assert str(ours).startswith(
        "Declaring queue x was interrupted: the connection to amqp://guest:***@broker/ was lost"
    )


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_what_a_lacking_permission_raises_becomes_a_refusal(error: Exception) -> None:
    assert is_foreign(error)
    ours = translate(error, url=URL, operation="Declaring queue x")
    assert type(ours) is BrokerAccessRefusedError
    assert not ours.retryable


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (REFUSED[0], "Grant the user the permission named there"),
        (REFUSED[1], "Check the user and the password in the broker's URL."),
        (REFUSED[2], "Check the user and the password in the broker's URL."),
        (REFUSED[3], "Name another virtual host after the last slash of the broker's URL, or create it: rabbitmqctl"),
        (REFUSED[4], "Name another virtual host after the last slash of the broker's URL, or create it: rabbitmqctl"),
    ],
)
def test_a_refusal_says_what_to_do_about_what_was_refused(error: Exception, cure: str) -> None:
    assert f". {cure}" in str(translate(error, url=URL, operation="Connecting"))


def test_a_virtual_host_that_does_not_answer_has_the_cure_of_one_that_is_missing() -> None:
    assert "rabbitmqctl add_vhost" in cure_for(foreign.InvalidFrameError("expected Connection.OpenOk"))
    assert cure_for(ConnectionRefusedError(111, "refused")) == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': "
                "received 'true' but current is 'false'"
            ),
            "queue 'q' exists with durable = 'false', but durable = 'true' is needed.",
        ),
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': "
                "received the value 'a.dead' of type 'longstr' but current is none"
            ),
            "queue 'q' exists with x-dead-letter-exchange = none, but x-dead-letter-exchange = 'a.dead' is needed.",
        ),
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost 'v/w': "
                "received 'direct' but current is 'fanout'"
            ),
            "exchange 'e' exists with type = 'fanout', but type = 'direct' is needed.",
        ),
    ],
)
def test_a_redeclaration_that_differs_becomes_a_clash_that_names_the_argument(text: str, sentence: str) -> None:
    ours = translate(foreign.ChannelPreconditionFailed(text), url=URL, operation="Declaring")
    assert type(ours) is TopologyClashError
    assert str(ours).startswith(sentence)
    assert not ours.retryable


@pytest.mark.parametrize(
    "error", [RuntimeError("bug"), ValueError("bug"), TypeError("bug"), AssertionError("bug"), KeyError("bug")]
)
def test_programming_errors_are_nobody_elses(error: Exception) -> None:
    assert not is_foreign(error)
    assert reason_for(error, url=URL, operation="x") is error


def test_the_foreign_table_is_not_aio_pikas() -> None:
    assert RuntimeError in aio_pika.exceptions.CONNECTION_EXCEPTIONS
    assert RuntimeError not in FOREIGN_EXCEPTIONS
    assert Exception not in FOREIGN_EXCEPTIONS


def test_a_translated_error_keeps_its_cause() -> None:
    error = foreign.ConnectionClosed(320, "CONNECTION_FORCED")
    ours = reason_for(error, url=URL, operation="x")
    assert isinstance(ours, BrokerError)
    assert ours.__cause__ is error


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (foreign.ChannelPreconditionFailed("message size 20 is larger than configured max size 10"), 10),
        (foreign.ChannelPreconditionFailed("message size 20 is larger than max size 536870912"), 536870912),
        (foreign.ChannelPreconditionFailed("unknown delivery tag 3"), None),
        (RuntimeError("larger than configured max size 10"), None),
        (None, None),
    ],
)
def test_the_brokers_message_limit_is_read_from_what_it_says(error: BaseException | None, limit: int | None) -> None:
    assert largest_size_allowed(error) == limit


def test_every_description_is_one_readable_line() -> None:
    for error in [*LOST, *REFUSED, asyncio.CancelledError()]:
        assert describe(error)
        assert "\n" not in describe(error)
