"""Payloads on their way from one step to the next in the same process: checked once, and not decoded again.

Whether a value can be stored is seen by decoding what it was dumped to. What that gives belongs to nobody yet, so the
step that the worker goes on with may have it. It is given away once: whoever reads the payload after that, such as the
same step when it is tried again, gets a value of its own.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.stores.large_inputs import Carried

NOTHING: Final = object()
"""In place of a value where there is none to be had, or none any more."""


class Fresh(Carried):
    """A payload that this process has just encoded, and a value of it for the first who reads it."""

    _kind: PayloadType | None = None
    _value: object = NOTHING

    def hold(self, kind: PayloadType, value: object) -> None:
        """Keep a value for the first reader.

        Args:
            kind: The type it was encoded as.
            value: What decoding it as that type gives; nobody else has it.
        """
        self._kind, self._value = kind, value

    def take(self, kind: PayloadType) -> object:
        """Return the value if it is of this type and nobody has taken it yet, else `NOTHING`."""
        if self._kind is not kind:
            return NOTHING
        value, self._value, self._kind = self._value, NOTHING, None
        return value
