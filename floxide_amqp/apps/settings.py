"""What the environment says about where an application runs.

Four variables, read by the command line (every command but `run`) and by programs that ask for them:

- ``FLOXIDE_BROKER``: the broker's URL, instead of the one in the code;
- ``FLOXIDE_STORE``: the store's URL, likewise;
- ``FLOXIDE_HTTP``: where a worker serves its health, ``HOST:PORT``;
- ``FLOXIDE_ENCRYPTION_KEYS``: the keys to encrypt and decrypt with, ``id:base64,id:base64``, the current one first;
  this one ``run`` reads too.

An empty variable counts as none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

BROKER_VARIABLE: Final = "FLOXIDE_BROKER"
STORE_VARIABLE: Final = "FLOXIDE_STORE"
HTTP_VARIABLE: Final = "FLOXIDE_HTTP"
KEYS_VARIABLE: Final = "FLOXIDE_ENCRYPTION_KEYS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where an application runs, where it shows its health, and its keys; None leaves it to the code."""

    broker: str | None = None
    store: str | None = None
    http: str | None = None
    encryption_keys: str | None = field(default=None, repr=False)

    def under(self, *, broker: str | None, store: str | None) -> Settings:
        """Return these settings with what the command line says on top."""
        return replace(self, broker=broker or self.broker, store=store or self.store)


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return what the environment says.

    Args:
        environ: The environment; the process's own if left out.
    """
    environ = os.environ if environ is None else environ
    return Settings(
        broker=environ.get(BROKER_VARIABLE) or None, store=environ.get(STORE_VARIABLE) or None,
        http=environ.get(HTTP_VARIABLE) or None, encryption_keys=environ.get(KEYS_VARIABLE) or None,
    )  # fmt: skip
