"""Letters: what one run causes in another's slot happens, whoever dies in between, and happens once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from floxide_amqp import Retention, Workflow, node
from floxide_amqp.core.changes import Count, MarkReceived, PostLetter
from floxide_amqp.core.commit_conditions import LetterIsNew
from floxide_amqp.core.decisions import Decision, Effects
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.ports.key_value import Batch, Enter, Leave
from floxide_amqp.runtime import maintenance, retention, worker
from floxide_amqp.runtime.letters import LeftLetters, Postman, deliver_letters_of, payload_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.letters import GRACE_MS
from floxide_amqp.stores.sealed import is_sealed
from floxide_amqp.stores.sealing import Sealing
from floxide_amqp.stores.writes import BatchWriter
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_shards import ShardedCluster

NewCluster = Callable[..., Cluster]


@node
async def same(x: int) -> int:
    return x


class Plain(Workflow[int, int]):
    start = same


@dataclass
class Praise:
    """Raises a counter of the receiver, once for each letter."""

    name: str = "praise"
    delivered: list[str] = field(default_factory=list)
    failures: int = 0

    async def deliver(self, services: Services, letter: Letter) -> bool:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.delivered.append(letter.letter_id)
        decision = Decision(
            conditions=(LetterIsNew(letter.letter_id),),
            changes=(MarkReceived(letter.letter_id), Count("busy_us", 1)),
        )
        await services.commit(BatchWriter(letter.to_run, 0), decision)
        return True


@pytest.fixture
def praise(monkeypatch: pytest.MonkeyPatch) -> Praise:
    kind = Praise()
    for module in (maintenance, retention, worker):
        monkeypatch.setattr(module, "KINDS", (kind,))
    return kind


def praise_for(number: int, services: Services, *, to: str = "receiver", sender: str = "sender") -> Letter:
    letter_id = derive_letter_id("praise", RunId(sender), number)
    return Letter(
        letter_id=letter_id, kind="praise", to_run=RunId(to), from_run=RunId(sender), posted_at_ms=services.now_ms()
    )


async def post(services: Services, *posted: Letter) -> None:
    for letter in posted:
        decision = Decision(conditions=(), changes=(PostLetter(letter),), effects=Effects(letters=(letter,)))
        await services.commit(BatchWriter(letter.from_run, 0), decision)


async def praised(cluster: Cluster, run_id: str = "receiver") -> int:
    return (await cluster.counts(run_id)).busy_us


async def started(cluster: Cluster, *run_ids: str) -> None:
    for run_id in run_ids:
        await cluster.client().start(Plain, 1, run_id=run_id)


def left(cluster: Cluster) -> dict[str, list[str]]:
    found = cluster.store.leftovers("letters", "in:sender:posted")
    return {name: entries for name, entries in found.items() if entries}


async def none_left(cluster: Cluster) -> None:
    while left(cluster):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)


@pytest.mark.asyncio
async def test_who_writes_a_letter_delivers_it_at_once(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    await started(here, "receiver", "sender")
    member = await here.start_worker()
    while member.worker.health().status != "running":  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    before = await praised(here)
    began = asyncio.get_running_loop().time()
    await post(member.services, praise_for(1, member.services))
    await none_left(here)
    assert asyncio.get_running_loop().time() - began < GRACE_MS / 1000
    assert len(praise.delivered) == 1
    assert await praised(here) - before >= 1
    assert member.services.figures.letters_delivered == 1


@pytest.mark.asyncio
async def test_a_letter_whose_writer_died_is_delivered_by_the_maintenance_leader(
    cluster: NewCluster, praise: Praise
) -> None:
    here = cluster(Plain)
    await started(here, "receiver", "sender")
    writer = here.client().services  # delivers nothing itself
    await post(writer, *(praise_for(number, writer) for number in range(700)))
    assert len(left(here)["letters"]) == 700
    member = await here.start_worker()
    await none_left(here)
    assert sorted(praise.delivered) == sorted(set(praise.delivered))
    assert member.services.figures.letters_delivered == 700
    await here.close()
    assert await praised(here) >= 700


@pytest.mark.asyncio
@pytest.mark.parametrize("dies", ["before the delivery", "between delivery and taking away"])
async def test_a_letter_is_applied_once_wherever_its_deliverer_dies(
    cluster: NewCluster, praise: Praise, dies: str
) -> None:
    here = cluster(Plain)
    services = here.client().services
    letter = praise_for(1, services)
    await post(services, letter)
    if dies == "between delivery and taking away":
        await praise.deliver(services, letter)
    leader = LeftLetters(services, services, (praise,))
    await asyncio.sleep(GRACE_MS / 1000 + 0.1)
    await leader.deliver()
    assert left(here) == {}
    await Postman(services, (praise,)).deliver(letter)  # somebody who was asleep all the time
    counter = keys.count(RunId("receiver"), "busy_us")
    assert here.store._slots[slot_of(RunId("receiver"))].counters[counter] == 1


@pytest.mark.asyncio
async def test_two_who_deliver_the_same_letters_apply_each_once(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    one, other = here.client().services, here.client().services
    posted = [praise_for(number, one) for number in range(50)]
    await post(one, *posted)
    await asyncio.gather(*(Postman(each, (praise,)).deliver(letter) for each in (one, other) for letter in posted))
    assert left(here) == {}
    counter = keys.count(RunId("receiver"), "busy_us")
    assert here.store._slots[slot_of(RunId("receiver"))].counters[counter] == 50


@pytest.mark.asyncio
async def test_a_letter_that_cannot_be_delivered_is_tried_ever_more_rarely_and_is_in_nobodys_way(
    cluster: NewCluster, praise: Praise
) -> None:
    here = cluster(Plain)
    services = here.client().services
    await post(services, praise_for(1, services))
    praise.failures = 3
    leader, pauses = LeftLetters(services, services, (praise,)), []
    await asyncio.sleep(GRACE_MS / 1000 + 0.001)
    while praise.failures:
        await leader.deliver()
        ((entry, due),) = await services.letters.due(None)
        assert due.reason == "RuntimeError: not now"
        pauses.append(int(entry.entry[:14]) - services.now_ms())
        await asyncio.sleep(pauses[-1] / 1000 + 0.001)
    assert pauses == [1_000, 2_000, 4_000]
    assert services.figures.letters_put_off == 3
    await post(services, praise_for(2, services))
    await asyncio.sleep(GRACE_MS / 1000 + 0.001)
    await leader.deliver()
    assert len(praise.delivered) == 2
    assert left(here) == {}


@pytest.mark.asyncio
async def test_a_letter_of_a_kind_that_nobody_knows_waits_for_who_does(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    services = here.client().services
    await post(services, replace(praise_for(1, services), kind="blame"))
    await asyncio.sleep(GRACE_MS / 1000 + 0.001)
    await LeftLetters(services, services, (praise,)).deliver()
    ((_, due),) = await services.letters.due(None)
    assert "the kind 'blame'" in due.reason
    assert due.failures == 1
    await asyncio.sleep(2)
    await LeftLetters(services, services, (Praise(name="blame"),)).deliver()
    assert left(here) == {}


@pytest.mark.asyncio
async def test_an_entry_whose_letter_is_gone_is_forgotten(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    services = here.client().services
    letter = praise_for(1, services)
    await post(services, letter)
    leave = Leave(keys.letters_of(letter.from_run), letter.letter_id)
    await services.session.commit(Batch(slot=slot_of(letter.from_run), writes=(leave,)))
    await asyncio.sleep(GRACE_MS / 1000 + 0.001)
    await LeftLetters(services, services, (praise,)).deliver()
    assert (left(here), praise.delivered) == ({}, [])


@pytest.mark.asyncio
async def test_a_letter_that_is_damaged_goes_into_the_quarantine(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    services = here.client().services
    letter = praise_for(1, services)
    await post(services, letter)
    damage = Enter(keys.letters_of(letter.from_run), letter.letter_id, b"\xc1 no letter")
    await services.session.commit(Batch(slot=slot_of(letter.from_run), writes=(damage,)))
    with pytest.raises(UnreadableRecordError):
        await services.letters.find(letter.from_run, letter.letter_id)
    await asyncio.sleep(GRACE_MS / 1000 + 0.001)
    await LeftLetters(services, services, (praise,)).deliver()
    assert left(here) == {}
    (kept,) = await here.client().quarantine()
    assert kept.body == b"\xc1 no letter"
    assert "letter of run 'sender'" in kept.reason


@pytest.mark.asyncio
async def test_what_users_carry_in_a_letter_is_sealed_on_its_way(cluster: NewCluster) -> None:
    here = cluster(Plain)
    services = here.client().services
    services.sealing = Sealing([Encryption({"k1": bytes(32)})])
    letter = replace(praise_for(1, services), payload=b"\xa6secret")
    await post(services, letter)
    found = await services.letters.find(letter.from_run, letter.letter_id)
    assert found is not None
    assert is_sealed(found.payload)
    assert b"secret" not in found.payload
    assert payload_of(services, found) == b"\xa6secret"
    moved = replace(found, letter_id="0" * 32)
    with pytest.raises(UnreadableRecordError):
        payload_of(services, moved)


@pytest.mark.asyncio
async def test_a_run_with_letters_is_deleted_when_they_are_delivered(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain)
    await here.start_worker()
    client = here.client()
    await started(here, "sender", "receiver")
    await client.wait("sender")
    await here.close()
    await post(client.services, praise_for(1, client.services))
    praise.failures = 1
    with pytest.raises(RuntimeError):
        await client.delete("sender")
    assert await client.delete("sender")
    assert len(praise.delivered) == 1
    assert left(here) == {}


@pytest.mark.asyncio
async def test_pruning_leaves_a_run_alone_until_its_letters_are_delivered(cluster: NewCluster, praise: Praise) -> None:
    here = cluster(Plain, retention=Retention(completed=0.5))
    praise.failures = 10_000
    services = here.client().services
    await started(here, "sender")
    await post(services, praise_for(1, services))
    await here.start_worker()
    client = here.client()
    await client.wait("sender")
    await asyncio.sleep(60)
    assert await client.status("sender") == "completed"
    praise.failures = 0
    await none_left(here)
    while await services.runs.find(RunId("sender")) is not None:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)


@pytest.mark.asyncio
async def test_a_server_that_is_down_keeps_letters_to_its_own_runs_back_and_no_others(praise: Praise) -> None:
    here = ShardedCluster(Plain)
    (sender,), (away,), (near,) = here.ids_on("anna", 1), here.ids_on("bert", 1), here.ids_on("cleo", 1)
    services = here.client().services
    await post(services, praise_for(1, services, sender=sender, to=away))
    await post(services, praise_for(2, services, sender=sender, to=near))
    here.servers["bert"].cut()
    member = await here.start_worker()
    try:
        while len(praise.delivered) < 1 or len(here.disks["anna"].leftovers("letters")["letters"]) > 1:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
        assert [entry for name, entry in here.disks["anna"].leftovers(f"in:{sender}:posted").items()] == [
            [derive_letter_id("praise", RunId(sender), 1)]
        ]
        assert await deliver_letters_of(services, RunId(sender), (praise,))
        assert member.services.figures.letters_put_off == 0  # nothing is wrong with it
        here.servers["bert"].heal()
        while here.disks["anna"].leftovers("letters"):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
        counter = keys.count(RunId(away), "busy_us")
        assert here.disks["bert"]._slots[slot_of(RunId(away))].counters[counter] == 1
    finally:
        here.servers["bert"].heal()
        await here.close()


def test_a_letter_is_called_after_its_cause() -> None:
    run, other = RunId("run"), RunId("nur")
    first = derive_letter_id("praise", run, "item", 3)
    assert first == derive_letter_id("praise", run, "item", 3)
    others = {
        derive_letter_id("blame", run, "item", 3),
        derive_letter_id("praise", other, "item", 3),
        derive_letter_id("praise", run, "item", 4),
    }
    assert len({first, *others}) == 4
