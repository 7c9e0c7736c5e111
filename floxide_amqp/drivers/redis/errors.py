"""The one table that turns what Redis answers, and what redis-py raises, into the errors of this package."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions as redis_errors

from floxide_amqp.exceptions import (
    StoreAccessRefusedError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_CODES: Final = (
    (redis_errors.MovedError, "MOVED"),
    (redis_errors.AskError, "ASK"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.ClusterCrossSlotError, "CROSSSLOT"),
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.NoScriptError, "NOSCRIPT"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.NoPermissionError, "NOPERM"),
    (redis_errors.AuthenticationError, "WRONGPASS"),
    (redis_errors.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
)
"""What redis-py makes of codes it knows; it takes the code out of the text. The nearer class comes first."""

_UNAVAILABLE: Final = {
    "LOADING": "it is loading its data after a start",
    "BUSY": "it is busy with somebody's script",
    "MASTERDOWN": "it is a replica that has lost its master",
    "TRYAGAIN": "the cluster is moving the data to another node",
    "ASK": "the cluster is moving the data to another node",
    "MOVED": "the cluster's nodes do not agree where the data is",
    "CLUSTERDOWN": "the cluster is down, or parts of it are",
    "NOREPLICAS": "too few of its replicas are there (min-replicas-to-write)",
    "UNKILLABLE": "it is busy with somebody's script",
}
_FULL: Final = {
    "OOM": "its memory has reached maxmemory",
    "MISCONF": "it cannot write to its disk",
}
_REFUSED: Final = {
    "NOAUTH": "it asks for a password, and its URL has none",
    "WRONGPASS": "it does not know this user and password",
    "NOPERM": "the user's rights (ACL) do not reach so far",
}
_CURES: Final = {"NOPERM": "docs/stores.md lists the rights a user needs."}

_CODE = re.compile(r"(?:^|[\s-])([A-Z]{3,12})\b")
_KNOWN: Final = {*_UNAVAILABLE, *_FULL, *_REFUSED, "READONLY", "CROSSSLOT", "NOSCRIPT"}
_RIGHTS: Final = ("The user executing the script can't", "ACL failure in script")
"""What a script is told that calls a command, or asks for a key, that its user may not; since Redis 7.2 the latter."""
_MOVING: Final = ("non local key", "undeclared key")
"""What a script is told that asks a cluster's node for a key the node is just handing over."""


def code_of(error: redis_errors.RedisError) -> str:
    """Return the code of an error reply (``OOM``, ``LOADING``, …); empty where it has none of those known here.

    Before release 7 Redis wrapped what a command within a script was told into a text of its own.
    """
    if getattr(error, "status_code", None) == "NOAUTH":
        return "NOAUTH"
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    text = str(error)
    if any(sign in text for sign in _RIGHTS):
        return "NOPERM"
    if any(sign in text for sign in _MOVING):
        return "TRYAGAIN"
    return next((code for code in _CODE.findall(text) if code in _KNOWN), "")


def store_error(error: redis_errors.RedisError, *, store: str) -> StoreError:
    """Return what to raise in place of an error reply of Redis."""
    code = code_of(error)
    said = str(error)
    if code in _UNAVAILABLE:
        return StoreUnavailableError(store=store, reason=f"{_UNAVAILABLE[code]} [{code}]")
    if code in _FULL:
        return StoreFullError(store=store, reason=f"{_FULL[code]} [{code} {said}]")
    if code == "READONLY":
        return StoreReadOnlyError(store=store, reason="it is a replica; name its master in the URL [READONLY]")
    if code in _REFUSED:
        return StoreAccessRefusedError(store=store, reason=f"{_REFUSED[code]} [{code}]", cure=_CURES.get(code, ""))
    return StoreError(f"The store {store} failed inside Redis: {said}. Nothing was applied.", store=store)


def unreachable(error: BaseException, *, store: str, node: str) -> StoreError:
    """Return what to raise where a connection could not be made, so that nothing was sent."""
    if isinstance(error, redis_errors.AuthenticationError | redis_errors.ResponseError):
        return store_error(error, store=store)
    if isinstance(error, redis_errors.BusyLoadingError):
        return store_error(error, store=store)
    if isinstance(error, TimeoutError | redis_errors.TimeoutError):
        return StoreUnavailableError(store=store, reason=f"{node} did not answer in time")
    return StoreUnavailableError(store=store, reason=str(error) or f"no connection to {node}")
