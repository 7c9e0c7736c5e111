"""Signals: early, on time and late; each value goes to one step; waits that end by time; who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Append,
    Context,
    DefinitionError,
    Hold,
    HoldTimeoutError,
    InvalidRunStateError,
    Limits,
    MailboxFullError,
    NextAll,
    RetryPolicy,
    RunDeletedError,
    RunNotFoundError,
    RunStatus,
    Signal,
    SignalConflictError,
    UnknownSignalError,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import CodecError, PayloadMismatchError
from floxide_amqp.stores import keys, signal_keys
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_moving_house import import_run

MakeCluster = Callable[..., Cluster]

APPROVAL = Signal("approval", bool)
VOTE = Signal("vote", int)
NOTE = Signal("note", str)


@node
async def ask(ctx: WorkflowCtx[Any], order: str) -> str | Hold:
    """Wait for an approval, at most for two minutes."""
    approved = ctx.received(APPROVAL)
    if approved is None and not ctx.timed_out:
        return Hold(until=APPROVAL, timeout=timedelta(minutes=2))
    return f"{order}: {'late' if approved is None else approved}"


class Asking(Workflow[str, str]):
    start = ask
    signals = (APPROVAL, NOTE)


class Votes(Context):
    """The votes so far."""

    votes: Annotated[list[int], Append()] = []


@node
async def count(ctx: WorkflowCtx[Votes], wanted: int) -> list[int] | Hold:
    """Hold until so many votes have come, one or several at a time."""
    while (vote := ctx.received(VOTE)) is not None:
        ctx.state.votes.append(vote)
    return Hold(until=VOTE) if len(ctx.state.votes) < wanted else list(ctx.state.votes)


class Voting(Workflow[int, list[int], Votes]):
    start = count


async def held(here: Cluster, run_id: str, items: int = 1) -> None:
    """Wait until so many items of a run are held."""
    client = here.client()
    while True:
        found = [item for item in await client.pending_work(run_id) if item.status is WorkItemStatus.HELD]
        if len(found) == items:
            return
        await asyncio.sleep(0.05)


async def test_a_signal_wakes_the_item_that_waits_for_it_and_brings_its_value(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    await held(here, "run")
    info = await client.run_info("run")
    (wait,) = info.waits
    assert (info.status, wait.what) == (RunStatus.WAITING, "signal 'approval' to node 'ask'")
    assert wait.since is not None
    assert wait.until == wait.since + timedelta(minutes=2)
    assert await handle.signal(APPROVAL, True)
    assert await handle.result(60) == "a: True"
    await here.check_completed("run")


async def test_a_signal_that_comes_before_anybody_waits_is_kept_and_found(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    assert await client.signal("run", APPROVAL, False)
    await here.start_worker()
    assert await handle.result(60) == "a: False"
    await here.check_completed("run")


async def test_values_are_received_in_the_order_they_were_sent_each_once_early_or_late(cluster: MakeCluster) -> None:
    here = cluster(Voting)
    client = here.client()
    handle = await client.start(Voting, 6, run_id="run")
    for vote in range(3):
        await handle.signal(VOTE, vote)
    await here.start_worker()
    await held(here, "run")
    for vote in range(3, 6):
        await handle.signal(VOTE, vote)
    assert await handle.result(60) == [0, 1, 2, 3, 4, 5]
    await here.check_completed("run")


async def test_a_body_that_does_not_look_before_it_holds_is_given_what_was_there(cluster: MakeCluster) -> None:
    bodies: list[object] = []

    @node
    async def trusting(ctx: WorkflowCtx[Any], order: str) -> str | Hold:
        bodies.append(ctx.run_id)
        if len(bodies) < 2:
            return Hold(until=(NOTE, APPROVAL))
        note, approved = ctx.received(NOTE), ctx.received(APPROVAL)
        return f"{note} {approved}"

    class Trusting(Workflow[str, str]):
        start = trusting

    here = cluster(Trusting)
    client = here.client()
    handle = await client.start(Trusting, "a", run_id="run")
    await handle.signal(APPROVAL, True)
    await here.start_worker()
    assert await handle.result(60) == "None True"
    assert len(bodies) == 2
    await here.check_completed("run")


@pytest.mark.parametrize("between", [Hold(until=NOTE), Hold(for_=timedelta(seconds=5))], ids=["signal", "time"])
async def test_a_value_that_woke_an_item_which_then_waits_for_something_else_is_there_when_it_is_asked_for(
    cluster: MakeCluster, between: Hold
) -> None:
    bodies: list[object] = []

    @node
    async def ordered(ctx: WorkflowCtx[Any], order: str) -> str | Hold:
        """Wait for an approval, look at it only after something else has come."""
        bodies.append(ctx.run_id)
        if len(bodies) < 3:
            return Hold(until=APPROVAL) if len(bodies) == 1 else between
        return f"{order} {ctx.received(APPROVAL)} {ctx.received(APPROVAL)}"

    class Ordered(Workflow[str, str]):
        start = ordered

    here = cluster(Ordered)
    await here.start_worker()
    handle = await here.client().start(Ordered, "a", run_id="run")
    await held(here, "run")
    await handle.signal(APPROVAL, True)
    while len(bodies) < 2:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.05)
    await handle.signal(NOTE, "note")
    assert await handle.result(60) == "a True None"
    assert len(bodies) == 3
    await here.check_completed("run")


async def test_a_value_that_its_item_has_not_received_goes_to_another_that_waits_for_it(cluster: MakeCluster) -> None:
    bodies: list[int] = []

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def wait(ctx: WorkflowCtx[Any], number: int) -> str | Hold:
        """Wait for a vote; who is woken by it first leaves it, and waits for a note."""
        bodies.append(number)
        if len(bodies) <= 2:
            return Hold(until=VOTE)
        if number == bodies[2]:
            return ctx.received(NOTE) or Hold(until=NOTE)
        return f"vote {ctx.received(VOTE)}"

    @node
    async def join(results: list[str]) -> list[str]:
        return results

    class Leaving(Workflow[int, list[str]]):
        start = split
        edges = (split >> wait >> gather(join),)

    here = cluster(Leaving)
    await here.start_worker()
    handle = await here.client().start(Leaving, 1, run_id="run")
    await held(here, "run", 2)
    await handle.signal(VOTE, 7)
    async with asyncio.timeout(60):
        while len(bodies) < 4:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    await handle.signal(NOTE, "note")
    assert sorted(await handle.result(60)) == ["note", "vote 7"]
    await here.check_completed("run")


async def test_a_value_goes_to_one_of_several_items_that_wait_the_one_that_waits_longest(cluster: MakeCluster) -> None:
    @node
    async def split(ctx: WorkflowCtx[Any], size: int) -> NextAll[int]:
        return NextAll(range(size))

    @node
    async def wait(ctx: WorkflowCtx[Any], number: int) -> int | Hold:
        vote = ctx.received(VOTE)
        return Hold(until=VOTE) if vote is None else vote

    @node
    async def join(ctx: WorkflowCtx[Any], votes: list[int]) -> list[int]:
        return votes

    class Several(Workflow[int, list[int]]):
        start = split
        edges = (split >> wait >> gather(join),)

    here = cluster(Several)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Several, 5, run_id="run")
    await held(here, "run", 5)
    for vote in range(4):
        assert await handle.signal(VOTE, vote)
        await held(here, "run", 4 - vote)
    await handle.signal(VOTE, 4)
    assert sorted(await handle.result(60)) == [0, 1, 2, 3, 4]
    await here.check_completed("run")


async def test_of_two_steps_that_receive_the_same_value_one_gets_it_and_the_other_waits_on(
    cluster: MakeCluster,
) -> None:
    """Both bodies see the value; the second to commit finds it taken, and its body runs again."""
    seen: list[int] = []
    both = asyncio.Event()

    @node
    async def split(ctx: WorkflowCtx[Any], size: int) -> NextAll[int]:
        return NextAll(range(size))

    @node
    async def wait(ctx: WorkflowCtx[Any], number: int) -> int | Hold:
        vote = ctx.received(VOTE)
        if vote is None:
            return Hold(until=VOTE)
        seen.append(vote)
        if len(seen) == 2:
            both.set()
        await both.wait()
        return vote

    @node
    async def join(ctx: WorkflowCtx[Any], votes: list[int]) -> list[int]:
        return votes

    class Two(Workflow[int, list[int]]):
        start = split
        edges = (split >> wait >> gather(join),)

    here = cluster(Two)
    client = here.client()
    handle = await client.start(Two, 2, run_id="run")
    await handle.signal(VOTE, 1)
    await here.start_worker()
    await held(here, "run")
    assert seen == [1, 1]
    await handle.signal(VOTE, 2)
    assert sorted(await handle.result(60)) == [1, 2]
    await here.check_completed("run")


async def test_a_value_that_comes_between_a_body_and_its_commit_wakes_it(cluster: MakeCluster) -> None:
    """The hold does not stand: its commit checks that nothing was kept since the body looked."""
    looked, sent = asyncio.Event(), asyncio.Event()

    @node
    async def wait(ctx: WorkflowCtx[Any], order: str) -> bool | Hold:
        approved = ctx.received(APPROVAL)
        looked.set()
        await sent.wait()
        return Hold(until=APPROVAL) if approved is None else approved

    class Waiting(Workflow[str, bool]):
        start = wait

    here = cluster(Waiting)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Waiting, "a", run_id="run")
    await looked.wait()
    await handle.signal(APPROVAL, True)
    sent.set()
    assert await handle.result(60) is True
    await here.check_completed("run")


async def test_what_a_failed_attempt_received_the_next_one_receives_again(cluster: MakeCluster) -> None:
    """Of a value that woke the item, and of one that lay in the mailbox."""

    @node(retry=RetryPolicy(max_attempts=5, initial_backoff=1))
    async def stumble(ctx: WorkflowCtx[Any], order: str) -> list[bool] | Hold:
        first = ctx.received(APPROVAL)
        if first is None:
            return Hold(until=APPROVAL)
        second = ctx.received(APPROVAL)
        if ctx.attempt < 3 or second is None:
            raise ValueError("not yet")
        return [first, second]

    class Stumbling(Workflow[str, list[bool]]):
        start = stumble

    here = cluster(Stumbling)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Stumbling, "a", run_id="run")
    await held(here, "run")
    await handle.signal(APPROVAL, True)
    await handle.signal(APPROVAL, False)
    assert await handle.result(60) == [True, False]
    await here.check_completed("run")


async def test_an_id_is_accepted_once_and_another_value_under_it_is_a_conflict(cluster: MakeCluster) -> None:
    here = cluster(Voting)
    client = here.client()
    handle = await client.start(Voting, 2, run_id="run")
    assert [await handle.signal(VOTE, 1, signal_id="a") for _ in range(3)] == [True, False, False]
    with pytest.raises(SignalConflictError, match="another name or value"):
        await handle.signal(VOTE, 2, signal_id="a")
    await here.start_worker()
    await held(here, "run")
    assert not await handle.signal(VOTE, 1, signal_id="a")  # it has been taken since
    await handle.signal(VOTE, 2, signal_id="b")
    assert await handle.result(60) == [1, 2]
    await here.check_completed("run")


async def test_a_wait_whose_time_is_over_runs_the_node_again_and_says_so(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    assert await handle.result(200) == "a: late"
    assert asyncio.get_running_loop().time() == pytest.approx(120, abs=5)
    await here.check_completed("run")


async def test_a_timeout_edge_takes_over_with_the_input_of_the_node(cluster: MakeCluster) -> None:
    @node
    async def patient(ctx: WorkflowCtx[Any], order: str) -> str | Hold:
        approved = ctx.received(APPROVAL)
        assert not ctx.timed_out
        return Hold(until=APPROVAL, timeout=60) if approved is None else f"{order}: {approved}"

    @node
    async def escalate(ctx: WorkflowCtx[Any], order: str) -> str:
        assert ctx.failure is not None
        return f"{order}: escalated, {ctx.failure.error_type.rpartition('.')[2]}"

    class Escalating(Workflow[str, str]):
        start = patient
        edges = (patient.on_timeout >> escalate,)

    here = cluster(Escalating)
    await here.start_worker()
    client = here.client()
    late = await client.start(Escalating, "a", run_id="late")
    soon = await client.start(Escalating, "b", run_id="soon")
    await held(here, "soon")
    await soon.signal(APPROVAL, True)
    assert await soon.result(60) == "b: True"
    assert await late.result(120) == "a: escalated, HoldTimeoutError"
    for run_id in ("late", "soon"):
        await here.check_completed(run_id)


async def test_a_hold_until_a_time_ends_then_and_one_whose_time_is_over_at_once(cluster: MakeCluster) -> None:
    wakes: list[float] = []

    @node
    async def until(ctx: WorkflowCtx[Votes], at: float) -> int | Hold:
        wakes.append(asyncio.get_running_loop().time())
        ctx.state.votes.append(1)
        if len(ctx.state.votes) > 1:
            return len(ctx.state.votes)
        return Hold(until_time=datetime.fromtimestamp(at, UTC))

    class Until(Workflow[float, int, Votes]):
        start = until

    here = cluster(Until)
    await here.start_worker()
    client = here.client()
    now = client.services.now_ms() / 1000
    assert await (await client.start(Until, now + 90, run_id="later")).result(200) == 2
    assert wakes[1] == pytest.approx(90, abs=1)
    assert await (await client.start(Until, now - 90, run_id="past")).result(200) == 2
    assert wakes[3] - wakes[2] < 1
    for run_id in ("later", "past"):
        await here.check_completed(run_id)


async def test_a_paused_run_accepts_signals_and_goes_on_with_them_when_it_is_resumed(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    await held(here, "run")
    await handle.pause()
    assert await handle.signal(APPROVAL, True)
    await asyncio.sleep(10)
    assert await handle.status() is RunStatus.PAUSED
    await handle.resume()
    assert await handle.result(60) == "a: True"
    await here.check_completed("run")


async def test_a_run_that_is_over_unknown_or_deleted_refuses_signals(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    await held(here, "run")
    await handle.cancel()
    with pytest.raises(InvalidRunStateError, match="Cannot signal run 'run': it is cancelled"):
        await handle.signal(APPROVAL, True)
    with pytest.raises(RunNotFoundError):
        await client.signal("nobody", APPROVAL, True)
    await handle.delete()
    with pytest.raises(RunDeletedError):
        await handle.signal(APPROVAL, True)
    assert here.store.leftovers("in:run") == {}


async def test_a_workflow_that_says_what_it_takes_refuses_what_it_does_not(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    client = here.client()
    handle = await client.start(Asking, "a", run_id="run")
    with pytest.raises(UnknownSignalError, match="takes no signal 'vote': it takes approval, note"):
        await handle.signal(VOTE, 1)
    with pytest.raises(PayloadMismatchError):
        await handle.signal(Signal("approval", int), 1)
    with pytest.raises(CodecError):
        await handle.signal(APPROVAL, "yes")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def test_a_mailbox_that_nobody_reads_is_full_some_day(cluster: MakeCluster) -> None:
    here = cluster(Voting, limits=Limits(mailbox=2))
    client = here.client()
    handle = await client.start(Voting, 3, run_id="run")
    for vote in range(2):
        await handle.signal(VOTE, vote)
    with pytest.raises(MailboxFullError, match="2 signals that no step has received"):
        await handle.signal(VOTE, 2)
    await here.start_worker()
    await held(here, "run")
    await handle.signal(VOTE, 2)
    assert await handle.result(60) == [0, 1, 2]


async def test_a_node_that_cannot_hold_is_told_why_it_receives_nothing(cluster: MakeCluster) -> None:
    @node
    async def rash(ctx: WorkflowCtx[Any], order: str) -> str:
        return str(ctx.received(APPROVAL))

    class Rash(Workflow[str, str]):
        start = rash

    here = cluster(Rash)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Rash, "a", run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    (error,) = await client.errors("run")
    assert error.error_type.endswith(DefinitionError.__name__)
    assert "Annotate what it returns with `| Hold`" in error.message


async def test_signals_to_many_runs_are_reported_one_by_one(cluster: MakeCluster) -> None:
    here = cluster(Asking)
    await here.start_worker()
    client = here.client()
    handles = [await client.start(Asking, str(n), run_id=f"run-{n}") for n in range(20)]
    for n in range(20):
        await held(here, f"run-{n}")
    await handles[3].cancel()
    values = {handle.run_id: True for handle in handles} | {"nobody": True}
    report = await client.signal_many(APPROVAL, values, signal_id="all")
    assert (report.accepted, report.repeated, sorted(report.failures)) == (19, 0, ["nobody", "run-3"])
    assert isinstance(report.failures["run-3"], InvalidRunStateError)
    for n in range(20):
        if n != 3:
            assert await handles[n].result(60) == f"{n}: True"


async def test_a_signal_sent_again_to_many_runs_changes_nothing(cluster: MakeCluster) -> None:
    here = cluster(Voting)
    client = here.client()
    for n in range(3):
        await client.start(Voting, 2, run_id=f"run-{n}")
    values = {f"run-{n}": n for n in range(3)}
    first = await client.signal_many(VOTE, dict(list(values.items())[:2]), signal_id="all")
    second = await client.signal_many(VOTE, values, signal_id="all")
    assert (first.accepted, second.accepted, second.repeated) == (2, 1, 2)


async def test_a_failed_run_that_is_resumed_waits_anew_and_gets_its_value_once(cluster: MakeCluster) -> None:
    """While one branch waits for a signal, another one fails the run: the waiting item is put on its way again."""
    broken = [True]

    @node
    async def split(ctx: WorkflowCtx[Any], size: int) -> NextAll[int]:
        return NextAll(range(size))

    @node
    async def work(ctx: WorkflowCtx[Any], number: int) -> int | Hold:
        if number == 0:
            vote = ctx.received(VOTE)
            return Hold(until=VOTE, timeout=3600) if vote is None else vote
        if broken[0]:
            await asyncio.sleep(5)
            raise ValueError("broken")
        return number

    @node
    async def join(ctx: WorkflowCtx[Any], votes: list[int]) -> list[int]:
        return votes

    class Both(Workflow[int, list[int]]):
        start = split
        edges = (split >> work >> gather(join),)

    here = cluster(Both)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Both, 2, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    with pytest.raises(InvalidRunStateError):
        await handle.signal(VOTE, 7)
    broken[0] = False
    await handle.resume()
    await held(here, "run")
    assert len(await here.store.entries(signal_keys.waits_of(RunId("run")))) == 1
    await handle.signal(VOTE, 7)
    assert await handle.result(60) == [7, 1]
    await here.check_completed("run")


@dataclass
class Verdict:
    """What somebody decided."""

    by: str
    is_fine: bool


async def test_a_value_may_be_of_a_class_and_its_receiver_gets_one(cluster: MakeCluster) -> None:
    verdict = Signal("verdict", Verdict)

    @node
    async def wait(ctx: WorkflowCtx[Any], order: str) -> Verdict | Hold:
        return ctx.received(verdict) or Hold(until=verdict)

    class Deciding(Workflow[str, Verdict]):
        start = wait

    here = cluster(Deciding)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Deciding, "a", run_id="run")
    await handle.signal(verdict, Verdict("ann", is_fine=True))
    assert await handle.result(60) == Verdict("ann", is_fine=True)


async def test_a_node_is_tested_with_signals_at_hand() -> None:
    assert isinstance(await ask(WorkflowCtx.for_test(), "a"), Hold)
    assert await ask(WorkflowCtx.for_test(signals=[(NOTE, "x"), (APPROVAL, True)]), "a") == "a: True"
    assert await ask(WorkflowCtx.for_test(timed_out=True), "a") == "a: late"


def test_what_does_not_go_together_in_a_hold_is_refused() -> None:
    hold: Any = Hold
    refused: list[Callable[[], object]] = [
        lambda: hold(for_=1, until=APPROVAL),
        lambda: hold(timeout=1),
        lambda: hold(until="approval"),
        lambda: Hold(until=APPROVAL, timeout=-1),
        lambda: Hold(until_time=datetime(2030, 1, 1)),  # noqa: DTZ001 - that is the point
    ]
    for make in refused:
        with pytest.raises(DefinitionError, match="Hold"):
            make()


@pytest.mark.parametrize(("name", "kind"), [("", bool), ("a b", bool), ("a/b", int), ("x" * 101, int), ("ok", None)])
def test_what_cannot_be_a_signal_is_refused(name: str, kind: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Signal|signal"):
        Signal(name, kind)


def test_a_timeout_of_a_hold_says_which_node() -> None:
    assert "'ask'" in str(HoldTimeoutError(node="ask"))


async def test_a_node_sends_other_runs_signals_exactly_if_its_step_goes_on(cluster: MakeCluster) -> None:
    @node(retry=RetryPolicy(max_attempts=3, initial_backoff=1))
    async def tell(ctx: WorkflowCtx[Any], votes: int) -> int:
        for vote in range(votes):
            ctx.signal("voting", VOTE, vote)
        ctx.signal("nobody", VOTE, 1)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return votes

    class Telling(Workflow[int, int]):
        start = tell

    here = cluster(Telling, Voting)
    await here.start_worker()
    client = here.client()
    voting = await client.start(Voting, 5, run_id="voting")
    telling = await client.start(Telling, 5, run_id="telling")
    assert await telling.result(60) == 5
    assert await voting.result(60) == [0, 1, 2, 3, 4]
    for run_id in ("voting", "telling"):
        await here.check_completed(run_id)
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual; that to nobody waits for a while
        await asyncio.sleep(1)


async def test_what_a_node_sends_is_seen_in_its_test_and_of_the_right_type() -> None:
    ctx = WorkflowCtx.for_test()
    ctx.signal("other", VOTE, 3)
    assert [(run_id, signal.name, value) for run_id, signal, value in ctx.signals_sent] == [("other", "vote", 3)]
    with pytest.raises(CodecError):
        ctx.signal("other", VOTE, "three")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def test_an_exported_run_goes_on_elsewhere_with_its_mailbox_and_with_who_waits(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    here, there = cluster(Voting), cluster(Voting)
    await here.start_worker()
    client, other = here.client(), there.client()
    waiting = await client.start(Voting, 2, run_id="waiting")
    await held(here, "waiting")
    await waiting.pause()
    early = await client.start(Voting, 2, run_id="early")
    await early.pause()
    await early.signal(VOTE, 1, signal_id="one")
    for run_id in ("waiting", "early"):
        await client.export_run(run_id, tmp_path / run_id)
        await import_run(there, tmp_path / run_id)
    assert there.store.leftovers("in:") == {
        name: entries for name, entries in here.store.leftovers("in:").items() if entries
    }
    await there.start_worker()
    for run_id in ("waiting", "early"):
        await other.resume(run_id)
    assert not await other.signal("early", VOTE, 1, signal_id="one")
    await other.signal("early", VOTE, 2)
    for vote in (3, 4):
        await other.signal("waiting", VOTE, vote)
    assert await other.handle(Voting, "early").result(60) == [1, 2]
    assert await other.handle(Voting, "waiting").result(60) == [3, 4]


async def test_a_deleted_run_leaves_nothing_of_its_mailbox(cluster: MakeCluster) -> None:
    here = cluster(Voting)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Voting, 1, run_id="run")
    await held(here, "run")
    await handle.cancel()
    early = await client.start(Voting, 9, run_id="early", delay=60)
    await early.signal(VOTE, 1)
    await early.cancel()
    for run_id in ("run", "early"):
        await client.delete(run_id)
        assert here.store.leftovers(f"in:{run_id}") == {}
        partition = [key for slot in here.store._slots.values() for key in slot.cells if key.partition == run_id]
        assert partition == [keys.tombstone(RunId(run_id))]
