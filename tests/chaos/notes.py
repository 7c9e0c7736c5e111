"""What node bodies write into the side ledger by themselves, besides that they began and ended."""

from __future__ import annotations

from typing import Any

from tests.chaos.ledger import Ledger

_OPEN: list[Ledger] = []
"""The ledger of this process, once it has one."""


def write_to(ledger: Ledger) -> None:
    """Have the notes of this process go there from now on."""
    _OPEN[:] = [ledger]


def note(ctx: Any, what: str, key: str = "") -> None:
    """Note that something happened in a body: as ``note:WHAT``, with a key of whatever kind."""
    for ledger in _OPEN:
        ledger.write(f"note:{what}", ctx.run_id, ctx.item_id, ctx.node, key or "-", ctx.attempt)
