"""Concurrency keys and rate limits as shown to people, and changing them while everything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from floxide_amqp.core.instants import at
from floxide_amqp.core.limits import LimitChange, LimitState, Ticket, check_limit, is_limit_name, key_text, set_limit
from floxide_amqp.core.rates import Rate
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.key_names import readable_key
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.rate_keys import rate_place

MOST_COUNTED: Final = 1_000
"""Those who wait that are counted, so that showing a key costs the same however many there are."""

MAX_ROUNDS: Final = 1_000
"""Changes made to let in who waits when a limit is raised; each lets in many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo:
    """A concurrency key.

    Attributes:
        name: The limit's.
        key: The key; empty where all steps share one.
        limit: How many steps, or runs, may hold it.
        is_set: Whether somebody has set that; else it is what the code says.
        held: How many hold it.
        waiting: How many wait for it, counted up to `MOST_COUNTED`.
        holders: The runs and items that hold it; ``!run`` in place of the item where a run as a whole does.
        id: What it is called in the store, for lists that go on behind it: ``name/key``, with a digest for the key
            where that is secret.
    """

    name: str
    key: str
    limit: int
    is_set: bool
    held: int
    waiting: int
    holders: tuple[tuple[str, str], ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateInfo:
    """A key of a rate limit.

    Attributes:
        name: The limit's.
        key: The key; empty where all steps share one.
        limit, per, burst: How many bodies may start within which time, and how many more after a quiet one.
        is_set: Whether somebody has set that; else it is what the code says.
        line_until: Until when those wait who wait in the store; None where nobody does.
        id: What it is called in the store, for lists that go on behind it.
    """

    name: str
    key: str
    limit: int
    per: timedelta
    burst: int
    is_set: bool
    line_until: datetime | None
    id: str = ""


class LimitKeys:
    """Concurrency keys and rate limits: who holds or waits for them, and how many may.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[LimitInfo]:
        """Return keys that steps have asked for, in the order of their ids ``name/key``, behind one of them."""
        ids = await self._services.limit_keys.ids(after=self._called(after), limit=limit)
        return [await self._info(limit_id) for limit_id in ids]

    async def get(self, name: str, key: str | int = "") -> LimitInfo:
        """Return one key; one that nobody has asked for yet has no holders.

        Raises:
            DefinitionError: There cannot be such a key.
        """
        return await self._info(self._id_of(name, key))

    async def set(self, name: str, key: str | int = "", *, limit: int | None) -> LimitInfo:
        """Let another number of steps hold a key from now on; who waits is let in, nobody is interrupted.

        Args:
            name: The limit's name.
            key: The key.
            limit: 1 to 1,000; None for what the code says.

        Raises:
            DefinitionError: There cannot be such a key, or such a limit.
        """
        limit_id = self._id_of(name, key)
        wanted = 0 if limit is None else check_limit(limit, where=limit_id)

        def changing(state: LimitState, waiting: Sequence[Ticket]) -> LimitChange:
            return set_limit(state, waiting, wanted)

        for _ in range(MAX_ROUNDS):
            changed = await self._services.limit_keys.change(limit_id, changing, self._shown(limit_id))
            self._services.on_letters(changed.letters)
            if not changed.letters:
                break
        return await self._info(limit_id)

    async def rates(self, *, after: str = "", limit: int = 100) -> Sequence[RateInfo]:
        """Return keys of rate limits that were used lately or are set, in the order of their ids, behind one."""
        ids = await self._services.rate_keys.ids(after=self._called(after), limit=limit)
        return [await self._rate(rate_id) for rate_id in ids]

    async def rate(self, name: str, key: str | int = "") -> RateInfo:
        """Return one key of a rate limit.

        Raises:
            DefinitionError: There cannot be such a key.
        """
        return await self._rate(self._id_of(name, key))

    async def set_rate(
        self,
        name: str,
        key: str | int = "",
        *,
        limit: int | None,
        per: timedelta | float | None = None,
        burst: int | None = None,
    ) -> RateInfo:
        """Let bodies of a key start at another rate from now on; those that wait in the store keep their times.

        Args:
            name: The limit's name.
            key: The key.
            limit: Starts within the time, 1 to 1,000,000; None for what the code says.
            per: The time, `timedelta` or seconds, 100 ms to 31 days; None for the one that holds now.
            burst: How many more may start at once after a quiet time; None for as many as now.

        Raises:
            DefinitionError: There cannot be such a key, or such a rate; or nobody knows yet which time holds now.
        """
        rate_id = self._id_of(name, key)
        wanted = None if limit is None else await self._wanted(name, rate_id, limit, per, burst)
        await self._services.rate_keys.set(rate_id, wanted, self._shown(rate_id))
        return await self._rate(rate_id)

    def is_rate(self, name: str) -> bool:
        """Whether nodes of this application have a rate limit of a name, and neither nodes nor runs a key of it."""
        graphs = self._services.registry.graphs.values()
        options = [node.options for graph in graphs for node in graph.nodes.values()]
        keys = [*(graph.options.concurrency for graph in graphs), *(each.concurrency for each in options)]
        is_key = any(each is not None and each.name == name for each in keys)
        return not is_key and any(each.rate is not None and each.rate.name == name for each in options)

    async def _wanted(
        self, name: str, rate_id: str, limit: int, per: timedelta | float | None, burst: int | None
    ) -> Rate:
        """Return a rate with what is left open as it is now, or else as the code says."""
        if per is None or burst is None:
            now = await self._now(name, rate_id)
            if now is None and per is None:
                raise DefinitionError(
                    f"{rate_id}: nobody has asked for this key yet, and no node here has such a rate limit. "
                    "Say per=..., the time for so many starts."
                )
            per = now.per_ms / 1000 if per is None and now is not None else per
            burst = now.burst if burst is None and now is not None else burst or 0
        return Rate.of(limit, per, burst, where=rate_id)

    async def _now(self, name: str, rate_id: str) -> Rate | None:
        found = await self._services.rate_keys.find(rate_id)
        if found.version and not found.is_damaged and (found.state.next_us or found.state.override):
            return found.state.rate
        options = (node.options for graph in self._services.registry.graphs.values() for node in graph.nodes.values())
        rates = (each.rate.rate for each in options if each.rate is not None and each.rate.name == name)
        return next(rates, None)

    def _id_of(self, name: str, key: str | int) -> str:
        if not is_limit_name(name):
            raise DefinitionError(f"No limit is called {name!r}: 1 to 100 printable characters, no blanks and slashes.")
        try:
            text = key_text(name, key)
        except (TypeError, ValueError) as error:
            raise DefinitionError(str(error)) from error
        if text is None:
            raise DefinitionError(f"Limit {name!r} has no key None.")
        return self._services.key_names.id_of(self._services.sealing, name, text)

    def _called(self, limit_id: str) -> str:
        """Return what a key is called in the store, of its id, or of its name and its text."""
        name, _, key = limit_id.partition("/")
        if not key or key.startswith("#"):
            return limit_id
        return self._services.key_names.id_of(self._services.sealing, name, key)

    def _shown(self, limit_id: str) -> bytes:
        return self._services.key_names.shown(self._services.sealing, limit_id)

    async def _rate(self, rate_id: str) -> RateInfo:
        found = await self._services.rate_keys.find(rate_id)
        state, name = found.state, rate_id.partition("/")[0]
        key = readable_key(self._services.sealing, rate_id, found.shown)
        is_line = state.end_us > 1000 * self._services.now_ms(rate_place(rate_id))
        return RateInfo(
            name=name, key=key, limit=state.rate.limit, per=timedelta(milliseconds=state.rate.per_ms),
            burst=state.rate.burst, is_set=state.override is not None,
            line_until=at(state.end_us // 1000) if is_line else None, id=rate_id,
        )  # fmt: skip

    async def _info(self, limit_id: str) -> LimitInfo:
        found = await self._services.limit_keys.find(limit_id, waiting=MOST_COUNTED)
        name, key = limit_id.partition("/")[0], readable_key(self._services.sealing, limit_id, found.shown)
        return LimitInfo(
            name=name, key=key, limit=found.state.limit, is_set=bool(found.state.override),
            held=len(found.state.holders), waiting=len(found.waiting),
            holders=tuple((each.run_id, each.item_id) for each in found.state.holders), id=limit_id,
        )  # fmt: skip
