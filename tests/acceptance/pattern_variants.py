"""Workflows that try the patterns where they are hard: any subset of branches, late ones, loops that cross."""

from __future__ import annotations

from dataclasses import dataclass

from examples.patterns.p19_cancel_activity import Withdrawn, await_withdrawal
from floxide_amqp import (
    Context,
    EventLog,
    Hold,
    Signal,
    Workflow,
    WorkflowCtx,
    all_of,
    any_of,
    first,
    gather,
    node,
    repeat,
)

GO = Signal("go", str)
NEVER = Signal("never", str)
NEAR = Signal("near", str)
FAR = Signal("far", str)


@node
async def choose(chosen: frozenset[str]) -> frozenset[str]:
    return chosen


def has_a(chosen: frozenset[str]) -> bool:
    return "a" in chosen


def has_b(chosen: frozenset[str]) -> bool:
    return "b" in chosen


def has_c(chosen: frozenset[str]) -> bool:
    return "c" in chosen


@node
async def a_last(chosen: frozenset[str]) -> str:
    return "a"


@node
async def b_first(chosen: frozenset[str]) -> str:
    return "b"


@node
async def b_last(letter: str) -> str:
    return letter


@node
async def c_first(ctx: WorkflowCtx[Context], chosen: frozenset[str]) -> str | Hold:
    return "c" if ctx.timed_out else Hold(until=NEVER, timeout=0.01)


@node
async def c_last(letter: str) -> str:
    return letter


@node
async def merge(letters: list[str]) -> str:
    return "+".join(letters)


class MergeByGather(Workflow[frozenset[str], str]):
    start = choose
    edges = (
        choose.when(has_a) >> a_last >> gather(merge),
        choose.when(has_b) >> b_first >> b_last >> gather(merge),
        choose.when(has_c) >> c_first >> c_last >> gather(merge),
        choose.otherwise,
    )


@node
async def merge_joined(letters: tuple[str | None, str | None, str | None]) -> str:
    return "+".join(letter for letter in letters if letter is not None)


@node
async def nothing(chosen: frozenset[str]) -> str:
    return ""


class MergeByJoin(Workflow[frozenset[str], list[str]]):
    start = choose
    edges = (
        choose.when(has_a) >> a_last,
        choose.when(has_b) >> b_first >> b_last,
        choose.when(has_c) >> c_first >> c_last,
        choose.otherwise >> nothing,
        all_of(a_last, b_last, c_last, missing="skip") >> merge_joined.named("merge"),
    )


@node
async def begin(chosen: frozenset[str]) -> frozenset[str]:
    return chosen


@node
async def elsewhere(ctx: WorkflowCtx[Context], chosen: frozenset[str]) -> str | Hold:
    return ctx.received(GO) or Hold(until=GO)


@node
async def both(ends: tuple[str, str]) -> tuple[str, str]:
    return ends


class MergeBesideOthers(Workflow[frozenset[str], tuple[str, str]]):
    start = begin
    edges = (
        begin >> (choose, elsewhere),
        choose.when(has_a) >> a_last >> gather(merge),
        choose.when(has_b) >> b_first >> b_last >> gather(merge),
        choose.when(has_c) >> c_first >> c_last >> gather(merge),
        choose.otherwise,
        all_of(merge, elsewhere) >> both,
    )


class Picked(Context):
    log: EventLog[str] = EventLog()


@node
async def set_out(number: int) -> int:
    return number


@node
async def near(ctx: WorkflowCtx[Picked], number: int) -> str | Hold:
    return ctx.received(NEAR) or Hold(until=NEAR)


@node
async def far(ctx: WorkflowCtx[Picked], number: int) -> str | Hold:
    return ctx.received(FAR) or Hold(until=FAR)


@node
async def pick(ctx: WorkflowCtx[Picked], arrived: str) -> int | str:
    ctx.state.log.append(arrived)
    return len(ctx.state.log) if len(ctx.state.log) < 2 else arrived


class Rounds(Workflow[int, str, Picked]):
    start = set_out
    edges = (
        set_out >> (near, far),
        any_of(near, far) >> pick,
        pick.when(int) >> repeat(set_out, max_iterations=5),
        pick.when(str),
    )


@dataclass(frozen=True)
class ToA:
    way: str


@dataclass(frozen=True)
class ToB:
    way: str


@dataclass(frozen=True)
class ToD:
    way: str


@node
async def enter(way: str) -> ToA | ToB:
    return ToA(way[1:]) if way[0] == "a" else ToB(way[1:])


@node
async def a(to: ToA) -> ToB:
    return ToB(to.way[1:])


@node
async def b(to: ToB) -> str:
    return to.way[1:]


@node
async def c(way: str) -> ToA | ToD | None:
    return ToA(way[1:]) if way.startswith("a") else ToD(way[1:]) if way else None


@node
async def d(to: ToD) -> ToB | None:
    return ToB(to.way[1:]) if to.way else None


class Crossing(Workflow[str, None]):  # the loops a-b-c and b-c-d overlap, and none lies in the other
    start = enter
    edges = (
        enter.when(ToA) >> a,
        enter.when(ToB) >> b,
        a >> b >> c,
        c.when(ToA) >> repeat(a, max_iterations=100),
        c.when(ToD) >> d,
        c.when(None),
        d.when(ToB) >> repeat(b, max_iterations=100),
        d.when(None),
    )


@node
async def want(trip: str) -> str:
    return trip


@node
async def look(ctx: WorkflowCtx[Context], trip: str) -> str | Hold:
    return ctx.received(GO) or Hold(until=GO)


@node
async def note(found: str | Withdrawn) -> str:
    return found if isinstance(found, str) else found.why


class QuickTravelling(Workflow[str, str]):
    start = want
    edges = (want >> (look, await_withdrawal) >> first(note),)
