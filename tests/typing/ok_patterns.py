"""The paths of the workflow patterns have the types that their programs rely on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Never, assert_type

from floxide_amqp import Hold, Path, Workflow, all_of, any_of, first, gather, node, repeat


@dataclass(frozen=True)
class Found:
    name: str


@dataclass(frozen=True)
class Withdrawn:
    why: str


@node
async def want(trip: str) -> str:
    return trip


@node
async def look(trip: str) -> Found | Hold:
    return Found(trip)


@node
async def withdraw(trip: str) -> Withdrawn | Hold:
    return Withdrawn(trip)


@node
async def note(end: Found | Withdrawn) -> str:
    return str(end)


@node
async def note_all(ends: list[Found | Withdrawn]) -> int:
    return len(ends)


@node
async def pause(trip: str) -> Hold:
    return Hold(for_=timedelta(days=7))


@node
async def choose(trip: str) -> Found | Withdrawn:
    return Found(trip)


@node
async def again(withdrawn: Withdrawn) -> str:
    return withdrawn.why


assert_type(want >> (look, withdraw) >> first(note), Path[str, str])
assert_type(want >> (look, withdraw) >> gather(note_all), Path[str, int])
assert_type(any_of(look, withdraw) >> note, Path[Never, str])
assert_type(all_of(note, want), Path[Never, tuple[str, str]])
assert_type(pause.on_timeout >> want, Path[str, str])
assert_type(choose.when(Withdrawn) >> again >> repeat(choose, max_iterations=3), Path[str, Never])


class Pausing(Workflow[str, str]):
    start = pause
    edges = (pause.on_timeout >> want,)


class Both(Workflow[str, list[Found | Withdrawn]]):
    start = want
    edges = (want >> (look, withdraw),)
