"""Compression and encryption as codecs: what goes in comes out, for its place alone, and nothing else is believed."""

from __future__ import annotations

import base64
import builtins
import copy
import pickle
import sys
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.drivers.codecs import encryption
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import CodecError, ConfigurationError, UnknownKeyError
from floxide_amqp.ports.codec import Codec, KeyedCodec

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
KEYS = {"2026-11": NEW, "2026-05": OLD}
PLACE = b"run-1/input of a"

payloads = st.one_of(
    st.binary(max_size=2_000), st.builds(lambda part, n: part * n, st.binary(max_size=40), st.integers(0, 400))
)


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


# --- compression


@given(payloads, st.integers(0, 100), st.integers(1, 9))
def test_what_is_compressed_is_smaller_and_comes_back(data: bytes, above: int, level: int) -> None:
    codec = Compression(above=above, level=level)
    packed = codec.encode(data, PLACE)
    if packed is None:
        return
    assert len(packed) < len(data)
    assert len(data) > above
    assert codec.decode(packed, PLACE, "") == data


def test_what_is_short_or_would_not_shrink_is_left_alone() -> None:
    codec = Compression(above=100)
    assert codec.encode(b"a" * 100, PLACE) is None
    assert codec.encode(b"a" * 101, PLACE) is not None
    assert codec.encode(bytes(range(256)), PLACE) is None


def test_a_bomb_is_refused_by_the_size_it_claims() -> None:
    bomb = (10**9).to_bytes(4, "big") + zlib.compress(b"\0" * 10_000_000)
    with pytest.raises(CodecError, match="would decompress to 1000000000 bytes, and at most 1000 are accepted"):
        Compression(at_most=1_000).decode(bomb, PLACE, "")


def test_a_bomb_that_claims_to_be_small_is_not_inflated_beyond_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = (1_000).to_bytes(4, "big") + zlib.compress(b"\0" * 50_000_000)
    inflated: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self.inner = real()

        def decompress(self, data: bytes, max_length: int) -> bytes:
            found = self.inner.decompress(data, max_length)
            inflated.append(len(found))
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(CodecError, match="does not decompress to the 1000 bytes that it claims"):
        Compression().decode(bomb, PLACE, "")
    assert inflated == [1_001]


@given(payloads.filter(lambda data: len(data) > 60), st.data())
def test_damaged_compressed_bytes_are_refused_or_are_what_they_were(data: bytes, draw: st.DataObject) -> None:
    codec = Compression(above=0)
    packed = codec.encode(data, PLACE)
    if packed is None:
        return
    cut = draw.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(CodecError):
        codec.decode(packed[:cut], PLACE, "")
    with pytest.raises(CodecError):
        codec.decode(packed + b"x", PLACE, "")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"above": -1}, "0 or more"), ({"level": 10}, "1 .fast. to 9"), ({"at_most": 0}, "1 to 4 GiB")],
)
def test_a_wrong_number_is_refused_with_the_range(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Compression(**options)


# --- encryption


def test_both_are_codecs_and_only_encryption_keeps_secrets() -> None:
    assert isinstance(Compression(), Codec)
    assert not isinstance(Compression(), KeyedCodec)
    assert isinstance(Encryption(KEYS), KeyedCodec)


@given(st.binary(max_size=2_000), st.binary(max_size=60))
def test_what_is_encrypted_comes_back_for_its_place_and_is_never_the_same_twice(data: bytes, bound: bytes) -> None:
    codec = Encryption(KEYS)
    sealed = codec.encode(data, bound)
    assert Encryption(KEYS).decode(sealed, bound, "2026-11") == data
    assert sealed != codec.encode(data, bound)
    if len(data) > 4:
        assert data not in sealed


@given(st.binary(max_size=200), st.binary(max_size=30), st.binary(max_size=30))
def test_what_was_encrypted_for_one_place_opens_at_no_other(data: bytes, bound: bytes, other: bytes) -> None:
    codec = Encryption(KEYS)
    if bound != other:
        with pytest.raises(CodecError, match="it was changed, or it was moved here"):
            codec.decode(codec.encode(data, bound), other, "2026-11")


@given(st.binary(max_size=200), st.data())
def test_any_flipped_bit_and_any_cut_is_refused(data: bytes, draw: st.DataObject) -> None:
    codec = Encryption(KEYS)
    sealed = bytearray(codec.encode(data, PLACE))
    cut = draw.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(CodecError):
        codec.decode(bytes(sealed[:cut]), PLACE, "2026-11")
    bit = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CodecError):
        codec.decode(bytes(sealed), PLACE, "2026-11")


def test_a_payload_of_one_key_is_not_one_of_another_although_both_are_known() -> None:
    codec = Encryption(KEYS)
    with pytest.raises(CodecError, match="'2026-05'"):
        codec.decode(codec.encode(b"x", PLACE), PLACE, "2026-05")


def test_the_first_key_is_current_and_the_others_are_read_with() -> None:
    old = Encryption({"2026-05": OLD}).encode(b"x", PLACE)
    codec = Encryption(KEYS)
    assert codec.key_id == "2026-11"
    assert codec.decode(old, PLACE, "2026-05") == b"x"
    assert Encryption(KEYS, current="2026-05").key_id == "2026-05"


def test_an_unknown_key_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UnknownKeyError, match=r"key '2027-01', which this process does not have; it has '2026-05', '2026-11'"
    ):
        Encryption(KEYS).decode(b"x" * 99, PLACE, "2027-01")


def test_keys_come_as_bytes_base64_one_text_or_from_a_function() -> None:
    sealed = Encryption(KEYS).encode(b"x", PLACE)
    asked: list[str] = []

    def find(key_id: str) -> bytes | None:
        asked.append(key_id)
        return KEYS.get(key_id)

    sources: list[Any] = [
        {name: text_of(key) for name, key in KEYS.items()},
        f" 2026-11:{text_of(NEW)}, 2026-05:{text_of(OLD)} ",
    ]
    for source in sources:
        codec = Encryption(source)
        assert codec.key_id == "2026-11"
        assert codec.decode(sealed, PLACE, "2026-11") == b"x"
    codec = Encryption(find, current="2026-05")
    assert [codec.decode(sealed, PLACE, "2026-11") for _ in range(3)] == [b"x"] * 3
    assert asked == ["2026-05", "2026-11"]
    assert not codec.has_key("2027-01")


@pytest.mark.parametrize(
    ("keys", "current", "sentence"),
    [
        ({}, None, "Encryption needs a key"),
        ("", None, "Encryption needs a key"),
        (KEYS, "2025-01", "there is no such key; there are '2026-05', '2026-11'"),
        ({"k": b"short"}, None, "'k' has 5 bytes, and needs 32"),
        ({"k": "no base64!"}, None, "'k' is no base64"),
        ({"a b": NEW}, None, "cannot be the id of a key"),
        (text_of(NEW), None, "Key number 1 has no id"),
        (f"k:{text_of(NEW)},k:{text_of(OLD)}", None, "'k' is given twice"),
        (lambda _: None, None, "current="),
        (lambda _: None, "k", "there is no such key"),
    ],
)
def test_wrong_keys_are_refused_with_what_to_do(keys: Any, current: str | None, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Encryption(keys, current)


def test_no_key_is_in_a_repr_an_error_or_a_pickle() -> None:
    secret = text_of(NEW)
    shown = [repr(Encryption({"k": secret})), str(Encryption({"k": secret}))]
    for wrong in (
        {secret: "x"},
        {secret[:-1]: NEW[:5]},
        {"k": secret[:-5]},
        secret,
        f"{secret}:k",
        f"k:{secret}:{secret}",
    ):
        with pytest.raises(ConfigurationError) as caught:
            Encryption(wrong)
        shown.append(str(caught.value))
        assert caught.value.__cause__ is None
    assert not [text for text in shown if secret[:20] in text]
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Encryption(KEYS))
    with pytest.raises(TypeError):
        copy.copy(Encryption(KEYS))


def test_a_digest_tells_equal_data_from_other_and_another_key_gives_another() -> None:
    codec = Encryption(KEYS)
    assert codec.digest(b"x", "2026-11") == Encryption(KEYS).digest(b"x", "2026-11")
    different = {codec.digest(b"x", "2026-11"), codec.digest(b"y", "2026-11"), codec.digest(b"x", "2026-05")}
    assert len(different) == 3
    with pytest.raises(UnknownKeyError):
        codec.digest(b"x", "2027-01")


def test_a_process_takes_another_salt_long_before_its_nonces_are_worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "PAYLOADS_PER_SALT", 3)
    monkeypatch.setattr(encryption, "MAX_CIPHERS", 2)
    codec = Encryption(KEYS)
    sealed = [codec.encode(b"x", PLACE) for _ in range(10)]
    assert len({each[: encryption.SALT_BYTES] for each in sealed}) == 4
    assert [codec.decode(each, PLACE, "2026-11") for each in sealed] == [b"x"] * 10
    assert len(codec._ciphers) == 2


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name="cryptography")
        return real(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setitem(sys.modules, "cryptography", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"pip install 'floxide-amqp\[encryption\]'"):
        Encryption(KEYS)
