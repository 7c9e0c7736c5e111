"""The calls that a fork waits for, without a fork; with one: `tests/integration/test_sqlite_forking.py`."""

from __future__ import annotations

import threading
from copy import copy

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


def test_of_two_threads_that_fork_at_once_neither_does_before_all_is_closed() -> None:
    begun, go_on, forked = threading.Event(), threading.Event(), threading.Event()

    class Slow(Keeping):
        def suspend(self) -> None:
            self.suspended += 1
            if self.suspended == 1:  # the other thread finds closed what this one is closing
                begun.set()
                assert go_on.wait(20)

    calls, slow = Calls(), Slow()
    calls.keeps(slow)

    def fork() -> None:
        calls.before_fork()
        forked.set()

    threads = [threading.Thread(target=fork) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert begun.wait(20)
    assert not forked.wait(0.05)
    go_on.set()
    for thread in threads:
        thread.join()
        calls.after_fork()
    with calls:
        pass


class HandlerError(Exception):
    """What the handler of a signal raises."""


def test_a_fork_that_a_signal_interrupts_leaves_a_child_that_opens_nothing_and_a_parent_that_goes_on() -> None:
    class Interrupted(Keeping):
        def suspend(self) -> None:
            raise HandlerError

    calls, interrupted = Calls(), Interrupted()
    calls.keeps(interrupted)
    with pytest.raises(HandlerError):
        calls.before_fork()
    child = copy(calls)
    child.in_child()
    with pytest.raises(StoreError, match="fork before the store is opened"):
        child.enter()
    calls.after_fork()
    calls.after_fork()  # of a fork that was interrupted before it was counted
    with calls:
        pass


def test_a_child_does_not_close_for_its_own_forks_what_its_parent_keeps() -> None:
    calls, keeping = Calls(), Keeping()
    calls.keeps(keeping)
    calls.before_fork()
    calls.in_child()
    with calls:
        pass
    calls.before_fork()
    assert keeping.suspended == 1
