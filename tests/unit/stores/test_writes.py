"""How changes become a batch: every kind of them has its way there, and keys are those of the items they are about."""

from __future__ import annotations

from typing import get_args

from floxide_amqp.core.changes import Change, Count, PutItem
from floxide_amqp.core.commit_conditions import Condition, EpochIs, TurnIs
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import ItemInput, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Add, Check, Enter, Key, Leave, Put
from floxide_amqp.stores import keys
from floxide_amqp.stores.record_codec import decode_item
from floxide_amqp.stores.writes import BatchWriter

RUN = RunId("r")


def test_every_condition_and_every_change_is_in_the_tables_of_what_writes_it() -> None:
    assert set(BatchWriter._CHECKS) == set(get_args(Condition))
    assert set(BatchWriter._WRITES) == set(get_args(Change))


def an_item(item_id: str, status: WorkItemStatus) -> WorkItem:
    return WorkItem(item_id=WorkItemId(item_id), node="n", queue="q", status=status, input=ItemInput(payload=b"1"))


def test_a_chain_of_batches_names_each_item_by_its_own_key() -> None:
    writer = BatchWriter(RUN, 0)
    for own, kept in (("a", "b"), ("b", "c"), ("d", "a")):
        done, following = an_item(own, WorkItemStatus.COMPLETED), an_item(kept, WorkItemStatus.IN_PROGRESS)
        batch = writer.batch(
            (TurnIs(done.item_id, 1), EpochIs(2)),
            (Count("completed", 1), PutItem(done, is_listed=False), PutItem(following, is_listed=True)),
            token=b"token",
            witness=done.item_id,
        )
        assert batch.checks == (Check(Key("r", f"i:{own}"), 1), Check(Key("r", "state"), 2))
        assert batch.witness == Key("r", f"i:{own}")
        add, put, leave, put_kept, enter = batch.writes
        assert add == Add(Key("r", "c:completed"), 1)
        assert isinstance(put, Put)
        assert isinstance(put_kept, Put)
        assert (put.key, put_kept.key) == (Key("r", f"i:{own}"), Key("r", f"i:{kept}"))
        assert [decode_item(each.value).item_id for each in (put, put_kept)] == [own, kept]
        assert (leave, enter) == (
            Leave(keys.live_items(RUN), own), Enter(keys.live_items(RUN), kept, b"in")
        )  # fmt: skip
