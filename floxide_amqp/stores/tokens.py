"""Commit tokens: what tells a batch from every other, so that a commit whose reply was lost can be settled."""

from __future__ import annotations

import itertools
import secrets


class Tokens:
    """Makes the commit tokens of one session: 16 bytes that no other commit has.

    Args:
        prefix: What they begin with: 8 bytes that no other session has; by default random ones.
    """

    def __init__(self, prefix: bytes | None = None) -> None:
        self._prefix = secrets.token_bytes(8) if prefix is None else prefix
        self._numbers = itertools.count(1)

    def new(self) -> bytes:
        """Return a token."""
        return self._prefix + next(self._numbers).to_bytes(8, "big")

    def made(self, token: bytes) -> bool:
        """Return whether a token was made here."""
        return token.startswith(self._prefix)
