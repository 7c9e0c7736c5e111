"""Starts that are told apart by a key: within a time, all with the same key are one run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from floxide_amqp.core.fast_dataclasses import dataclass, replace
from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import raise_first
from floxide_amqp.runtime.starting import StartRequest, is_taken
from floxide_amqp.stores.claims import claim_place

DEDUPE_FOR: Final = timedelta(days=1)
"""How long a key stands for its run, where that is not said."""

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=366)

MAX_DEDUPE_KEY: Final = 1_000
"""Characters of a key; only its digest is stored."""


@dataclass(frozen=True, slots=True)
class DedupeKey:
    """What tells starts of one workflow apart.

    Attributes:
        key: 1 to 1,000 characters.
        for_ms: How long it stands for the run of the first start.
    """

    key: str
    for_ms: int

    @classmethod
    def of(cls, key: object, dedupe_for: object) -> DedupeKey | None:
        """Return what somebody gave; None where no key is given.

        Raises:
            DefinitionError: It cannot be one.
        """
        if key is None:
            if dedupe_for is not None:
                raise DefinitionError("start(..., dedupe_for=...) says how long a key holds: give dedupe_key, too.")
            return None
        if not isinstance(key, str) or not 0 < len(key) <= MAX_DEDUPE_KEY:
            raise DefinitionError(f"start(..., dedupe_key={key!r}): it is a text of 1 to {MAX_DEDUPE_KEY} characters.")
        given = DEDUPE_FOR if dedupe_for is None else dedupe_for
        seconds = math.nan
        if isinstance(given, timedelta):
            seconds = given.total_seconds()
        elif isinstance(given, int | float) and not isinstance(given, bool):
            seconds = float(given)
        if not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
            raise DefinitionError(
                f"start(..., dedupe_for={given!r}): it is a timedelta or seconds, from 1 second to {LONGEST.days} days."
            )
        return cls(key, round(1000 * seconds))


@dataclass(frozen=True, slots=True)
class Claimed:
    """Which run a start is about.

    Attributes:
        run_id: The run.
        place: Where the claim of the key lies that decided it; empty where none did.
        is_earlier: Whether an earlier start has decided it.
        is_there: Whether the run is known to be there, so that nothing is to be started.
        look_at_ms: When it would be looked for the run, had this start died; 0 where that is not known.
    """

    run_id: RunId
    place: RunId = RunId("")
    is_earlier: bool = False
    is_there: bool = False
    look_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class KeyedStart:
    """A start, and what tells it apart.

    Attributes:
        is_named: Whether its id is the caller's, so that another run may have it.
    """

    request: StartRequest
    key: DedupeKey | None
    is_named: bool


async def claim_all(services: Services, starts: Sequence[KeyedStart]) -> list[Claimed]:
    """Return which runs these starts are about, and which of them are there already.

    One whose id is taken by another run claims nothing: it is about to be refused.

    Raises:
        Exception: What went wrong with one of them, such as a store that is away, once nothing is under way any more.
    """
    places = [_place_of(start.request, start.key) for start in starts if start.key is not None]
    if not places:
        return [Claimed(start.request.header.run_id) for start in starts]
    await services.session.learn_times(places)
    claims = await asyncio.gather(*(_claim(services, start) for start in starts), return_exceptions=True)
    raise_first(claims)
    return [claim for claim in claims if isinstance(claim, Claimed)]


def _place_of(request: StartRequest, key: DedupeKey) -> RunId:
    return claim_place(request.header.workflow, key.key)


async def _claim(services: Services, start: KeyedStart) -> Claimed:
    run_id = start.request.header.run_id
    if start.key is None:
        return Claimed(run_id)
    place = _place_of(start.request, start.key)
    if start.is_named and await is_taken(services, start.request.header) and await services.claims.find(place) is None:
        return Claimed(run_id)  # not by a start with the same key: that claims it first
    claim, is_own = await services.claims.claim(place, run_id, start.key.for_ms)
    if is_own:
        return Claimed(run_id, place=place, look_at_ms=claim.look_at_ms)
    is_there = claim.is_started or await _is_there(services, claim.run_id)
    return Claimed(claim.run_id, place=place, is_earlier=True, is_there=is_there)


async def _is_there(services: Services, run_id: RunId) -> bool:
    """Whether a run was started, even if it was deleted not long ago."""
    is_there = await services.runs.find(run_id) is not None
    return is_there or (await services.runs.tombstone(run_id))[0] is not None


async def note_started(services: Services, claimed: Sequence[Claimed]) -> None:
    """Note in the claims of keys that their runs are there, so that a key stands for its run when that is gone."""
    looks = {(each.place, each.run_id): each.look_at_ms for each in sorted(claimed, key=_look_at) if each.place}
    await asyncio.gather(*(services.claims.note_started(*place, look_at_ms) for place, look_at_ms in looks.items()))


def _look_at(claimed: Claimed) -> int:
    return claimed.look_at_ms


async def note_found(services: Services, timer: Timer) -> None:
    """Note in a claim that its run is there, where whoever started that died before he did.

    The run may lie on another server; of one that is out of reach nothing is noted.
    """
    claim = await services.claims.find(timer.run_id)
    if claim is None or claim.is_started or services.whole.is_out_of_reach(claim.run_id):
        return
    if await _is_there(services.whole, claim.run_id):
        await services.claims.note_started(timer.run_id, claim.run_id)


def renamed(request: StartRequest, claimed: Claimed) -> StartRequest:
    """Return the start of the run that a key has decided on, in place of the one that it would have been."""
    if not claimed.place:
        return request
    if claimed.run_id == request.header.run_id:
        return replace(request, is_claimed=True)
    start_item = derive_item_id(claimed.run_id, "", "start")
    return replace(
        request, header=replace(request.header, run_id=claimed.run_id, start_item=start_item),
        item=replace(request.item, item_id=start_item), is_claimed=True,
    )  # fmt: skip
