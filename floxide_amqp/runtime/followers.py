"""Which runs somebody follows, so that those who commit to them say so; of the others nothing is said.

Whoever follows a run asks for it again and again, and is forgotten if he stops. All of it are hints: who hears nothing
looks at the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.control import ControlBus
from floxide_amqp.runtime.messages import RunNews, encode_event

ASKED_EVERY_SECONDS = 10.0
"""Between two times that somebody who follows a run says so."""

ASKED_AGAIN_SECONDS = 0.2
"""After the first time that somebody says so: a worker that was just starting may not have heard it."""

FORGOTTEN_AFTER_SECONDS = 3.5 * ASKED_EVERY_SECONDS

PAUSE_SECONDS = 0.05
"""Between two times that a run's followers are told: what is committed meanwhile is told of once."""

MOST_RUNS = 10_000
"""Runs that are followed at a time at most; those asked for beyond are followed by looking at the store alone."""


class Followers:
    """Remembers who follows which run, and tells them."""

    def __init__(self) -> None:
        self._keys: dict[RunId, dict[str, float]] = {}
        self._changed: dict[RunId, None] = {}
        self._something = asyncio.Event()

    def follow(self, run_ids: Iterable[RunId], key: str) -> None:
        """Note that whoever hears this routing key follows some runs.

        Who is new is told at once: something may have been committed between his look at the store and this.
        """
        now = asyncio.get_running_loop().time()
        for run_id in run_ids:
            if run_id in self._keys or len(self._keys) < MOST_RUNS or self._forget_old(now):
                keys = self._keys.setdefault(run_id, {})
                is_new = key not in keys
                keys[key] = now + FORGOTTEN_AFTER_SECONDS
                if is_new:
                    self.note(run_id)

    def note(self, run_id: RunId) -> None:
        """Note that something of a run was committed."""
        if run_id in self._keys:
            self._changed[run_id] = None
            self._something.set()

    async def tell(self, bus: ControlBus) -> None:
        """Tell the followers of runs of which something was committed, until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            changed, self._changed = self._changed, {}
            for run_id in changed:
                await self._tell_of(bus, run_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _tell_of(self, bus: ControlBus, run_id: RunId) -> None:
        now = asyncio.get_running_loop().time()
        keys = {key: until for key, until in self._keys.get(run_id, {}).items() if until > now}
        if not keys:
            self._keys.pop(run_id, None)
            return
        self._keys[run_id] = keys
        body = encode_event(RunNews(runs=(run_id,), status=RunStatus.RUNNING))
        for key in keys:
            await bus.announce(key, body)

    def _forget_old(self, now: float) -> bool:
        """Forget runs that nobody follows any more; return whether there is room for another."""
        self._keys = {run_id: keys for run_id, keys in self._keys.items() if max(keys.values()) > now}
        return len(self._keys) < MOST_RUNS
