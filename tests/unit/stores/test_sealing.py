"""Sealing: the chain of codecs, bound to places; what is read decides how it is opened."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.changes import PutItem
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import ItemInput, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import (
    CodecError,
    ConfigurationError,
    MissingKeyError,
    UnknownKeyError,
    UnreadableRecordError,
)
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.encoding import pack
from floxide_amqp.stores.sealed import MARK, Layer, Place, Sealed, SealedText, Unsealed, is_sealed, unwrap, wrap
from floxide_amqp.stores.sealed_changes import sealed_changes
from floxide_amqp.stores.sealed_records import input_of, key_of, readable_item
from floxide_amqp.stores.sealing import Sealing

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
BOTH = {"new": NEW, "old": OLD}
HERE = Place("run-1", "input", "a" * 32)


def sealing(keys: Any = None, **options: Any) -> Sealing:
    return Sealing([Compression(above=50), Encryption(keys or BOTH, **options)])


data_of_any_kind = st.binary(max_size=300).filter(lambda data: not is_sealed(data))
places = st.builds(Place, st.text(max_size=20), st.text(max_size=10), st.text(max_size=40))


@given(data_of_any_kind, places)
def test_what_is_sealed_opens_at_its_place(data: bytes, place: Place) -> None:
    envelope = sealing().seal(data, place)
    assert is_sealed(envelope)
    assert sealing().open(envelope, place) == data


@given(data_of_any_kind, places, places)
def test_what_is_sealed_for_one_run_kind_or_name_is_refused_at_every_other(
    data: bytes, here: Place, there: Place
) -> None:
    if here == there:
        return
    with pytest.raises(UnreadableRecordError, match="moved here from another run, item or field") as caught:
        sealing().open(sealing().seal(data, here), there)
    assert caught.value.place == str(there)


@given(places, places)
def test_no_two_places_have_the_same_bytes(one: Place, other: Place) -> None:
    assert (one.bound == other.bound) is (one == other)


def test_a_place_is_not_confused_by_where_its_parts_are_cut() -> None:
    cut = [
        Place("ab", "c", "d"),
        Place("a", "bc", "d"),
        Place("a", "b", "cd"),
        Place("abcd", "", ""),
        Place("", "", "abcd"),
    ]
    assert len({place.bound for place in cut}) == len(cut)


@given(st.binary(max_size=200), st.data())
def test_an_envelope_with_any_bit_flipped_is_refused(data: bytes, draw: st.DataObject) -> None:
    envelope = bytearray(sealing(required=True).seal(data, HERE))
    bit = draw.draw(st.integers(0, 8 * len(envelope) - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnreadableRecordError):
        sealing(required=True).open(bytes(envelope), HERE)


@given(st.binary(max_size=200), st.data())
def test_an_envelope_that_breaks_off_is_refused(data: bytes, draw: st.DataObject) -> None:
    envelope = sealing().seal(data, HERE)
    with pytest.raises(UnreadableRecordError):
        sealing().open(envelope[: draw.draw(st.integers(1, len(envelope) - 1))], HERE)


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner), max_leaves=20))
def test_nothing_that_the_engine_packs_looks_like_an_envelope(value: Any) -> None:
    assert not is_sealed(pack(value))


@given(st.text(min_size=1))
def test_no_text_looks_like_an_envelope(text: str) -> None:
    assert not is_sealed(text.encode("utf-8", "backslashreplace"))


def test_what_was_stored_before_the_switch_is_read_and_with_required_it_is_refused() -> None:
    plain = pack(["int", 1])
    assert sealing().open(plain, HERE) == plain
    with pytest.raises(UnreadableRecordError, match=r"not encrypted, and Encryption\(required=True\)"):
        sealing(required=True).open(plain, HERE)
    compressed = Sealing([Compression(above=0)]).seal(b"a" * 500, HERE)
    assert sealing().open(compressed, HERE) == b"a" * 500
    with pytest.raises(UnreadableRecordError, match="not encrypted"):
        sealing(required=True).open(compressed, HERE)


def test_keys_are_rotated_by_reading_with_both_and_writing_with_the_new_one() -> None:
    before, after = sealing({"old": OLD}), sealing(BOTH)
    assert after.open(before.seal(b"x", HERE), HERE) == b"x"
    written = after.seal(b"y", HERE)
    assert unwrap(written)[:2] == ("aes-gcm", "new")
    with pytest.raises(MissingKeyError, match="'new', which this process does not have; it has 'old'") as caught:
        before.open(written, HERE)
    assert (caught.value.codec, caught.value.key_id, caught.value.is_newer) == ("aes-gcm", "new", True)


def test_a_process_without_any_codec_names_the_one_and_the_key_it_lacks() -> None:
    with pytest.raises(MissingKeyError, match="the codec 'aes-gcm' with the key 'new', which this process lacks"):
        Sealing().open(sealing().seal(b"x", HERE), HERE)
    assert Sealing().lacks(sealing().seal(b"x", HERE)) is not None
    assert sealing().lacks(sealing().seal(b"x", HERE)) is None
    assert Sealing().lacks(b"\x92") is None
    assert Sealing().lacks(MARK) is None


def test_a_layer_that_comes_twice_is_refused_so_that_no_envelope_is_endless() -> None:
    again = Compression(above=0).encode(wrap(Layer("zlib", "", b"x" * 300)), b"") or b""
    with pytest.raises(UnreadableRecordError, match="went through the codec 'zlib' twice"):
        Sealing([Compression()]).open(wrap(Layer("zlib", "", again)), HERE)


@dataclass
class Failing:
    """A codec of a user's, with a defect."""

    name: str = "failing"
    key_id: str = ""

    def encode(self, data: bytes, bound: bytes) -> bytes:
        if data == b"no":
            raise ValueError(f"the secret is {data!r}")
        return data[::-1]

    def decode(self, data: bytes, bound: bytes, key_id: str) -> bytes:
        raise KeyError(data)


def test_a_defect_of_somebodys_codec_is_an_error_that_names_the_codec_and_shows_no_data() -> None:
    own = Sealing([Failing()])
    with pytest.raises(CodecError, match=r"The codec 'failing' failed to encode: ValueError\.$"):
        own.seal(b"no", HERE)
    with pytest.raises(UnreadableRecordError, match="The codec 'failing' failed to decode it: KeyError"):
        own.open(own.seal(b"yes", HERE), HERE)


@pytest.mark.parametrize(
    ("codecs", "sentence"),
    [
        ([Encryption(BOTH), Compression()], r"'zlib' comes after 'aes-gcm'.*Write codec=\[Compression\(\), Encryption"),
        ([Compression(), Compression()], "'zlib' is given twice"),
        ([Failing(name="")], "cannot be stored"),
        ([Failing(name="ü")], "cannot be stored"),
        ([Failing(key_id="k" * 65)], "cannot be stored"),
    ],
)
def test_codecs_that_do_not_go_together_are_refused_with_the_cure(codecs: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Sealing(codecs)


def test_a_digest_names_its_key_so_that_a_start_is_known_again_after_a_rotation() -> None:
    before, after, plain = sealing({"old": OLD}), sealing(BOTH), Sealing()
    parts = (b"Shop", b"1", b"input", b"context")
    old, new, bare = before.digest(*parts), after.digest(*parts), plain.digest(*parts)
    assert (old.partition(":")[0], new.partition(":")[0], ":" in bare) == ("old", "new", False)
    for digest in (old, new, bare):
        assert after.is_digest_of(digest, *parts)
        assert not after.is_digest_of(digest, *parts[:3], b"other")
        assert not after.is_digest_of(digest, b"ShopX"[:5], b"1", b"input", b"context")
    for lacking in (before, plain):
        with pytest.raises(UnknownKeyError, match=r"tells whether this is the run that has this id .* key 'new'"):
            lacking.is_digest_of(new, *parts)


# --- items


def item(**fields: Any) -> WorkItem:
    plain: dict[str, Any] = {"item_id": WorkItemId("a" * 32), "status": WorkItemStatus.PENDING, "input": ItemInput()}
    return WorkItem(node="n", queue="default", **plain | fields)


def stored(seal: Sealing, one: WorkItem) -> WorkItem:
    """What comes back of an item that was put."""
    (change,) = sealed_changes(seal, RunId("run-1"), (PutItem(one, is_listed=True),))
    assert isinstance(change, PutItem)
    return codec.decode_item(codec.encode_item(change.item))


FAILURE = FailureInfo(node="m", error_type="ValueError", message="the secret", attempts=2)


def test_an_item_keeps_its_envelope_when_it_is_put_again_even_without_the_key() -> None:
    first = stored(sealing(), item(input=ItemInput(payload=b"\x92secret"), failure=FAILURE))
    assert isinstance(first.input.payload, Sealed)
    assert first.failure is not None
    assert isinstance(first.failure.message, SealedText)
    for other in (Sealing(), sealing(), sealing({"old": OLD})):
        again = stored(other, first)
        assert again.input.payload == first.input.payload
        assert again.failure is not None
        assert isinstance(again.failure.message, SealedText)
        assert again.failure.message.envelope == first.failure.message.envelope
    assert input_of(sealing(), RunId("run-1"), first) == b"\x92secret"
    layer = key_of(first)
    assert layer is not None
    assert (layer.codec, layer.key_id) == ("aes-gcm", "new")


def test_an_item_that_takes_over_what_was_sealed_for_another_has_it_sealed_anew() -> None:
    first = stored(sealing(), item(input=ItemInput(payload=b"\x92secret"), failure=FAILURE))
    second = item(item_id=WorkItemId("b" * 32), input=first.input, failure=first.failure)
    taken = stored(sealing(), second)
    assert input_of(sealing(), RunId("run-1"), second) == b"\x92secret"
    assert input_of(sealing(), RunId("run-1"), taken) == b"\x92secret"
    assert readable_item(sealing(), RunId("run-1"), taken).failure == FAILURE
    with pytest.raises(MissingKeyError):
        stored(Sealing(), second)


def test_what_a_process_made_itself_is_sealed_once_however_often_it_is_put() -> None:
    made = item(input=ItemInput(payload=Unsealed(b"\x92secret")))
    seal = sealing(required=True)
    assert stored(seal, made).input.payload == stored(seal, made).input.payload
    assert input_of(seal, RunId("run-1"), made) == b"\x92secret"


def test_a_text_that_cannot_be_opened_says_why_and_stays_what_it_is() -> None:
    failed = stored(sealing(), item(status=WorkItemStatus.FAILED, note="the secret", failure=FAILURE))
    assert failed.note == "(encrypted)"
    keyless = readable_item(Sealing(), RunId("run-1"), failed)
    assert keyless.note == "(encrypted with the key 'new', which this process does not have)"
    elsewhere = readable_item(sealing(), RunId("run-2"), failed)
    assert elsewhere.note.startswith("(not readable: It does not open with the key 'new'")
    for shown in (keyless, elsewhere, stored(Sealing(), keyless), stored(sealing(), elsewhere)):
        assert readable_item(sealing(), RunId("run-1"), shown).note == "the secret"


def test_a_note_of_the_engine_itself_stays_readable_without_a_key() -> None:
    assert stored(sealing(), item(note="no queue took it")).note == "no queue took it"


def test_the_parts_of_an_item_do_not_open_in_each_others_place() -> None:
    seal = sealing()
    kinds = ["input", "failure", "note", "context change"]
    for one, other in itertools.permutations(kinds, 2):
        with pytest.raises(UnreadableRecordError):
            seal.open(seal.seal(b"x", Place("r", one, "i")), Place("r", other, "i"))
