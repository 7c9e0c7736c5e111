"""The file of an exported run, as written and read; whatever bytes there are, frames or one error."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floxide_amqp.exceptions import RunFileError
from floxide_amqp.stores.run_file import (
    MARK,
    ArrivalsFrame,
    CellFrame,
    CounterFrame,
    EntriesFrame,
    Frame,
    LiveFrame,
    LogFrame,
    RunFileHead,
    RunFileReader,
    RunFileWriter,
)

HEAD = RunFileHead(
    release="1.2", run_id="run", workflow="W", version="1", status="paused", created_at_ms=1, exported_at_ms=2,
    store_id="s",
)  # fmt: skip
HEAD_VALUES = ["head", 1, "1.2", "run", "W", "1", "paused", 1, 2, "s"]

names = st.text(max_size=5)
numbers = st.integers(0, 2**40)
index_entries = st.lists(st.tuples(names, st.binary(max_size=5)), max_size=3).map(tuple)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(CellFrame, names, numbers, st.binary(max_size=2_000)),
    st.builds(CounterFrame, names, st.integers(-(2**63), 2**63 - 1)),
    st.builds(LogFrame, names, numbers),
    st.builds(EntriesFrame, names, numbers, st.lists(st.binary(max_size=5), max_size=3).map(tuple)),
    st.builds(LiveFrame, index_entries),
    st.builds(ArrivalsFrame, names, index_entries),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=10,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, content: Sequence[Frame]) -> Path:
    with path.open("wb") as file:
        writer = RunFileWriter(file, HEAD)
        for frame in content:
            writer.write(frame)
        writer.end()
    return path


def framed(*bodies: bytes) -> bytes:
    return MARK + b"".join(struct.pack("!II", len(body), zlib.crc32(body)) + body for body in bodies)


def packed(values: Any) -> bytes:
    data: Any = msgpack.packb(values)
    return bytes(data)


@quick
@given(content=st.lists(frames, max_size=6))
def test_what_was_written_is_read(tmp_path: Path, content: list[Frame]) -> None:
    reader = RunFileReader(written(tmp_path / "run", content))
    assert reader.head() == HEAD
    assert list(reader.frames()) == content
    assert list(reader.frames()) == content  # each time it is gone through


@quick
@given(bodies=st.lists(anything.map(packed) | st.binary(max_size=30), max_size=4), is_headed=st.booleans())
def test_whatever_stands_in_the_frames_one_error_says_that_it_is_damaged(
    tmp_path: Path, bodies: list[bytes], is_headed: bool
) -> None:
    head = [packed(HEAD_VALUES)] if is_headed else []
    (tmp_path / "run").write_bytes(framed(*head, *bodies))
    with pytest.raises(RunFileError, match="it is damaged"):
        list(RunFileReader(tmp_path / "run").frames())


@pytest.mark.parametrize(
    "values",
    [
        ["cell", "a", 1],
        ["cell", "a", 1, b"", 2],
        ["cell", "a", True, b""],
        ["cell", b"a", 1, b""],
        ["entries", "x", 0, [b"a", "b"]],
        ["live", [["a"]]],
        ["live", [["a", "b"]]],
        ["live", ["ab"]],
        ["in", "o", [b"a"]],
        ["unknown"],
        HEAD_VALUES,
        {"a": 1},
        [["cell"]],
    ],
)
def test_a_frame_of_another_shape_is_no_frame(tmp_path: Path, values: Any) -> None:
    (tmp_path / "run").write_bytes(framed(packed(HEAD_VALUES), packed(values)))
    with pytest.raises(RunFileError, match="it is damaged"):
        list(RunFileReader(tmp_path / "run").frames())


def test_a_frame_that_claims_more_than_a_record_can_have_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(framed(packed(HEAD_VALUES)) + struct.pack("!II", 2**32 - 1, 0))
    with pytest.raises(RunFileError, match="claims 4294967295 bytes"):
        list(RunFileReader(tmp_path / "run").frames())


def test_parts_that_were_swapped_or_left_out_are_noticed_although_each_is_whole(tmp_path: Path) -> None:
    one, two = CellFrame("a", 1, b"one"), CellFrame("b", 1, b"two")
    whole = written(tmp_path / "run", [one, two]).read_bytes()
    first, second = (
        struct.pack("!II", len(body), zlib.crc32(body)) + body
        for body in (packed(["cell", *one]), packed(["cell", *two]))
    )
    assert whole.count(first + second) == 1
    for bad in (second + first, first, second, first + second + second):
        (tmp_path / "run").write_bytes(whole.replace(first + second, bad))
        with pytest.raises(RunFileError, match="its digest is not that of its content"):
            list(RunFileReader(tmp_path / "run").frames())
