"""Moments of runs as bytes."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.moments import Moment, MomentKind
from floxide_amqp.exceptions import NewerFormatError
from floxide_amqp.stores.packing import INT, STR, Shape, pack_record, unpack_record

MOMENT: Final = Shape("moment", 6, kind=STR, at_ms=INT, item_id=STR, node=STR, name=STR, until_ms=INT)


def encode_moment(moment: Moment) -> bytes:
    """Encode a moment."""
    return pack_record(
        MOMENT, moment.kind.value, moment.at_ms, moment.item_id, moment.node, moment.name, moment.until_ms
    )  # fmt: skip


def decode_moment(data: bytes) -> Moment:
    """Decode a moment.

    Raises:
        CodecError: The bytes are none.
    """
    kind, at_ms, item_id, node, name, until_ms = unpack_record(MOMENT, data)[:6]
    if kind not in _KINDS:
        raise NewerFormatError(what=MOMENT.what, found=f"the kind {kind[:40]!r}")
    return Moment(kind=_KINDS[kind], at_ms=at_ms, item_id=item_id, node=node, name=name, until_ms=until_ms)


_KINDS = {kind.value: kind for kind in MomentKind}
