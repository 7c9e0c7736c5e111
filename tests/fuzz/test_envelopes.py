"""Sealed values of any bytes: what was sealed for the place, or a refusal that names it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import CodecError, UnreadableRecordError
from floxide_amqp.stores.sealed import MARK, Layer, Place, is_sealed, unwrap, wrap
from floxide_amqp.stores.sealing import Sealing
from tests.fuzz.hostile import FEW, damaged, packed, raises_nothing_but, values

HERE = Place("run-1", "input", "a" * 32)
SECRET = b"\x92correct horse battery staple" * 5
KEYS = {"k": bytes(range(32)), "old": bytes(range(1, 33))}

BOUND = 2_000

compression = Compression(above=10, at_most=BOUND)
plain = Sealing([compression])
both = Sealing([compression, Encryption(KEYS)])
strict = Sealing([compression, Encryption(KEYS, required=True)])
keyless = Sealing((), known=(compression,))

names = st.sampled_from(["zlib", "aes-gcm", "k", "old", "", "unknown"])
layers = st.builds(Layer, names, names, st.one_of(st.binary(max_size=80), st.just(strict.seal(SECRET, HERE))))
seeds = st.integers(0, 2**32)
made_up = st.one_of(
    st.builds(damaged, st.just(both.seal(SECRET, HERE)), seeds),
    st.builds(damaged, st.just(plain.seal(SECRET, HERE)), seeds),
    values.map(packed),
    layers.map(wrap),
    st.binary(max_size=80).map(lambda rest: MARK + rest),
    st.builds(damaged, layers.map(wrap), seeds),
)


@pytest.mark.fault(35)
@FEW
@given(made_up)
def test_with_encryption_required_hostile_bytes_open_to_what_was_sealed_or_are_refused(data: bytes) -> None:
    found = raises_nothing_but(UnreadableRecordError, lambda: strict.open(data, HERE))
    assert found in (None, SECRET, b"")


@FEW
@given(made_up, st.sampled_from([plain, both, keyless]))
def test_hostile_bytes_open_to_bytes_of_bounded_length_or_are_refused(data: bytes, sealing: Sealing) -> None:
    found = raises_nothing_but(UnreadableRecordError, lambda: sealing.open(data, HERE))
    if found is not None:
        assert not is_sealed(found)
        assert len(found) <= 2 * BOUND
    sealing.lacks(data)


@FEW
@given(st.one_of(made_up, st.binary(max_size=120)))
def test_a_layer_is_read_as_it_was_written_or_refused(data: bytes) -> None:
    layer = raises_nothing_but(CodecError, lambda: unwrap(data))
    if layer is not None:
        assert wrap(layer) == data
