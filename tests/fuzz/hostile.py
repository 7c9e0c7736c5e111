"""Bytes and texts as nobody should send them: noise, valid input that was damaged, and well-formed nonsense."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
from hypothesis import settings
from hypothesis import strategies as st

FEW = settings(max_examples=max(20, settings().max_examples // 5))
"""For tests that are one of dozens: together they try as much as others alone. ``make fuzz`` repeats them all."""

texts = st.text(max_size=12)
loose_texts = st.text(st.characters(), max_size=12)
"""Texts with lone surrogates in them, which no encoding takes."""

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.sampled_from([0, 1, 2, 99, 100]), st.floats(),
        texts, st.binary(max_size=12), st.sampled_from(["work", "probe", "cancel", "completed", "retry", "running"]),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=12)),
        st.builds(msgpack.Timestamp, st.integers(-(2**40), 2**40), st.integers(0, 999_999_999)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=24),
        st.dictionaries(st.one_of(texts, st.integers(0, 9), st.binary(max_size=4)), inner, max_size=4),
    ),
    max_leaves=40,
)  # fmt: skip
"""Whatever msgpack can say."""


HEADS = bytes.fromhex("007f808f909fa0bfc0c1c2c4c6c9cbcfd3d9dbdddfff")
"""First bytes of msgpack's kinds of values."""


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def damaged(valid: bytes, seed: int) -> bytes:
    """Return valid bytes with a few things wrong: bits flipped, cut off, bytes put in, doubled, moved, taken out."""
    chance, data = random.Random(seed), bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        at, other = (chance.randint(0, len(data)) for _ in range(2))
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                data[at:at] = data[other : other + chance.randint(1, 40)]
            case 4:
                del data[at : at + chance.randint(1, 8)]
            case 5 if at < len(data):
                data[at] = chance.choice(HEADS)
            case _:
                data += chance.randbytes(chance.randint(1, 8))
    return bytes(data)


def with_one_field_changed(valid: bytes, number: int, value: Any) -> bytes:
    """Return an array with one of its elements replaced."""
    fields = list(msgpack.unpackb(valid, use_list=False, strict_map_key=False))
    if fields:
        fields[number % len(fields)] = value
    return packed(fields)


def hostile(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes for a decoder that reads `valid` ones: those damaged, those with a wrong field, nonsense, noise."""
    return st.one_of(
        st.builds(damaged, valid, st.integers(0, 2**32)),
        st.builds(with_one_field_changed, valid, st.integers(0, 30), values),
        st.builds(packed, values),
        st.lists(values, max_size=24).map(lambda rest: packed([1, *rest])),
        st.binary(max_size=80),
    )


def raises_nothing_but(kind: type[Exception], act: Callable[[], Any]) -> Any:
    """Return what an action returns, or None where it refuses with that kind of error; any other error escapes."""
    try:
        return act()
    except kind:
        return None
