"""Servers of tests in a ``with`` block: whatever happens, they are ended."""

from __future__ import annotations

import pytest

from floxide_amqp.testing.server import UsableInBlock


class Recording(UsableInBlock):
    def __init__(self, *, starts: bool = True) -> None:
        self.done: list[str] = []
        self._starts = starts

    def start(self) -> None:
        self.done.append("start")
        if not self._starts:
            raise OSError("no port is free")

    def close(self) -> None:
        self.done.append("close")


def break_off(server: Recording) -> None:
    with server as opened:
        assert opened is server
        assert server.done == ["start"]
        raise ValueError("in the block")


def test_a_server_is_open_in_its_block_and_ended_behind_it_whatever_was_raised() -> None:
    server = Recording()
    with pytest.raises(ValueError, match="in the block"):
        break_off(server)
    assert server.done == ["start", "close"]


def test_a_server_that_does_not_start_leaves_nothing_behind() -> None:
    server = Recording(starts=False)
    with pytest.raises(OSError, match="no port"), server:
        pytest.fail("the block began")
    assert server.done == ["start", "close"]
