from __future__ import annotations

import pytest
from redis import exceptions as redis_errors
from redis._parsers.base import BaseParser

from floxide_amqp.drivers.redis.errors import code_of, store_error, unreachable
from floxide_amqp.exceptions import (
    StoreAccessRefusedError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)


def said(text: str) -> redis_errors.RedisError:
    """What redis-py makes of an error reply."""
    error = BaseParser.parse_error(text)
    assert isinstance(error, redis_errors.RedisError)
    return error


@pytest.mark.parametrize(
    ("reply", "kind", "retryable", "part"),
    [
        ("LOADING Redis is loading the dataset in memory", StoreUnavailableError, True, "loading its data"),
        ("BUSY Redis is busy running a script.", StoreUnavailableError, True, "busy with somebody's script"),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailableError, True, "lost its master"),
        ("TRYAGAIN Multiple keys request during rehashing", StoreUnavailableError, True, "moving the data"),
        ("ASK 3999 127.0.0.1:6381", StoreUnavailableError, True, "moving the data"),
        ("MOVED 3999 127.0.0.1:6381", StoreUnavailableError, True, "do not agree"),
        ("CLUSTERDOWN Hash slot not served", StoreUnavailableError, True, "the cluster is down"),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailableError, True, "min-replicas-to-write"),
        (
            "ERR Script attempted to access a non local key in a cluster node script: f00, on @user_script:1.",
            StoreUnavailableError,
            True,
            "moving the data",
        ),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreFullError, True, "maxmemory"),
        (
            "ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed when used memory is high",
            StoreFullError,
            True,
            "maxmemory",
        ),
        ("MISCONF Errors writing to the AOF file: No space left on device", StoreFullError, True, "No space left"),
        ("READONLY You can't write against a read only replica.", StoreReadOnlyError, False, "it is a replica"),
        ("NOAUTH Authentication required.", StoreAccessRefusedError, False, "asks for a password"),
        ("WRONGPASS invalid username-password pair", StoreAccessRefusedError, False, "does not know this user"),
        ("NOPERM this user has no permissions to run the 'zadd' command", StoreAccessRefusedError, False, "ACL"),
        (
            "ERR The user executing the script can't run this command or subcommand script: f00",
            StoreAccessRefusedError,
            False,
            "ACL",
        ),
        (
            "ERR ACL failure in script: User anna has no permissions to run the 'unlink' command script",
            StoreAccessRefusedError,
            False,
            "ACL",
        ),
    ],
)
def test_each_error_reply_becomes_one_error_that_says_what_to_do(
    reply: str, kind: type[StoreError], retryable: bool, part: str
) -> None:
    found = store_error(said(reply), store="redis://h:1/0")
    assert type(found) is kind
    assert found.retryable is retryable
    assert "redis://h:1/0" in str(found)
    assert part in str(found)


def test_an_unforeseen_reply_is_a_plain_store_error_with_its_text() -> None:
    found = store_error(said("WRONGTYPE Operation against a key holding the wrong kind of value"), store="s")
    assert type(found) is StoreError
    assert "failed inside Redis: WRONGTYPE Operation" in str(found)


def test_words_in_capitals_within_a_text_are_no_codes_unless_they_are() -> None:
    assert code_of(said("ERR unknown command 'SET FOO'")) == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError("refused"), StoreUnavailableError),
        (TimeoutError(), StoreUnavailableError),
        (redis_errors.ConnectionError("Error 111 connecting"), StoreUnavailableError),
        (redis_errors.TimeoutError("Timeout connecting"), StoreUnavailableError),
        (said("LOADING Redis is loading the dataset in memory"), StoreUnavailableError),
        (said("ERR max number of clients reached"), StoreUnavailableError),
        (said("WRONGPASS invalid username-password pair"), StoreAccessRefusedError),
        (said("NOPERM this user has no permissions to run the 'info' command"), StoreAccessRefusedError),
    ],
)
def test_what_keeps_a_connection_from_being_made_is_told_apart(error: Exception, kind: type[StoreError]) -> None:
    assert type(unreachable(error, store="s", node="h:1")) is kind
