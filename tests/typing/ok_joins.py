"""What the types of joins are."""

from __future__ import annotations

from typing import Never, assert_type

from shop import *

from floxide_amqp import FailureInfo, Path, ReduceNode, all_of, all_of_each, any_of, first, gather, n_of, node


@node
async def both(pair: tuple[int, str]) -> bytes:
    return b""


@node
async def perhaps(pair: tuple[int | None, str | None]) -> bytes:
    return b""


@node
async def numbers(given: list[int]) -> bytes:
    return b""


@node
async def either(given: list[int | str]) -> bytes:
    return b""


@node
async def picked_or_not(given: list[Picked | FailureInfo]) -> Packed:
    return Packed(0)


def add(total: int, picked: Picked) -> int:
    return total + 1


charge >> (count, spell)
assert_type(all_of(count, spell), Path[Never, tuple[int, str]])
assert_type(all_of(count, spell) >> both, Path[Never, bytes])
assert_type(all_of(count, spell, missing="skip") >> perhaps, Path[Never, bytes])
assert_type(all_of(count, spell, count), Path[Never, tuple[int, str, int]])
assert_type(any_of(count, spell), Path[Never, int | str])
assert_type(any_of(count, spell) >> merge, Path[Never, bytes])
assert_type(all_of_each([count, count]) >> numbers, Path[Never, bytes])
assert_type(n_of(2, count, spell) >> either, Path[Never, bytes])
assert_type(gather(picked_or_not, errors="collect"), Path[Picked | FailureInfo, Packed])
split >> pick >> gather(picked_or_not, errors="collect") >> notify
assert_type(split >> pick >> gather(pack, at_most=3), Path[Approved, Packed])
assert_type(first(pick), Path[str, Picked])
assert_type(split >> pick >> gather(ReduceNode(add, 0)), Path[Approved, int])
