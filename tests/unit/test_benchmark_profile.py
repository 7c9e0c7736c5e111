"""What py-spy saw, as processor time by room of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.profiling import profile_of, profile_table, room_of

RAW = """\
run (asyncio/runners.py:118);step (floxide_amqp/runtime/chain.py:80);decide (floxide_amqp/core/decide.py:9) 6
run (asyncio/runners.py:118);step (floxide_amqp/runtime/chain.py:81) 3
run (asyncio/runners.py:118) 1
wait (threading.py:320) 90
"""


def test_the_share_of_each_room_is_told_of_the_processor_time_and_threads_that_wait_have_none(tmp_path: Path) -> None:
    file = tmp_path / "worker.raw"
    file.write_text(RAW, encoding="utf-8")
    profile = profile_of("worker", file, us=200.0)
    assert profile.us_per_step == {"core": 120.0, "runtime": 60.0, "event loop and sockets (uvloop)": 20.0}
    assert profile.functions == {
        "decide (core/decide.py)": 120.0, "step (runtime/chain.py)": 60.0, "run (asyncio/runners.py)": 20.0,
    }  # fmt: skip
    assert "| in all                          | 200.0  |" in profile_table([profile])


@pytest.mark.parametrize(
    ("file", "room"),
    [
        ("floxide_amqp/drivers/postgresql/commits.py", "drivers/postgresql"),
        ("floxide_amqp/drivers/hint_buffer.py", "drivers"),
        ("floxide_amqp/stores/session.py", "stores"),
        ("asyncpg/connection.py", "asyncpg"),
        ("asyncio/streams.py", "asyncio"),
        ("pydantic/main.py", "the body and its model"),
        ("benchmarks/peers/ours.py", "the body and its model"),
        ("<string>", "records, made (generated code)"),
        ("<frozen abc>", "standard library"),
        ("", "standard library"),
    ],
)
def test_a_file_belongs_to_a_room(file: str, room: str) -> None:
    assert room_of(file) == room
