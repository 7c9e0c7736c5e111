"""What commands print on standard output: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic_core
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floxide_amqp.core.graph import Graph
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.runtime.kin_views import ChildInfo, ChildPage
from floxide_amqp.runtime.views import RunInfo, WaitInfo

CHILDREN_SHOWN = 10
"""Children that the status of a run names."""

PIPE_WIDTH = 240
"""Columns of a table that does not go to a terminal: nothing in it is cut for want of room."""


def as_json(value: Any) -> str:
    """Return any value as indented JSON: records, dataclasses, models, dates; bytes as base64, the unknown as text."""
    return pydantic_core.to_json(value, indent=2, bytes_mode="base64", fallback=repr).decode()


def as_json_line(value: Any) -> str:
    """Return any value as JSON in one line, written as `as_json` does."""
    return pydantic_core.to_json(value, bytes_mode="base64", fallback=repr).decode()


def result_as_json(graph: Graph, value: Any) -> str:
    """Return a run's output as JSON, written as its type says."""
    try:
        if not graph.many_outputs:
            return graph.output.to_json(value).decode()
        loaded = [json.loads(graph.output.to_json(each)) for each in value]
    except (CodecError, pydantic_core.PydanticSerializationError):  # bytes that are no text, say
        return as_json(value)
    return json.dumps(loaded, indent=2, ensure_ascii=False)


def print_text(text: str) -> None:
    """Print to standard output as it is."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns, each on one line; a terminal narrower than them wraps."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(" ".join(shown(value).splitlines())) for value in row))
    _print(table)


def child_status(child: ChildInfo) -> str:
    """Return how a child ended, as far as its parent has heard of it."""
    return "goes on" if child.status is None else child.status.value


def children_in_words(page: ChildPage) -> str:
    """Return the first children of a run, a line each."""
    lines = [f"{each.run_id} ({each.node}): {child_status(each)}" for each in page.children[:CHILDREN_SHOWN]]
    if len(page.children) > CHILDREN_SHOWN:
        lines.append("and more: floxide children")
    return "\n".join(lines)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values below each other; what is None or empty is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, ""):
            table.add_row(Text(name), Text(shown(value)))
    _print(table)


def shown(value: object) -> str:
    """Return a value as a person reads it."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
        case timedelta():
            return f"{value.total_seconds():.3f} s"
        case _:
            return str(value)


def in_words(waits: Sequence[WaitInfo]) -> str:
    """Return what a run waits for as the end of a sentence about it."""
    return f"waits for {'; and for '.join(map(wait_in_words, waits)) or 'something that cannot be read'}"


def wait_in_words(wait: WaitInfo) -> str:
    """Return one thing a run waits for, with how many of its items do, since when and until when."""
    parts = (
        wait.what.removesuffix("."),
        f"{wait.items} items" if wait.items > 1 else "",
        f"since {shown(wait.since)}" if wait.since else "",
        f"until {shown(wait.until)}" if wait.until else "",
    )
    return ", ".join(part for part in parts if part)


def undone_in_words(info: RunInfo) -> str:
    """Return how far a run is with undoing what its steps did; empty where there is nothing to say of it."""
    undo = info.undo
    if info.status is not RunStatus.COMPENSATING and not (undo.done or undo.failed):
        return ""
    left, failed = f"{undo.left} left" if undo.left else "", f"{undo.failed} failed" if undo.failed else ""
    parts = ("1 step" if undo.done == 1 else f"{undo.done} steps", left, failed)
    return ", ".join(part for part in parts if part)


def hex_dump(data: bytes, *, most: int = 1024) -> str:
    """Return bytes as offset, hexadecimal and text, 16 a line."""
    lines = [
        f"{start:06x}  {data[start : start + 16].hex(' '):<47}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[start : start + 16])
        for start in range(0, min(len(data), most), 16)
    ]
    if len(data) > most:
        lines.append(f"… {len(data) - most} bytes more; --json has them all")
    return "\n".join(lines)


def _print(table: Table) -> None:
    """Print a table without the blanks that fill its last column."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    print_text("\n".join(line.rstrip() for line in captured.get().splitlines()))
