"""The calls that a fork waits for, without a fork; with one: `tests/integration/test_sqlite_forking.py`."""

from __future__ import annotations

import threading

import pytest

from floxide_amqp.drivers.sqlite import forking
from floxide_amqp.drivers.sqlite.forking import Calls
from floxide_amqp.exceptions import StoreError


class Keeping:
    suspended = 0

    def suspend(self) -> None:
        self.suspended += 1


def test_a_call_that_does_not_end_holds_no_fork_up_for_ever_and_the_child_opens_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forking, "LONGEST_WAIT_SECONDS", 0.01)
    calls, keeping, begun, end = Calls(), Keeping(), threading.Event(), threading.Event()
    calls.keeps(keeping)

    def hang() -> None:
        with calls:
            begun.set()
            assert end.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    assert begun.wait(20)
    calls.before_fork()
    assert keeping.suspended == 0
    child = Calls()
    child._threads = set(calls._threads)
    child.in_child()
    with pytest.raises(StoreError, match="fork before the store is opened"):
        child.enter()
    calls.after_fork()
    end.set()
    thread.join()
    with calls:
        pass


def test_calls_begin_again_when_the_process_has_forked() -> None:
    calls, keeping, done = Calls(), Keeping(), threading.Event()
    calls.keeps(keeping)

    def call() -> None:
        with calls:
            done.set()

    calls.before_fork()
    assert keeping.suspended == 1
    thread = threading.Thread(target=call)
    thread.start()
    assert not done.wait(0.05)
    calls.after_fork()
    assert done.wait(20)
    thread.join()
