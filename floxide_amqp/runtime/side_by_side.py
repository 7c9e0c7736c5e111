"""Doing a page of work at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do a page of work at once and raise the first error when all of it is done.

    One after the other, each item would cost several round trips of a busy worker: a round over hundreds of items took
    half a minute, in which no timer fired and the lease was not renewed. Side by side they share their round trips.
    """
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
