"""What the broker gave up on is brought back, put aside or kept, and nothing is lost or goes round in circles."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import (
    DeadLetterKind,
    Hold,
    Next,
    Orchestrator,
    RunFailedError,
    RunStatus,
    Workflow,
    WorkItemStatus,
    node,
)
from floxide_amqp.core import moves
from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId, slot_of
from floxide_amqp.core.message_records import Probe
from floxide_amqp.core.records import RunFailure
from floxide_amqp.exceptions import (
    BrokerUnavailableError,
    DeadLetterIncompleteError,
    DeadLetterNotFoundError,
    InvalidRunStateError,
    UnknownWorkflowError,
    UnreadableRecordError,
)
from floxide_amqp.ports.key_value import Batch, Put
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.runtime.control_actions import fail_run
from floxide_amqp.runtime.dead_letters import PAGE, DeadLetterDesk
from floxide_amqp.runtime.due_timers import DueTimers
from floxide_amqp.runtime.foreign_letters import HELD_SECONDS, PATIENCE_SECONDS
from floxide_amqp.stores import keys
from floxide_amqp.stores.quarantine import MAX_KEPT_BYTES
from floxide_amqp.stores.record_codec import decode_message, encode_envelope, encode_probe
from floxide_amqp.stores.runs import StoredRun
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]


@node
async def begin(x: int) -> int:
    return x + 1


@node(queue="other")
async def end(x: int) -> int:
    return x * 10


class Two(Workflow[int, int]):
    start = begin
    edges = (begin >> end,)


@node
async def instead(x: int) -> int:
    return -x


class Caught(Workflow[int, int]):
    start = begin
    edges = (begin.on_failure >> instead,)


@node
async def rest(x: int) -> Next[int] | Hold:
    return Hold(for_=timedelta(hours=1))


class Resting(Workflow[int, int]):
    start = rest


class Letter:
    """A dead letter as a broker would hand it over."""

    def __init__(self, body: bytes, queue: str = "default", reason: str = "delivery_limit", count: int = 1) -> None:
        self.body = body
        self.queue = queue
        self.reason = reason
        self.count = count
        self.acknowledged = 0
        self.released = 0

    async def acknowledge(self) -> None:
        self.acknowledged += 1

    async def release(self) -> None:
        self.released += 1


class LetterBox:
    """A dead letter queue whose letters a test puts in."""

    def __init__(self) -> None:
        self.letters: asyncio.Queue[Letter] = asyncio.Queue()
        self.readers = 0

    @asynccontextmanager
    async def read(self, *, prefetch: int) -> AsyncGenerator[LetterBox]:
        self.readers += 1
        try:
            yield self
        finally:
            self.readers -= 1

    async def receive(self) -> Letter:
        return await self.letters.get()


class Place:
    """A cluster whose broker drops every message of task queues that nobody serves, and a desk that hears of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        worker, self.services, _, self.queue = cluster.worker_of()
        self.desk = worker.maintenance.dead_letters
        self.client = cluster.client()

    async def start(self, workflow: Any = Two, run_id: str = "run") -> bytes:
        """Start a run and return the body of its first message, which never arrives anywhere."""
        orchestrator = self.client
        await orchestrator.start(workflow, 1, run_id=run_id)
        return self.published(orchestrator)[-1].body

    def published(self, orchestrator: Orchestrator | None = None) -> list[Message]:
        queue: Any = (orchestrator.services if orchestrator else self.services).queue
        return list(queue.published)

    async def give_up(self, body: bytes, **facts: Any) -> Letter:
        letter = Letter(body, **facts)
        if await self.desk.reconcile(letter):
            await letter.acknowledge()
        return letter

    async def give_up_until_kept(self, body: bytes) -> None:
        """The broker gives every message of the item up, until nobody sends another one."""
        for _ in range(self.services.limits.dead_letters):
            await self.give_up(body)
            await self.fire_timers()
            body = self.published()[-1].body
        await self.give_up(body)

    async def fire_timers(self) -> None:
        await asyncio.sleep(600)
        await DueTimers(self.services).fire()

    async def item(self, run_id: str = "run") -> Any:
        (item,) = await self.client.pending_work(run_id)
        return item

    async def complete(self) -> Member:
        return await self.cluster.start_worker(queues=("default", "other"))


@pytest.fixture
def place(cluster: MakeCluster) -> Place:
    return Place(cluster(Two, Caught, Resting))


async def test_the_first_letter_of_an_item_is_published_again_at_once(place: Place) -> None:
    body = await place.start()
    letter = await place.give_up(body)
    assert letter.acknowledged == 1
    (again,) = place.published()
    envelope = decode_message(again.body)
    assert (envelope.run_id, envelope.recovered, envelope.turn) == ("run", True, 1)  # type: ignore[union-attr]
    (shown,) = await place.client.dead_letters()
    assert (shown.kind, shown.count, shown.run_id, shown.node) == (DeadLetterKind.UNDELIVERED, 1, "run", "begin")
    assert shown.reason == "it came back too often (delivery limit)"


async def test_an_item_brought_back_completes_and_its_letter_is_gone(place: Place) -> None:
    await place.give_up(await place.start())
    await place.complete()
    assert await place.client.wait("run", 60) is RunStatus.COMPLETED
    assert await place.client.dead_letters() == []
    await place.desk.tidy()
    assert place.cluster.store.leftovers("dead") == {}
    await place.cluster.check_completed("run")


async def test_letters_in_a_row_are_answered_ever_later(place: Place) -> None:
    body = await place.start()
    await place.give_up(body)
    pauses = []
    for _ in range(place.services.limits.dead_letters - 1):
        before = len(place.published())
        await place.give_up(place.published()[-1].body)
        assert len(place.published()) == before, "published at once although it was given up before"
        (shown,) = await place.client.dead_letters()
        assert shown.again_at is not None
        pauses.append((shown.again_at - shown.last_at).total_seconds())
        assert "times in a row" in (await place.item()).note
        await place.fire_timers()
        assert len(place.published()) == before + 1
    assert all(late >= early * 1.2 for early, late in itertools.pairwise(pauses)), pauses
    assert pauses[0] >= place.services.timeouts.publish_retry * 0.75


async def test_an_item_whose_message_is_given_up_again_and_again_waits_visibly_for_somebody(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    item = await place.item()
    assert item.status is WorkItemStatus.PARKED
    assert "waits for somebody to requeue or drop the dead letter of node 'begin'" in item.note
    assert "the broker gave up on its message 6 times in a row: it came back too often" in item.note
    assert await place.client.status("run") is RunStatus.WAITING
    (shown,) = await place.client.dead_letters()
    assert (shown.count, shown.again_at) == (6, None)
    count = len(place.published())
    await place.fire_timers()
    assert len(place.published()) == count, "it went round once more"
    assert (await place.cluster.counts("run")).waiting == 1


async def test_a_kept_letter_is_requeued_and_the_run_completes(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    (shown,) = await place.client.dead_letters()
    await place.client.requeue_dead_letter(shown.letter_id)
    assert await place.client.dead_letters() == []
    await place.complete()
    assert await place.client.wait("run", 60) is RunStatus.COMPLETED
    await place.cluster.check_completed("run")
    with pytest.raises(DeadLetterNotFoundError, match="no dead letter"):
        await place.client.requeue_dead_letter(shown.letter_id)


async def test_after_a_requeue_letters_count_from_the_beginning(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    (shown,) = await place.client.dead_letters()
    await place.client.requeue_dead_letter(shown.letter_id)
    await place.give_up(place.published(place.client)[-1].body)
    (again,) = await place.client.dead_letters()
    assert again.count == 1


async def test_a_letter_that_waits_for_its_timer_can_be_requeued_too(place: Place) -> None:
    await place.give_up(await place.start())
    await place.give_up(place.published()[-1].body)
    (shown,) = await place.client.dead_letters()
    await place.client.requeue_dead_letter(shown.letter_id)
    assert place.cluster.store.leftovers("timers", "dead") == {}
    await place.complete()
    assert await place.client.wait("run", 60) is RunStatus.COMPLETED
    await place.cluster.check_completed("run")


async def test_a_dropped_letter_fails_its_run_with_the_reason(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    (shown,) = await place.client.dead_letters()
    await place.client.drop_dead_letter(shown.letter_id)
    handle = place.client.handle(Two, "run")
    with pytest.raises(RunFailedError, match="gave up on the message of node 'begin'"):
        await handle.result(1)
    assert await place.client.dead_letters() == []
    assert (await place.cluster.counts("run")).waiting == 0
    await handle.resume()  # what was given up is tried again like any failed item
    await place.complete()
    assert await handle.result(60) == 20


async def test_a_dropped_letter_takes_the_fallback_of_its_node(place: Place) -> None:
    await place.give_up_until_kept(await place.start(Caught))
    (shown,) = await place.client.dead_letters()
    await place.client.drop_dead_letter(shown.letter_id)
    await place.complete()
    assert await place.client.handle(Caught, "run").result(60) == -1
    await place.cluster.check_completed("run")


async def test_a_letter_that_waits_for_its_timer_can_be_dropped_too(place: Place) -> None:
    await place.give_up(await place.start())
    await place.give_up(place.published()[-1].body)
    (shown,) = await place.client.dead_letters()
    await place.client.drop_dead_letter(shown.letter_id)
    assert await place.client.status("run") is RunStatus.FAILED
    assert place.cluster.store.leftovers("timers", "dead") == {}


async def test_dropping_needs_the_workflow_and_says_so(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    (shown,) = await place.client.dead_letters()
    place.cluster.workflows = ()
    with pytest.raises(UnknownWorkflowError, match="Two@"):
        await place.cluster.client().drop_dead_letter(shown.letter_id)
    assert await place.client.dead_letters() == [shown]


async def test_a_letter_of_a_cancelled_run_is_acknowledged_and_nothing_is_sent(place: Place) -> None:
    body = await place.start()
    await place.client.cancel("run")
    letter = await place.give_up(body)
    assert (letter.acknowledged, place.published(), await place.client.dead_letters()) == (1, [], [])


async def test_a_letter_of_an_unknown_run_is_acknowledged(place: Place) -> None:
    body = await place.start()
    envelope = replace(decode_message(body), run_id=RunId("another"))  # type: ignore[type-var]
    letter = await place.give_up(encode_envelope(envelope))  # type: ignore[arg-type]
    assert (letter.acknowledged, place.published()) == (1, [])


async def test_a_letter_of_a_paused_run_is_left_to_its_resumption(place: Place) -> None:
    body = await place.start()
    await place.client.pause("run")
    letter = await place.give_up(body)
    assert (letter.acknowledged, place.published()) == (1, [])
    await place.client.resume("run")
    await place.complete()
    assert await place.client.wait("run", 60) is RunStatus.COMPLETED
    await place.cluster.check_completed("run")


async def test_a_letter_of_a_completed_item_is_acknowledged(place: Place) -> None:
    body = await place.start()
    await place.complete()
    await place.client.wait("run", 60)
    letter = await place.give_up(body)
    assert (letter.acknowledged, place.published(), await place.client.dead_letters()) == (1, [], [])


async def test_a_letter_of_an_old_turn_is_acknowledged(place: Place) -> None:
    body = await place.start()
    await place.give_up(body)
    await place.give_up(place.published()[-1].body)  # raises the turn
    before = await place.client.dead_letters()
    letter = await place.give_up(body)
    assert (letter.acknowledged, len(place.published()), await place.client.dead_letters()) == (1, 1, before)


async def test_a_letter_of_an_item_that_waits_for_a_timer_is_acknowledged(place: Place) -> None:
    body = await place.start(Resting)
    await place.complete()
    async with asyncio.timeout(60):
        while (await place.item()).status is not WorkItemStatus.HELD:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    letter = await place.give_up(body)
    assert (letter.acknowledged, place.published()) == (1, [])
    assert (await place.item()).status is WorkItemStatus.HELD


async def test_the_letter_of_an_item_whose_claimant_is_gone_gives_it_back(place: Place) -> None:
    body = await place.start()
    run = await place.services.runs.load(RunId("run"))
    (found,) = await place.services.items.find(RunId("run"), (run.header.start_item,))
    assert found is not None
    await place.services.commit(run.writer, moves.claim(found.item, found.turn, run.epoch, WorkerId("nobody")))
    letter = await place.give_up(body)
    assert letter.acknowledged == 1
    assert (await place.item()).status is WorkItemStatus.PENDING
    assert len(place.published()) == 1


async def test_what_nobody_can_read_is_quarantined_with_both_reasons(place: Place) -> None:
    letter = await place.give_up(b"\xc1garbage", queue="default", reason="expired")
    assert letter.acknowledged == 1
    (kept,) = await place.client.quarantine()
    assert kept.body == b"\xc1garbage"
    assert "waited too long" in kept.reason
    (shown,) = await place.client.dead_letters()
    assert (shown.letter_id, shown.kind, shown.again_at) == (kept.quarantine_id, DeadLetterKind.UNREADABLE, None)


async def test_an_unreadable_message_is_requeued_as_it_is_or_stays(place: Place) -> None:
    await place.give_up(b"\xc1garbage", queue="default")
    (shown,) = await place.client.dead_letters()
    client = place.cluster.client()
    queue: Any = client.services.queue
    await queue.cut()
    with pytest.raises(BrokerUnavailableError, match="was not confirmed"):
        await client.requeue_dead_letter(shown.letter_id)
    assert await place.client.dead_letters() == [shown]
    await place.client.requeue_dead_letter(shown.letter_id)
    assert place.published(place.client)[-1] == Message(queue="default", body=b"\xc1garbage")
    assert await place.client.dead_letters() == []


async def test_an_unreadable_message_is_deleted_by_a_drop(place: Place) -> None:
    await place.give_up(b"\xc1garbage")
    (shown,) = await place.client.dead_letters()
    await place.client.drop_dead_letter(shown.letter_id)
    assert await place.client.quarantine() == []
    with pytest.raises(DeadLetterNotFoundError):
        await place.client.drop_dead_letter(shown.letter_id)


async def test_a_message_of_which_only_the_beginning_was_kept_is_not_requeued(place: Place) -> None:
    await place.give_up(b"\xc1" + bytes(MAX_KEPT_BYTES), queue="default")
    (shown,) = await place.client.dead_letters()
    with pytest.raises(DeadLetterIncompleteError, match=f"the first {MAX_KEPT_BYTES} of {MAX_KEPT_BYTES + 1} bytes"):
        await place.client.requeue_dead_letter(shown.letter_id)
    assert place.published(place.client) == []


async def test_a_damaged_letter_is_shown_with_its_place_and_hides_no_other(place: Place) -> None:
    first, second = await place.start(), await place.start(run_id="second")
    await place.give_up(first)
    await asyncio.sleep(1)
    await place.give_up(second)
    damaged, whole = await place.client.dead_letters()
    key = keys.dead_letter(RunId("run"), WorkItemId(damaged.item_id))
    await place.services.session.commit(Batch(slot=slot_of(RunId("run")), writes=(Put(key, b"\xc1"),)))
    shown = await place.client.dead_letters()
    assert [each.letter_id for each in shown] == [damaged.letter_id, whole.letter_id]
    assert f"run/d:{damaged.item_id}" in shown[0].reason
    with pytest.raises(UnreadableRecordError):
        await place.client.requeue_dead_letter(damaged.letter_id)
    await place.desk.tidy()
    assert [each.letter_id for each in await place.client.dead_letters()] == [damaged.letter_id, whole.letter_id]


async def test_a_probe_among_the_letters_is_acknowledged(place: Place) -> None:
    letter = await place.give_up(encode_probe(Probe(queue="default", number=1, before="0")))
    assert (letter.acknowledged, place.published(), await place.client.quarantine()) == (1, [], [])


async def test_a_requeue_into_a_failed_run_is_refused_and_its_resumption_takes_the_item_along(place: Place) -> None:
    def by_hand(run: StoredRun) -> RunFailure:
        error = ErrorInfo(kinds=("builtins.TimeoutError",), message="too late")
        return RunFailure(node="", item_id=run.header.start_item, error=error, attempts=1)

    await place.give_up_until_kept(await place.start())
    await fail_run(place.services, RunId("run"), by_hand)
    (shown,) = await place.client.dead_letters()
    with pytest.raises(InvalidRunStateError, match="it is failed"):
        await place.client.requeue_dead_letter(shown.letter_id)
    await place.client.resume("run")
    assert await place.client.dead_letters() == []
    await place.complete()
    assert await place.client.wait("run", 60) is RunStatus.COMPLETED
    await place.desk.tidy()
    await place.cluster.check_completed("run")


async def test_the_letters_of_a_run_that_is_over_are_gone(place: Place) -> None:
    await place.give_up_until_kept(await place.start())
    (shown,) = await place.client.dead_letters()
    await place.client.cancel("run")
    assert await place.client.dead_letters() == []
    with pytest.raises(DeadLetterNotFoundError):
        await place.client.requeue_dead_letter(shown.letter_id)
    await place.desk.tidy()
    assert place.cluster.store.leftovers("dead") == {}


async def test_letters_are_listed_in_pages_oldest_first_of_both_kinds(place: Place) -> None:
    for n in range(6):
        if n % 2:
            await place.give_up(bytes([0xC1, n]))
        else:
            await place.give_up(await place.start(run_id=f"run-{n}"))
        await asyncio.sleep(1)
    everything = await place.client.dead_letters()
    assert [each.kind.value[:4] for each in everything] == ["unde", "unre"] * 3
    pages: list[Any] = []
    while page := await place.client.dead_letters(after=pages[-1].letter_id if pages else "", limit=2):
        assert len(page) <= 2
        pages += page
    assert pages == everything
    assert await place.client.dead_letter(everything[0].letter_id) == everything[0]


class TestReading:
    """The desk that reads letters while its process leads."""

    async def test_letters_are_read_by_the_leader_only(self, place: Place) -> None:
        box, leads = LetterBox(), False
        desk = DeadLetterDesk(place.services, box, _nothing, lambda: leads)
        task = asyncio.create_task(desk.run())
        letter = Letter(await place.start())
        box.letters.put_nowait(letter)
        await asyncio.sleep(30)
        assert (box.readers, letter.acknowledged) == (0, 0)
        leads = True
        await asyncio.sleep(2)
        assert (box.readers, letter.acknowledged) == (1, 1)
        leads = False
        await asyncio.sleep(2)
        assert box.readers == 0
        task.cancel()

    async def test_a_letter_goes_back_if_the_store_fails_and_is_read_again(self, place: Place) -> None:
        box = LetterBox()
        desk = DeadLetterDesk(place.services, box, _nothing, lambda: True)
        letter = Letter(await place.start())
        task = asyncio.create_task(desk.run())
        await asyncio.sleep(1)
        store: Any = place.services.session._store
        store.cut()
        box.letters.put_nowait(letter)
        await asyncio.sleep(90)  # longer than the session's patience
        assert (letter.released, letter.acknowledged) == (1, 0)
        store.heal()
        box.letters.put_nowait(letter)
        await asyncio.sleep(120)
        assert (letter.released, letter.acknowledged) == (1, 1)
        task.cancel()

    async def test_a_letter_of_another_store_is_left_alone_for_a_while_and_given_back(self, place: Place) -> None:
        box = LetterBox()
        place.services.store_id = "ours"
        desk = DeadLetterDesk(place.services, box, _nothing, lambda: True)
        envelope = replace(decode_message(await place.start()), store="theirs")  # type: ignore[type-var]
        foreign = Letter(encode_envelope(envelope))  # type: ignore[arg-type]
        own = Letter(b"\xc1")
        task = asyncio.create_task(desk.run())
        box.letters.put_nowait(foreign)
        box.letters.put_nowait(own)
        await asyncio.sleep(HELD_SECONDS - 1)
        assert (foreign.released, foreign.acknowledged, own.acknowledged) == (0, 0, 1)
        await asyncio.sleep(2)
        assert (foreign.released, foreign.acknowledged) == (1, 0)
        assert place.published() == []
        task.cancel()

    async def test_letters_of_another_store_that_nobody_else_reads_starve_no_own_ones(self, place: Place) -> None:
        place.services.store_id = "ours"
        envelope: Any = replace(decode_message(await place.start()), store="theirs")  # type: ignore[type-var]
        broker = Broker()
        desk = DeadLetterDesk(place.services, broker, _nothing, lambda: True)
        foreign = [broker.add(encode_envelope(replace(envelope, run_id=f"run-{n}"))) for n in range(200)]
        own = broker.add(b"\xc1")
        task = asyncio.create_task(desk.run())
        await asyncio.sleep(5)
        assert own.acknowledged == 1
        assert any(letter.released for letter in foreign) or broker.in_hand  # some are left to their owner
        await asyncio.sleep(3 * PATIENCE_SECONDS)
        assert all(letter.acknowledged for letter in foreign)
        assert (broker.in_hand, len(broker.waiting)) == (0, 0)
        kept = await place.client.quarantine(limit=1_000)
        assert {each.body for each in kept} == {own.body, *(letter.body for letter in foreign)}
        assert all("store 'theirs'" in each.reason for each in kept if each.body != own.body)
        assert place.published() == []
        task.cancel()


class Broker:
    """A dead letter queue with a prefetch, in which what is given back comes first again, as in a quorum queue."""

    def __init__(self) -> None:
        self.waiting: deque[Letter] = deque()
        self.in_hand = 0
        self._prefetch = 0

    def add(self, body: bytes) -> Letter:
        broker, letter = self, Letter(body)

        async def acknowledge() -> None:
            letter.acknowledged += 1
            broker.in_hand -= 1

        async def release() -> None:
            letter.released += 1
            broker.in_hand -= 1
            broker.waiting.appendleft(letter)

        letter.acknowledge, letter.release = acknowledge, release  # type: ignore[method-assign]
        self.waiting.append(letter)
        return letter

    @asynccontextmanager
    async def read(self, *, prefetch: int) -> AsyncGenerator[Broker]:
        self._prefetch = prefetch
        yield self

    async def receive(self) -> Letter:
        while not self.waiting or self.in_hand >= self._prefetch:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.01)
        self.in_hand += 1
        return self.waiting.popleft()


async def test_a_round_of_tidying_looks_at_one_page_and_the_next_goes_on_behind_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floxide_amqp.runtime.dead_letters.PAGE", 2)
    assert PAGE > 2
    for n in range(5):
        await place.give_up_until_kept(await place.start(run_id=f"run-{n}"))
    await place.client.cancel("run-1")
    await place.client.cancel("run-4")
    left = []
    for _ in range(4):
        await place.desk.tidy()
        left.append(len(place.cluster.store.leftovers("dead")["dead"]))
    assert left == [4, 4, 3, 3]
    await place.client.cancel("run-0")
    await place.desk.tidy()
    await place.desk.tidy()
    assert len(place.cluster.store.leftovers("dead")["dead"]) == 2  # it begins anew at the end


async def _nothing(note: object) -> None:
    del note
