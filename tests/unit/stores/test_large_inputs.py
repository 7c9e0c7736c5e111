"""Large inputs of items lie in cells of their own, and are written once however often the item is."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgpack
import pytest

from floxide_amqp.core.changes import PutItem
from floxide_amqp.core.commit_conditions import Condition, EpochIs, TurnIs
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import InputKind, ItemInput, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import Cell, Put
from floxide_amqp.stores import keys
from floxide_amqp.stores.fresh import Fresh
from floxide_amqp.stores.items import StoredItem, stored_item
from floxide_amqp.stores.large_inputs import LARGE_INPUT_BYTES, Carried, carried, is_put
from floxide_amqp.stores.record_codec import decode_item, encode_item
from floxide_amqp.stores.sealed import Sealed, Unsealed
from floxide_amqp.stores.sealed_changes import sealed_changes
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.stores.writes import BatchWriter

RUN, ITEM, OTHER = RunId("r"), WorkItemId("a"), WorkItemId("b")
LARGE = bytes(range(256)) * (LARGE_INPUT_BYTES // 256 + 1)


def an_item(payload: bytes, item_id: WorkItemId = ITEM, kind: InputKind = InputKind.PAYLOAD) -> WorkItem:
    input_ = ItemInput(kind=kind, payload=payload)
    return WorkItem(item_id=item_id, node="n", queue="q", status=WorkItemStatus.PENDING, input=input_)


def cells_put(conditions: tuple[Condition, ...], *changes: PutItem) -> dict[str, bytes]:
    batch = BatchWriter(RUN, 0).batch(conditions, changes)
    puts = [write for write in batch.writes if isinstance(write, Put)]
    assert len({put.key for put in puts}) == len(puts)
    return {put.key.name: put.value for put in puts}


def read_back(cells: dict[str, bytes], item_id: WorkItemId = ITEM) -> StoredItem:
    apart = cells.get(f"v:{item_id}")
    cell = Cell(0, b"") if apart is None else Cell(1, apart)
    found = stored_item(keys.item(RUN, item_id), Cell(1, cells[f"i:{item_id}"]), cell)
    assert found is not None
    return found


def test_a_large_input_lies_apart_and_is_read_back_bit_for_bit() -> None:
    cells = cells_put((), PutItem(an_item(LARGE), is_listed=True))
    assert cells.keys() == {"i:a", "v:a"}
    assert cells["v:a"] == LARGE
    assert type(cells["v:a"]) is bytes
    assert len(cells["i:a"]) < 200
    assert read_back(cells).item == an_item(LARGE)


@pytest.mark.parametrize("item", [an_item(LARGE[:LARGE_INPUT_BYTES]), an_item(LARGE, kind=InputKind.UNDO)])
def test_what_is_small_or_no_input_of_a_node_stays_in_the_record(item: WorkItem) -> None:
    cells = cells_put((), PutItem(item, is_listed=True))
    assert cells.keys() == {"i:a"}
    assert read_back(cells).item == item


def test_an_item_that_is_put_again_leaves_its_input_as_it_is() -> None:
    item = read_back(cells_put((), PutItem(an_item(LARGE), is_listed=True))).item
    again = replace(item, status=WorkItemStatus.COMPLETED)
    assert cells_put((TurnIs(ITEM, 1),), PutItem(again, is_listed=False)).keys() == {"i:a"}


@pytest.mark.parametrize("payload", [Fresh(LARGE), Unsealed(LARGE), carried(LARGE)])
def test_so_does_the_process_that_put_it_first(payload: bytes) -> None:
    item = an_item(payload)
    assert cells_put((TurnIs(OTHER, 3),), PutItem(item, is_listed=True)).keys() == {"i:a", "v:a"}
    assert cells_put((TurnIs(ITEM, 1), EpochIs(1)), PutItem(item, is_listed=False)).keys() == {"i:a"}


@pytest.mark.parametrize("conditions", [(), (TurnIs(OTHER, 1),), (TurnIs(ITEM, 0),)])
def test_a_commit_that_failed_puts_the_input_when_it_is_made_again(conditions: tuple[Condition, ...]) -> None:
    item = an_item(Fresh(LARGE))
    for _ in range(2):
        assert cells_put(conditions, PutItem(item, is_listed=True)).keys() == {"i:a", "v:a"}


def test_an_input_that_another_item_takes_over_is_put_for_that_too() -> None:
    failed = read_back(cells_put((), PutItem(an_item(LARGE), is_listed=True))).item
    fallback = an_item(failed.input.payload, OTHER)
    puts = PutItem(fallback, is_listed=True), PutItem(replace(failed, status=WorkItemStatus.FAILED), is_listed=False)
    cells = cells_put((TurnIs(ITEM, 1),), *puts)
    assert cells.keys() == {"i:a", "i:b", "v:b"}
    assert read_back(cells, OTHER).item.input.payload == LARGE


def test_an_input_that_was_changed_is_put_again() -> None:
    item = read_back(cells_put((), PutItem(an_item(LARGE), is_listed=True))).item
    raised = replace(item, input=ItemInput(payload=LARGE[::-1]))
    cells = cells_put((TurnIs(ITEM, 1),), PutItem(raised, is_listed=True))
    assert read_back(cells).item.input.payload == LARGE[::-1]


def test_an_input_that_an_older_release_left_in_the_record_is_read_there_and_then_lies_apart() -> None:
    record = encode_item(an_item(LARGE))
    item = read_back({"i:a": record}).item
    assert item == an_item(LARGE)
    assert read_back(cells_put((TurnIs(ITEM, 1),), PutItem(item, is_listed=True))).item == item


def test_to_an_older_release_the_record_is_one_of_a_newer_format() -> None:
    record = cells_put((), PutItem(an_item(LARGE), is_listed=True))["i:a"]
    kind, payload, *_ = msgpack.unpackb(record)[5]
    assert kind not in {each.value for each in InputKind}
    assert payload == b""


def test_a_record_that_is_copied_still_says_that_its_input_lies_apart() -> None:
    record = cells_put((), PutItem(an_item(LARGE), is_listed=True))["i:a"]
    copy = encode_item(replace(decode_item(record), node="moved"))
    assert read_back({"i:a": copy, "v:a": LARGE}).item == replace(an_item(LARGE), node="moved")


def test_an_input_that_is_missing_is_damage_that_says_where() -> None:
    record = cells_put((), PutItem(an_item(LARGE), is_listed=True))["i:a"]
    with pytest.raises(UnreadableRecordError, match="r/v:a"):
        read_back({"i:a": record})


def test_an_input_that_is_not_kept_leaves_nothing() -> None:
    item = read_back(cells_put((), PutItem(an_item(LARGE), is_listed=True))).item
    done = replace(item, status=WorkItemStatus.COMPLETED, input=ItemInput())
    dropping = PutItem(done, is_listed=False, dropped=item.input.payload)
    cells = cells_put((TurnIs(ITEM, 1),), dropping)
    assert cells["v:a"] == b""
    assert read_back(cells).item == done
    small = PutItem(done, is_listed=False, dropped=b"small")
    assert cells_put((TurnIs(ITEM, 1),), small).keys() == {"i:a"}


def test_an_input_that_is_short_once_it_is_sealed_leaves_nothing_of_it_as_it_was() -> None:
    item = read_back(cells_put((), PutItem(an_item(LARGE), is_listed=True))).item
    (sealed,) = sealed_changes(Sealing([Compression(above=0)]), RUN, (PutItem(item, is_listed=True),))
    assert isinstance(sealed, PutItem)
    cells = cells_put((TurnIs(ITEM, 1),), sealed)
    assert cells["v:a"] == b""
    assert read_back(cells).item == sealed.item


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(Random(1).randbytes(9_000) + bytes(9_000), Sealed), (Random(1).randbytes(9_000), Unsealed)],
)
def test_what_a_codec_makes_of_it_or_leaves_lies_apart_once_too(payload: bytes, kind: type[Carried]) -> None:
    made = Unsealed(payload)
    sealing = Sealing([Compression(above=0)])
    first, again = (sealed_changes(sealing, RUN, (PutItem(an_item(made), is_listed=True),))[0] for _ in range(2))
    assert isinstance(first, PutItem)
    assert isinstance(again, PutItem)
    assert type(first.item.input.payload) is kind
    assert cells_put((), first).keys() == {"i:a", "v:a"}
    assert is_put(again.item.input.payload, ITEM)
    assert cells_put((TurnIs(ITEM, 1),), again).keys() == {"i:a"}
