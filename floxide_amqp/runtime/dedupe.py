"""Starts that are told apart by a key: within a time, all with the same key are one run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.starting import StartRequest
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
    """

    run_id: RunId
    place: RunId = RunId("")
    is_earlier: bool = False
    is_there: bool = False


async def claim_all(
    services: Services, workflow: str, starts: Sequence[tuple[RunId, DedupeKey | None]]
) -> list[Claimed]:
    """Return which runs these starts are about, and which of them are there already."""
    places = [claim_place(workflow, given.key) for _, given in starts if given is not None]
    if not places:
        return [Claimed(run_id) for run_id, _ in starts]
    await services.session.learn_times(places)
    return await asyncio.gather(*(_claim(services, workflow, run_id, given) for run_id, given in starts))


async def _claim(services: Services, workflow: str, run_id: RunId, given: DedupeKey | None) -> Claimed:
    if given is None:
        return Claimed(run_id)
    place = claim_place(workflow, given.key)
    claim, is_own = await services.claims.claim(place, run_id, given.for_ms)
    if is_own or claim.is_started:
        return Claimed(claim.run_id, place=place, is_earlier=not is_own, is_there=claim.is_started)
    is_there = (
        await services.runs.find(claim.run_id) is not None
        or (await services.runs.tombstone(claim.run_id))[0] is not None
    )
    return Claimed(claim.run_id, place=place, is_earlier=True, is_there=is_there)


async def note_started(services: Services, claimed: Sequence[Claimed]) -> None:
    """Note in the claims of keys that their runs are there, so that a key stands for its run when that is gone."""
    places = {each.place: each.run_id for each in claimed if each.place}
    await asyncio.gather(*(services.claims.note_started(place, run_id) for place, run_id in places.items()))


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
