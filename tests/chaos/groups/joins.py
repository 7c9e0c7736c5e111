"""Group 1: joins over edges, fan-outs that are closed early, errors that are collected, folds."""

from __future__ import annotations

import asyncio

from floxide_amqp import (
    FailureInfo,
    NextAll,
    ReduceNode,
    RetryPolicy,
    Workflow,
    WorkflowCtx,
    all_of,
    any_of,
    first,
    gather,
    n_of,
    node,
)
from tests.chaos.checks.joins import COLLECTED, FOLDED, RACERS
from tests.chaos.groups.desk import Desk, Group


def pause_of(number: int, branch: int) -> float:
    """How long a branch takes, seconds: now this one is first, now that."""
    return (number * 7 + branch * 13) % 5 * 0.04


@node
async def begin(number: int) -> int:
    return number


@node
async def north(number: int) -> int:
    await asyncio.sleep(pause_of(number, 1))
    return number + 1


@node
async def east(number: int) -> str:
    await asyncio.sleep(pause_of(number, 2))
    return str(number)


@node(queue="warehouse")
async def south(number: int) -> int:
    await asyncio.sleep(pause_of(number, 3))
    return number + 3


@node
async def both(pair: tuple[int, str]) -> list[str]:
    return [str(pair[0]), pair[1]]


@node
async def one(value: int) -> int:
    return value


@node
async def two(values: list[int]) -> list[int]:
    return values


@node
async def maybe(values: tuple[int | None, int | None]) -> list[int | None]:
    return list(values)


class JoiningAll(Workflow[int, list[str]], version="1"):
    start = begin
    edges = (begin >> (north, east), all_of(north, east) >> both)


class JoiningAny(Workflow[int, int], version="1"):
    start = begin
    edges = (begin >> (north, south), any_of(north, south) >> one)


west = north.named("west")


class JoiningSome(Workflow[int, list[int]], version="1"):
    start = begin
    edges = (begin >> (north, south, west), n_of(2, north, south, west) >> two)


class JoiningWhatComes(Workflow[int, list[int | None]], version="1"):
    start = begin
    edges = (
        begin.when(lambda number: number % 2 == 0) >> north,
        begin.otherwise >> south,
        all_of(north, south, missing="skip") >> maybe,
    )


# --- fan-outs


@node
async def race(number: int) -> NextAll[int]:
    return NextAll([number * 100 + lane for lane in range(RACERS)])


@node
async def run(lane: int) -> int:
    await asyncio.sleep(pause_of(lane, lane))
    return lane


class Racing(Workflow[int, int], version="1"):
    start = race
    edges = (race >> run >> first(one),)


class RacingForTwo(Workflow[int, list[int]], version="1"):
    start = race
    edges = (race >> run >> gather(two, at_most=2),)


class CrookedError(Exception):
    """Of each third."""


@node
async def pieces(number: int) -> NextAll[int]:
    return NextAll([number + piece for piece in range(COLLECTED)])


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.05))
async def try_out(ctx: WorkflowCtx, piece: int) -> int:
    if piece % 3 == 0:
        raise CrookedError(str(piece))
    return piece


@node
async def sort_out(pieces: list[int | FailureInfo]) -> list[str]:
    return [f"{each.error_type.rpartition('.')[2]} {each.attempts}" if isinstance(each, FailureInfo) else str(each)
            for each in pieces]  # fmt: skip


class Collecting(Workflow[int, list[str]], version="1"):
    start = pieces
    edges = (pieces >> try_out >> gather(sort_out, errors="collect"),)


@node
async def coins(number: int) -> NextAll[int]:
    return NextAll([number + coin for coin in range(FOLDED)])


@node
async def count(coin: int) -> int:
    return coin * 2


def add(total: int, coin: int) -> int:
    """Tell the order too."""
    return (total * 31 + coin) % 1_000_003


@node
async def saved(total: int) -> int:
    return total


class Folding(Workflow[int, int], version="1"):
    start = coins
    edges = (coins >> count >> gather(ReduceNode(add, 0, name="purse")) >> saved,)


WORKFLOWS = {
    "all": JoiningAll,
    "any": JoiningAny,
    "some": JoiningSome,
    "missing": JoiningWhatComes,
    "first": Racing,
    "atmost": RacingForTwo,
    "collect": Collecting,
    "fold": Folding,
}


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run and wait for its end."""
    run_id = f"joins-{kind}-{number}"
    await desk.start(WORKFLOWS[kind], number, run_id)
    await desk.end_of(run_id)


GROUP = Group(1, "joins", tuple(WORKFLOWS), tuple(WORKFLOWS.values()), deed)
