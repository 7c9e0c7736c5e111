"""I15: no window of a rate limit has more starts than it says, by a clock outside the engine: the simulation's own."""

from __future__ import annotations

import asyncio
import weakref
from typing import Final

from floxide_amqp import RateLimit
from floxide_amqp.testing.simulation.story import Story

PACED: Final = RateLimit("paced", 2, per=0.5)
"""The limit of random nodes, over all runs and workflows of a simulation."""

_STARTS: Final = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[float]]()


def note_start() -> None:
    """Note that a body of the limit starts now."""
    loop = asyncio.get_running_loop()
    _STARTS.setdefault(loop, []).append(loop.time())


def check_rates(story: Story) -> None:
    """Note a window with too many starts; a store whose clock was set back and ahead promises nothing."""
    if story.faults["store's clock jumped"]:
        return
    starts, most = sorted(_STARTS.get(asyncio.get_running_loop(), ())), PACED.rate.limit
    for first, beyond in zip(starts, starts[most:], strict=False):
        if beyond - first < PACED.rate.per_ms / 1000:
            story.violation(f"I15: {most + 1} bodies started within {beyond - first:.3f} s, at {first:.3f}")
