"""Starts with the same key are one run, whatever crashes in between, until the key's time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import (
    CodecError,
    DefinitionError,
    Retention,
    RunConflictError,
    RunDeletedError,
    RunNotFoundError,
    Start,
    Workflow,
    node,
)
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.ports.key_value import Batch, Leave, Put
from floxide_amqp.runtime import many_starts
from floxide_amqp.stores import keys
from floxide_amqp.stores.claims import Claim, claim_place, copy_claim, decode_claim, encode_claim
from floxide_amqp.stores.place_timers import removals
from floxide_amqp.stores.versions import VersionStore
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def twice(n: int) -> int:
    return 2 * n


class Twice(Workflow[int, int]):
    start = twice


class Other(Workflow[int, int]):
    start = twice


async def test_starts_with_the_same_key_are_the_run_of_the_first(cluster: MakeCluster) -> None:
    here = cluster(Twice, Other)
    await here.start_worker()
    client = here.client()
    first = await client.start(Twice, 1, dedupe_key="invoice-17")
    second = await client.start(Twice, 2, run_id="mine", dedupe_key="invoice-17")
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert second.run_id == first.run_id
    assert await second.result(timeout=60) == 2
    other_key = await client.start(Twice, 3, run_id="mine", dedupe_key="invoice-18")
    other_workflow = await client.start(Other, 4, dedupe_key="invoice-17")
    assert (other_key.run_id, other_key.deduplicated, other_workflow.deduplicated) == ("mine", False, False)


async def test_a_start_that_finds_an_earlier_run_tells_the_store_nothing_of_its_version(cluster: MakeCluster) -> None:
    here = cluster(Twice)
    await here.client().start(Twice, 1, dedupe_key="invoice-17")
    client = here.client()
    told = await VersionStore(client.services.session).stamps()
    assert len(told) == 1
    assert (await client.start(Twice, 1, dedupe_key="invoice-17")).deduplicated
    assert await VersionStore(client.services.session).stamps() == told


async def test_many_at_once_with_one_key_are_one_run(cluster: MakeCluster) -> None:
    here = cluster(Twice)
    await here.start_worker()
    clients = [here.client() for _ in range(3)]
    handles = await asyncio.gather(*(client.start(Twice, n, dedupe_key="k") for n, client in enumerate(clients)))
    handles += await clients[0].start_many(Twice, [Start(n, dedupe_key="k") for n in range(3)])
    assert len({each.run_id for each in handles}) == 1
    assert [each.deduplicated for each in handles].count(False) == 1
    assert len({await each.result(timeout=60) for each in handles}) == 1


async def test_a_start_that_died_after_its_claim_is_made_good_by_the_next(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(Twice)
    await here.start_worker()
    client = here.client()

    async def dies(*_given: Any) -> None:
        raise RuntimeError("dead")

    with monkeypatch.context() as patch:
        patch.setattr(many_starts, "store_all", dies)
        with pytest.raises(RuntimeError, match="dead"):
            await client.start(Twice, 1, run_id="first", dedupe_key="k")
    again = await client.start(Twice, 5, dedupe_key="k")
    assert (again.run_id, again.deduplicated) == ("first", True)
    assert await again.result(timeout=60) == 10


async def test_a_key_stands_for_its_run_though_the_start_died_before_it_noted_so_and_the_run_is_gone(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = Retention(completed=timedelta(minutes=2), tombstone=timedelta(minutes=10))
    here = cluster(Twice, retention=keeps)
    await here.start_worker()
    client = here.client()

    async def dies(*_given: Any) -> None:
        raise RuntimeError("dead")

    with monkeypatch.context() as patch:
        patch.setattr(many_starts, "note_started", dies)
        with pytest.raises(RuntimeError, match="dead"):
            await client.start(Twice, 1, run_id="first", dedupe_key="k", dedupe_for=timedelta(hours=1))
    await asyncio.sleep(1500)
    with pytest.raises(RunNotFoundError):  # it is not even known that it was deleted
        await client.run_info("first")
    again = await client.start(Twice, 2, dedupe_key="k")
    assert (again.run_id, again.deduplicated) == ("first", True)
    await here.settle()
    assert await client.services.runs.find(RunId("first")) is None
    await asyncio.sleep(3600)
    assert here.store.leftovers(keys.TIMERS) == {}


async def test_a_claim_whose_start_took_its_course_is_not_looked_after_before_its_time_is_over(
    cluster: MakeCluster,
) -> None:
    here = cluster(Twice)
    client = here.client()
    await client.start(Twice, 1, dedupe_key="k", dedupe_for=timedelta(hours=1))
    assert len(here.store.leftovers(keys.TIMERS)[keys.TIMERS]) == 1


async def test_that_a_run_was_started_is_noted_though_other_keys_of_the_slot_are_removed_just_then(
    cluster: MakeCluster,
) -> None:
    here = cluster(Twice)
    client = here.client()
    place, conflicts = claim_place("Twice", "k"), 0
    removing = Batch(slot=slot_of(place), writes=(Put(removals(place), b""),))

    async def remove_another(batches: Sequence[Batch]) -> None:
        nonlocal conflicts
        notes = [batch for batch in batches if any(isinstance(write, Leave) for write in batch.writes)]
        if conflicts < 3 and any(batch.slot == slot_of(place) for batch in notes):
            conflicts += 1
            await here.store.commit([removing])

    client.services.session._store.before_commit = remove_another  # type: ignore[attr-defined]
    await client.start(Twice, 1, dedupe_key="k", dedupe_for=timedelta(hours=1))
    claim = await client.services.claims.find(place)
    assert claim is not None
    assert (claim.is_started, conflicts) == (True, 3)


async def test_a_first_start_with_a_key_is_refused_an_id_that_another_run_has_and_claims_nothing(
    cluster: MakeCluster,
) -> None:
    here = cluster(Twice, Other)
    await here.start_worker()
    client = here.client()
    await (await client.start(Twice, 1, run_id="order-17")).result(timeout=60)
    with pytest.raises(RunConflictError):
        await client.start(Twice, 2, run_id="order-17", dedupe_key="k")
    with pytest.raises(RunConflictError):
        await client.start_many(
            Other, [Start(1, run_id="order-17", dedupe_key="k"), Start(3, run_id="another", dedupe_key="other")]
        )
    assert await client.handle(Other, "another").result(timeout=60) == 6
    fresh = await client.start(Twice, 4, dedupe_key="k")
    assert (fresh.deduplicated, await fresh.result(timeout=60)) == (False, 8)


async def test_a_first_start_with_a_key_is_refused_the_id_of_a_deleted_run_and_claims_nothing(
    cluster: MakeCluster,
) -> None:
    here = cluster(Twice)
    await here.start_worker()
    client = here.client()
    await (await client.start(Twice, 1, run_id="order-17")).result(timeout=60)
    await client.delete("order-17")
    for number, refusal in ((1, RunDeletedError), (2, RunConflictError)):
        with pytest.raises(refusal):
            await client.start(Twice, number, run_id="order-17", dedupe_key="k")
    assert not (await client.start(Twice, 4, dedupe_key="k")).deduplicated


async def test_a_key_that_is_new_may_stand_for_a_run_that_was_started_with_the_same(cluster: MakeCluster) -> None:
    here = cluster(Twice)
    await here.start_worker()
    client = here.client()
    await (await client.start(Twice, 1, run_id="order-17")).result(timeout=60)
    await client.start(Twice, 1, run_id="order-17", dedupe_key="k")
    again = await client.start(Twice, 5, run_id="order-17", dedupe_key="k")  # whatever it is given, the key has a run
    assert (again.run_id, again.deduplicated) == ("order-17", True)


async def test_a_start_that_cannot_be_claims_nothing(cluster: MakeCluster) -> None:
    client = cluster(Twice).client()
    with pytest.raises(CodecError):
        await client.start(Twice, "x", dedupe_key="k")  # type: ignore[misc]
    assert not (await client.start(Twice, 1, dedupe_key="k")).deduplicated


async def test_a_key_whose_time_is_over_starts_another_run_and_its_record_goes(cluster: MakeCluster) -> None:
    here = cluster(Twice)
    await here.start_worker()
    client = here.client()
    first = await client.start(Twice, 1, dedupe_key="k", dedupe_for=timedelta(minutes=1))
    await asyncio.sleep(59)
    assert (await client.start(Twice, 1, dedupe_key="k")).deduplicated
    await asyncio.sleep(2)
    second = await client.start(Twice, 1, dedupe_key="k", dedupe_for=1)
    assert (second.deduplicated, second.run_id == first.run_id) == (False, False)
    assert not await here.settle()
    assert not [key for slot in here.store._slots.values() for key in slot.cells if key.partition.startswith(" claim:")]


async def test_the_run_of_a_key_stays_the_same_when_it_was_deleted(cluster: MakeCluster) -> None:
    here = cluster(Twice)
    await here.start_worker()
    client = here.client()
    first = await client.start(Twice, 1, run_id="r", dedupe_key="k")
    assert await first.result(timeout=60) == 2
    await here.settle()
    assert await client.delete("r")
    again = await client.start(Twice, 1, dedupe_key="k")
    assert (again.run_id, again.deduplicated) == ("r", True)
    claim, _ = await client.services.claims.claim(claim_place("Twice", "k"), RunId("x"), 1000)
    assert claim.is_started


@pytest.mark.parametrize(
    "given",
    [
        {"dedupe_key": ""},
        {"dedupe_key": 7},
        {"dedupe_key": "x" * 1001},
        {"dedupe_for": 5},
        {"dedupe_key": "k", "dedupe_for": 0},
        {"dedupe_key": "k", "dedupe_for": timedelta(days=400)},
    ],
)
async def test_a_key_that_cannot_be_is_refused(cluster: MakeCluster, given: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="dedupe"):
        await cluster(Twice).client().start(Twice, 1, **given)


async def test_a_claim_is_copied_to_another_server_and_stored_as_it_is(cluster: MakeCluster) -> None:
    source, target = cluster(Twice).client().services, cluster(Twice).client().services
    place = claim_place("Twice", "secret")
    assert "secret" not in place
    claim, _ = await source.claims.claim(place, RunId("r"), 1000)
    await copy_claim(source.session, target.session, place)
    assert await target.claims.claim(place, RunId("other"), 1000) == (claim, False)
    assert decode_claim(encode_claim(Claim(RunId("r"), 5, is_started=True))) == Claim(RunId("r"), 5, is_started=True)
