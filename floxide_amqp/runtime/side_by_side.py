"""Working a page of records off, so many at a time.

One after the other, each record would cost several round trips of a busy worker: a round over hundreds of items took
half a minute, in which no timer fired and the lease was not renewed. Side by side they share their round trips. All at
once they would flood the store and the broker: a burst is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from floxide_amqp.exceptions import FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.maintenance")

AT_ONCE = 100
"""Records in work at a time: enough to fill a group of the store, few enough that a broker does not choke on them."""

MOST_REPORTED = 10
"""Errors of one page that are logged besides the one that is raised."""

T = TypeVar("T")


async def side_by_side(act: Callable[[T], Awaitable[object]], records: Sequence[T], *, at_once: int = AT_ONCE) -> None:
    """Act on each record, at most so many at a time, and raise the first error when all of it is done.

    What else went wrong is logged, each text once.
    """
    left = iter(records)
    errors: list[Exception] = []

    async def act_on_some() -> None:
        for record in left:
            try:
                await act(record)
            except Exception as error:  # noqa: BLE001 - raised below: one record does not keep another from its turn
                errors.append(error)

    await asyncio.gather(*(act_on_some() for _ in range(min(at_once, len(records)))))
    raise_first(errors)


def raise_first(results: Iterable[object]) -> None:
    """Raise the first error among results, if there is one; what the others say besides is logged, some of it."""
    errors = [each for each in results if isinstance(each, BaseException)]
    others = {str(each): each for each in errors if str(each) != str(errors[0])}
    for other in list(others.values())[:MOST_REPORTED]:
        report(other)
    if errors:
        raise errors[0]


async def work_off(act: Callable[[T], Awaitable[object]], records: Sequence[T], *, at_once: int = AT_ONCE) -> bool:
    """Act on each record and report what cannot be done; return whether all could.

    Raises:
        StoreUnavailableError: The store is out of reach; StoreFullError: it has no space.
    """
    try:
        await side_by_side(act, records, at_once=at_once)
    except WAITED_FOR:
        raise
    except Exception as error:  # noqa: BLE001 - a supervisor: what one record does not let be done is tried again
        report(error)
        return False
    return True


def report(error: BaseException) -> None:
    """Log that a part of a round broke off."""
    _log.warning("maintenance.round_failed", error=str(error), exc_info=not isinstance(error, FloxideError))
