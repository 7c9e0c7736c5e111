"""The one table that turns what PostgreSQL, asyncpg and the network raise into the errors of this package."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    InvalidBatchError,
    StoreAccessRefusedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreSchemaError,
    StoreUnavailableError,
)

FOREIGN = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    asyncio.TimeoutError,
    UnicodeError,
)
"""What connecting and asking may raise."""

TRIED_AGAIN = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock timeout: the same group may pass a moment later."""

_CUT_OFF = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
"""With these the server ends the connection; whether a commit under way came through, it does not say."""

_UNAVAILABLE: Mapping[str, tuple[str, str]] = {
    "40001": ("other commits kept changing the same records", ""),
    "40P01": ("it kept waiting for other commits in a circle", ""),
    "55P03": ("a lock was not free within lock_timeout", ""),
    "57014": ("it took longer than statement_timeout, or was cancelled in the server", ""),
    "53300": ("the server has no connection left", "raise its max_connections, or lower pool_size, then repeat."),
    "53200": (
        "the server is out of memory or of locks",
        "raise its max_locks_per_transaction or give it more memory, then repeat.",
    ),
    "53400": ("a limit of the server's configuration is reached", ""),
    "58030": ("the server's disk or file system failed", ""),
}
"""SQLSTATE → what it means, and what to do where that is not to repeat."""

_ACCESS: Mapping[str, tuple[str, str]] = {
    "28P01": ("the password is wrong", "correct user and password in its URL."),
    "28000": ("the server does not let this user in", "check user, database and pg_hba.conf."),
    "3D000": ("the database does not exist", "create it, or correct its name in the URL."),
    "42501": ("the user may not do this", "grant what `floxide store check` lists."),
}


def store_error(error: BaseException, *, store: str, is_sent_commit: bool = False) -> StoreError:
    """Return what to raise in place of a foreign exception.

    Args:
        error: One of `FOREIGN`.
        store: Names the store; without a password.
        is_sent_commit: Whether a commit may have reached the server before its connection was lost.
    """
    if isinstance(error, UnicodeError):
        return InvalidBatchError(store=store, reason=f"a key is not valid Unicode: {error}")
    if isinstance(error, asyncpg.PostgresError) and state_of(error):
        return _of_state(error, store=store, is_sent_commit=is_sent_commit)
    if _is_refused_here(error):
        return InvalidBatchError(store=store, reason=f"a value cannot be stored: {error}")
    reason = _plain(error)
    if is_sent_commit:
        return CommitOutcomeUnknownError(store=store, reason=reason)
    return StoreUnavailableError(store=store, reason=reason)


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE that the server reported; empty where the server reported nothing."""
    return str(getattr(error, "sqlstate", None) or "")


def is_cut_off(error: BaseException) -> bool:
    """Tell whether the connection is gone, or will be, after this error, or had better be."""
    if _is_refused_here(error):
        return False
    state = state_of(error)
    return not state or state in _CUT_OFF or state.startswith("08") or state == "25006"


def _is_refused_here(error: BaseException) -> bool:
    """Tell whether asyncpg could not encode a value, and sent nothing: its own `DataError`, not that of the server."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def _of_state(error: asyncpg.PostgresError, *, store: str, is_sent_commit: bool) -> StoreError:
    state, text = state_of(error), f"{_plain(error)} [{state_of(error)}]"
    if state in _CUT_OFF or state.startswith("08"):
        kind = CommitOutcomeUnknownError if is_sent_commit else StoreUnavailableError
        return kind(store=store, reason=text)
    if state in _UNAVAILABLE:
        meaning, cure = _UNAVAILABLE[state]
        return StoreUnavailableError(store=store, reason=f"{meaning}: {text}", cure=cure)
    if state in _ACCESS:
        meaning, cure = _ACCESS[state]
        return StoreAccessRefusedError(store=store, reason=f"{meaning}: {text}", cure=cure)
    if state == "53100":
        return StoreFullError(store=store, reason=f"the server's disk is full: {text}")
    if state == "25006":
        return StoreReadOnlyError(store=store, reason=f"the server is a standby or read-only: {text}")
    if state.startswith("XX"):
        return StoreCorruptError(store=store, reason=text)
    if state in {"42883", "42P01", "3F000", "42703"}:
        return StoreSchemaError(
            store=store, found="tables or functions that are not all there", expected="all of them",
            cure="Run `floxide store migrate` with its URL.",
        )  # fmt: skip
    if state.startswith(("22", "54")):
        return InvalidBatchError(store=store, reason=text)
    return StoreError(f"The store {store} failed: {text}. Nothing was applied.", store=store)


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
