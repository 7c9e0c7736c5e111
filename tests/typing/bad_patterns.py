"""Mistakes in the workflow patterns that both checkers refuse."""

from __future__ import annotations

from ok_patterns import *

from floxide_amqp import any_of, first, gather, node, repeat


@node
async def only_found(end: Found) -> str:
    return end.name


@node
async def only_some(ends: list[Found]) -> int:
    return len(ends)


want >> (look, withdraw) >> first(only_found)  # expect: the winner may be the other
want >> (look, withdraw) >> gather(only_some)  # expect: another type is among those gathered
any_of(look, withdraw) >> only_found  # expect: the first may be the other
choose.when(Found) >> repeat(choose, max_iterations=3)  # expect: the loop's head takes something else
look.on_timeout >> only_found  # expect: a timeout edge has the input of the node
