"""What becomes of open files when this process forks: they are closed before, and opened again when they are next used.

SQLite keeps in its memory which locks its process holds on a file, and a child inherits that memory without the locks.
A child that opens a file which was open at the fork is refused for ever by a transaction that it has only copied; or
it is let in without any lock, and loses what it commits when its parent, who sees no lock of anybody's, closes the file
and deletes the write-ahead log. So a fork waits until no thread is within SQLite, and nothing is open while it happens.

Whatever calls SQLite does so within `CALLS`, and whoever keeps a connection beyond that says so by `CALLS.keeps`.

Source:
    SQLite, "How To Corrupt An SQLite Database File", section 2.6: "Carrying an open database across a fork".
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import weakref
from contextlib import suppress
from typing import Final, Protocol

from floxide_amqp.exceptions import StoreError

LONGEST_WAIT_SECONDS: Final = 10.0
"""How long a fork waits for calls under way, which take milliseconds unless the disk hangs. No other call begins
meanwhile, heartbeats among them, so it is less than others wait for those (`Timeouts.dead_after`)."""


class Keeper(Protocol):
    """Keeps connections from one call to the next."""

    def suspend(self) -> None:
        """Close them, to open them again when they are next needed; no call is under way."""


class Calls:
    """The calls of SQLite under way in this process: a context manager around each, which a fork waits for."""

    def __init__(self) -> None:
        self._is_torn = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()
        self._changed = threading.Condition()
        self._threads: set[int] = set()
        self._forks = 0
        self._is_shut = False

    def keeps(self, keeper: Keeper) -> None:
        """Have a keeper's connections closed before a fork; from within a call, for as long as the keeper is there."""
        self._keepers.add(keeper)

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Begin a call, after the forks under way; a thread makes one at a time.

        Raises:
            StoreError: This process was forked in the middle of a call, and cannot open files safely.
        """
        with self._changed:
            while self._forks:
                self._changed.wait()
            if self._is_torn:
                raise StoreError(
                    "This process was forked while its parent was within a call of SQLite that did not end, and shares "
                    "its memory. Start another process for what opens the store, or fork before the store is opened.",
                    store="sqlite",
                )
            self._threads.add(threading.get_ident())

    def leave(self) -> None:
        """End a call."""
        with self._changed:
            self._threads.discard(threading.get_ident())
            if self._forks:
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Close what is open, as soon as no call is under way.

        Where a call does not end (it is this thread's own, which forks within it, or the disk hangs), or the handler of
        a signal raises meanwhile, the process is forked all the same, and the child refuses to open files.
        """
        own = threading.get_ident()
        with self._changed:
            self._forks += 1
            if own in self._threads or not self._changed.wait_for(lambda: not self._threads, LONGEST_WAIT_SECONDS):
                return
            for keeper in list(self._keepers):  # under the lock: who forks meanwhile has to wait until all are closed
                with suppress(sqlite3.Error):
                    keeper.suspend()
            self._is_shut = True

    def after_fork(self) -> None:
        """Let calls begin again, in the process that has forked."""
        with self._changed:
            self._forks = max(self._forks - 1, 0)  # what raised before the fork may have done so before it counted
            if not self._forks:
                self._is_shut = False
            self._changed.notify_all()

    def in_child(self) -> None:
        """Forget the parent's threads, none of which is here, its locks, and what it keeps open."""
        self._is_torn = self._is_torn or not self._is_shut
        self._begin_anew()


CALLS: Final = Calls()

if sys.platform != "win32":
    os.register_at_fork(before=CALLS.before_fork, after_in_parent=CALLS.after_fork, after_in_child=CALLS.in_child)
