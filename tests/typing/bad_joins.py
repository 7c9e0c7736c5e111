"""Mistakes in joins, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import ReduceNode, all_of, all_of_each, any_of, first, gather, n_of, node


@node
async def both(pair: tuple[int, str]) -> bytes:
    return b""


@node
async def numbers(given: list[int]) -> bytes:
    return b""


def add(total: int, picked: Picked) -> int:
    return total + 1


all_of(spell, count) >> both  # expect: the sources in another order
all_of(count, spell, missing="skip") >> both  # expect: None where the node takes a value
all_of(count, spell, count) >> both  # expect: one source too many
all_of(count, spell, missing="drop")  # expect: an unknown policy
any_of(count, spell) >> length  # expect: one of several values into a node that takes one of them
all_of_each([spell]) >> numbers  # expect: generated sources of another type
n_of(1, spell, spell) >> numbers  # expect: some of several into a list of others
charge >> all_of(count, spell)  # expect: a way into a join
gather(pack, errors="drop")  # expect: an unknown way with errors
pick >> first(length)  # expect: the first of a fan-out into a node that takes another
split >> gather(ReduceNode(add, 0))  # expect: a fold of other elements
ReduceNode(add, "")  # expect: another beginning
