"""Many seeds side by side, in processes of their own."""

from __future__ import annotations

import functools
import gc
import multiprocessing
from collections.abc import Iterator, Sequence

from floxide_amqp.testing.simulation.seeds import Played, play_seed

COLLECT_EVERY = 50
"""Seeds between two garbage collections; in between there is none, which saves a fifth of the time."""

CHUNK = 5
"""Seeds handed to a process at a time."""


def play_all(seeds: Sequence[int], processes: int, kinds: Sequence[str] | None = None) -> Iterator[Played]:
    """Play seeds and return how each ended, as they end.

    Args:
        seeds: The seeds.
        processes: How many play side by side; with 1 this very process does.
        kinds: The kinds of faults that may happen; all by default.
    """
    play = functools.partial(play_without_collecting, kinds=kinds)
    if processes <= 1:
        yield from map(play, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(play, seeds, chunksize=CHUNK)


def play_without_collecting(seed: int, kinds: Sequence[str] | None = None) -> Played:
    """Play one seed of many; garbage is collected after every so many of them."""
    was_enabled = gc.isenabled()
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    gc.disable()
    try:
        return play_seed(seed, kinds=kinds)
    finally:
        if was_enabled:
            gc.enable()
