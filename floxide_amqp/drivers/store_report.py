"""What looking at a store's server tells, for every driver alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What `floxide store check` prints.

    Attributes:
        facts: Name and value of what was found, in the order to show.
        problems: What keeps workers from using the store, one paragraph each, with its cure; none where all is well.
        warnings: What they can live with, and somebody should know.
    """

    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
