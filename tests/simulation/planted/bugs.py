"""Ways in which this engine could be wrong, each as a switch that makes it so.

They are the mistakes that engines of this kind are known for. The simulation must notice every one of them by what it
checks of any run: a bug that is planted and not found means that the simulation is too weak.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from floxide_amqp.core import changes as c
from floxide_amqp.core import dead_letter_moves, decide, kin_letters, moves, plan, publish_moves, signal_moves, sweeping
from floxide_amqp.core.commit_conditions import ContextLengthIs, EpochIs, ScopeIsOpen, TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import WorkItemId, slot_of
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.limits import LimitChange
from floxide_amqp.core.place_changes import EnterOwner, SetTimer
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.reducers import Sum, Union
from floxide_amqp.core.signal_changes import MailboxIs, MailIsThere, SignalIsNew, WaitersAre
from floxide_amqp.core.task_queues import queue_named
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.ports.key_value import Committed, Outcome, Read
from floxide_amqp.runtime import (
    admission,
    admission_reads,
    engine_steps,
    frontier,
    left_items,
    lost_messages,
    publishing,
    schedule_firing,
    settlement,
    upgrading,
)
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.limit_letters import ReleaseKeys
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import Retention
from floxide_amqp.runtime.settlement import Settlement
from floxide_amqp.runtime.source_intake import SourceIntake
from floxide_amqp.stores import keys, limit_keys, rate_keys, writes
from floxide_amqp.stores.removal import RunRemoval
from floxide_amqp.stores.writes import BatchWriter
from floxide_amqp.testing.simulation import Plan, Planned
from floxide_amqp.testing.simulation.starters import Starters, draw_starters, in_every_story

Patch = pytest.MonkeyPatch
Draw = Callable[[random.Random], Starters | None]
with_a_source: Draw = in_every_story("queue")
with_a_schedule: Draw = in_every_story("schedule")


def as_drawn(plan: Plan) -> Plan:
    """Whatever may happen."""
    return plan


def many_controls(plan: Plan) -> Plan:
    """More pauses, resumes and cancels than usual."""
    return replace(plan, steering=12, may_cancel=True, seconds=max(plan.seconds, 2.0))


def hand_to_hand(plan: Plan) -> Plan:
    """Three workers that hand every step on."""
    settings = plan.settings
    limits = replace(settings.limits, chain_steps=1, cached_runs=1_000)
    return replace(plan, workers=3, settings=replace(settings, limits=limits))


def many_deaths(plan: Plan) -> Plan:
    """Workers that go on with long chains, and die between a commit and what follows from it."""
    settings = plan.settings
    limits = replace(settings.limits, chain_steps=1_000)
    deaths = (Planned(at, "crash at call") for at in (0.0, 0.02, 0.1, 0.5))
    faults = sorted((*plan.faults, *deaths), key=lambda planned: planned.at)
    return replace(plan, faults=tuple(faults), settings=replace(settings, limits=limits))


def soon_deleted(plan: Plan) -> Plan:
    """Runs that are deleted as soon as they have ended."""
    retention = Retention(completed=0, cancelled=0)
    return replace(plan, runs=3, settings=replace(plan.settings, retention=retention))


def only_bad_messages(plan: Plan) -> Plan:
    """Messages that no queue takes, and nothing that hinders a process to note it."""
    faults = tuple(Planned(at, "bad messages") for at in (0.0, 0.05, 0.2, 0.5, 1.0))
    return replace(plan, faults=faults, client_deaths=0, skews_ms=(0,))


@dataclass(frozen=True)
class Bug:
    """A planted bug.

    Attributes:
        name: What it is called.
        plant: Puts it in, until the patch is undone.
        within: How many seeds find it.
        change: What happens more often than usual, so that few seeds are enough. It changes the plan and no check.
        draw: What starts runs by itself, for the same reason.
    """

    name: str
    plant: Callable[[Patch], None]
    within: int = 30
    change: Callable[[Plan], Plan] = as_drawn
    draw: Draw = draw_starters


def always_raised(plan: Plan) -> Plan:
    """In each story workers of another version come, which raise the runs to theirs."""
    return replace(plan, rolling=VersionPolicy.AUTO_UPGRADE)


def raised_in_silence(patch: Patch) -> None:
    """A run gets a newer version, and its state is not written: what older workers do is committed all the same."""
    raised = upgrading.raise_version

    def in_silence(*given: Any, **more: Any) -> Decision:
        decision = raised(*given, **more)
        kept = tuple(change for change in decision.changes if not isinstance(change, c.PutRun))
        return replace(decision, changes=kept, epoch_after=(decision.epoch_after or 1) - 1)

    patch.setattr(upgrading, "raise_version", in_silence)


def ack_before_commit(patch: Patch) -> None:
    """The message is taken off its queue when the node has run, before what it did is committed."""
    settle = Settlement.settle

    async def too_soon(self: Any, admitted: Any, performed: Any) -> Any:
        await self._anchorage.acknowledge()
        return await settle(self, admitted, performed)

    patch.setattr(Settlement, "settle", too_soon)


def publish_before_commit(patch: Patch) -> None:
    """Successors are published first, and committed afterwards."""
    commit, publish = Services.commit, settlement.publish
    sent: set[tuple[WorkItemId, int]] = set()

    async def commit_afterwards(self: Services, writer: BatchWriter, decision: Decision) -> Outcome:
        run = await self.runs.find(writer.run_id) if decision.effects.publish else None
        if run is not None:
            sent.update((out.item.item_id, out.turn) for out in decision.effects.publish)
            await publish(self, run.header, decision.effects.publish)
        return await commit(self, writer, decision)

    async def publish_the_rest(services: Any, header: Any, outgoing: Any, **position: Any) -> None:
        rest = [out for out in outgoing if (out.item.item_id, out.turn) not in sent]
        await publish(services, header, rest, **position)

    patch.setattr(Services, "commit", commit_afterwards)
    patch.setattr(settlement, "publish", publish_the_rest)


def no_turn_check(patch: Patch) -> None:
    """A commit does not ask whether somebody else has moved the item since."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, TurnIs))


def lost_timer(patch: Patch) -> None:
    """Retries and holds are timed in the worker's memory only."""
    kept = (TimerKind.RETRY, TimerKind.HOLD)
    _write_without(patch, changes=lambda change: isinstance(change, SetTimer) and change.timer.kind in kept)


def join_after_its_commit(patch: Patch) -> None:
    """That a scope is at zero is seen after the commit that brought it there, and acted on in a second one."""
    commit = Services.commit

    async def in_two(self: Services, writer: BatchWriter, decision: Decision) -> Outcome:
        (when,) = [change for change in decision.changes if isinstance(change, c.WhenScope)] or [None]
        if when is None:
            return await commit(self, writer, decision)
        first = tuple(change for change in decision.changes if change is not when)
        outcome = await commit(self, writer, replace(decision, changes=first))
        if not isinstance(outcome, Committed):
            return outcome
        counter = keys.scope_count(writer.run_id, when.scope)
        (left,) = (await self.session.read(Read(slot=slot_of(writer.run_id), counters=(counter,)))).counters
        second = await self.session.commit(writer.batch((), when.then if left == when.equals else when.otherwise))
        counters = second.counters if isinstance(second, Committed) else {}
        return replace(outcome, counters={**outcome.counters, **counters, counter: left})

    patch.setattr(Services, "commit", in_two)


def no_epoch_check(patch: Patch) -> None:
    """A commit does not ask whether the run was cancelled or paused since."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, EpochIs) and condition.epoch > 0)


def no_scope_check(patch: Patch) -> None:
    """A commit does not ask whether the fan-out around it was closed since."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, ScopeIsOpen))


def joins_out_of_order(patch: Patch) -> None:
    """Joins that wait for what cannot come are resolved all at once, also those that depend on others."""
    patch.setattr(engine_steps, "_level", lambda graph, instance: 0)


def join_that_nobody_awaits(patch: Patch) -> None:
    """The first value that reaches a join does not note that the join waits for more."""
    write = BatchWriter.writes

    def unnoted(self: BatchWriter, changes: Iterable[Any], *token: bytes) -> Any:
        return write(self, _left(changes, lambda change: isinstance(change, c.AwaitJoin)), *token)

    patch.setattr(BatchWriter, "writes", unnoted)


def rest_left_behind(patch: Patch) -> None:
    """What is left in a fan-out that was closed is cancelled only as far as it had begun when it was."""
    read = left_items.read_left

    async def some(services: Services, admitted: Any) -> Any:
        swept = await read(services, admitted)
        return replace(swept, left=swept.left[: len(swept.left) // 2])

    patch.setattr(engine_steps, "read_left", some)


def early_ack_without_owner_entry(patch: Patch) -> None:
    """A long step's message is acknowledged, and nothing in the store leads to the step instead."""
    anchor = moves.anchor

    def without_owner(*facts: Any) -> Decision:
        decision = anchor(*facts)
        return replace(decision, changes=_left(decision.changes, lambda change: isinstance(change, EnterOwner)))

    patch.setattr(moves, "anchor", without_owner)


def random_ids(patch: Patch) -> None:
    """Items are called by chance, not by what they follow from."""
    chance = random.Random(7)
    patch.setattr(plan, "derive_item_id", lambda *_: WorkItemId(chance.randbytes(16).hex()))


def swallowed_publish_error(patch: Patch) -> None:
    """That no queue took a message, or nobody knows whether one did, is not noted."""

    async def swallow(*_: Any) -> None:
        """Nothing is done."""

    patch.setattr(publishing, "_defer", swallow)


def context_overwritten(patch: Patch) -> None:
    """A step writes the state it saw and changed, instead of what it did to it."""
    for reducer in (Sum, Union):
        patch.setattr(reducer, "diff", lambda self, before, after: after if after != before else None)
        patch.setattr(reducer, "merge", lambda self, base, delta: delta)


def stale_context_cache(patch: Patch) -> None:
    """A context that a worker remembers is taken for the present one when a message comes."""
    bring_up = admission_reads.bring_up

    async def only_once(services: Any, run: CachedRun, tail: Any) -> Any:
        return None if run.is_loaded else await bring_up(services, run, tail)

    patch.setattr(admission_reads, "bring_up", only_once)


def walk_stops_at_the_first(patch: Patch) -> None:
    """A repeated delivery whose item is completed is taken for done, whatever its worker went on with."""

    async def no_further(items: Any, run_id: Any, stored: Any, **_: Any) -> Any:
        return None if stored is None or stored.item.status in frontier.ENDED else stored

    patch.setattr(admission, "find_frontier", no_further)
    patch.setattr(lost_messages, "find_frontier", no_further)


def hold_without_check(patch: Patch) -> None:
    """An item that waits for its siblings is put to sleep although one of them has just written what it waits for."""
    hold = decide._hold

    def unchecked(*facts: Any) -> Decision:
        decision = hold(*facts)
        return replace(decision, conditions=_left(decision.conditions, lambda it: isinstance(it, ContextLengthIs)))

    patch.setattr(decide, "_hold", unchecked)


def wait_without_check(patch: Patch) -> None:
    """An item is put to sleep until a signal comes, although one has come since its body looked."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, MailboxIs))


def kept_without_check(patch: Patch) -> None:
    """A signal that found nobody waiting is kept, although an item has begun to wait meanwhile."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, WaitersAre))


def taken_without_check(patch: Patch) -> None:
    """A step takes a value without asking whether another one has taken it since."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, MailIsThere))


def accepted_twice(patch: Patch) -> None:
    """A signal that is sent again is accepted again."""
    _write_without(patch, conditions=lambda condition: isinstance(condition, SignalIsNew))


def given_to_the_closed(patch: Patch) -> None:
    """A signal is given to an item of a fan-out that is closed already, which is cancelled with it."""
    woken = signal_moves._woken

    def unchecked(*facts: Any, **more: Any) -> Decision:
        decision = woken(*facts, **more)
        return replace(decision, conditions=_left(decision.conditions, lambda it: isinstance(it, ScopeIsOpen)))

    patch.setattr(signal_moves, "_woken", unchecked)


def lost_with_its_item(patch: Patch) -> None:
    """A value whose item is cancelled with its fan-out is gone, although somebody else waits for one."""
    patch.setattr(sweeping, "leave_behind", lambda *_: ([], []))


def deleted_in_part(patch: Patch) -> None:
    """What arrived at the joins of a deleted run stays in the store."""

    async def nothing(*_: Any) -> tuple[()]:
        return ()

    patch.setattr(RunRemoval, "_arrivals_page", nothing)


def deleted_id_is_free(patch: Patch) -> None:
    """A run that was deleted leaves nothing that says so, and whoever asks for it again starts it again."""
    clear = RunRemoval.clear

    async def clear_and_forget(self: RunRemoval, tombstone: Any, version: int, *, free_at_ms: int) -> bool:
        is_over = await clear(self, tombstone, version, free_at_ms=free_at_ms)
        if is_over:
            await self.forget(tombstone.run_id, free_at_ms, version + 1)
        return is_over

    patch.setattr(RunRemoval, "clear", clear_and_forget)


def kept_without_a_letter(patch: Patch) -> None:
    """An item whose message the broker gives up again and again is set aside, and nobody is told."""
    keep = dead_letter_moves.keep

    def in_silence(*facts: Any) -> Decision:
        decision = keep(*facts)
        return replace(decision, changes=_left(decision.changes, lambda change: isinstance(change, c.PutDeadLetter)))

    patch.setattr(dead_letter_moves, "keep", in_silence)


def letter_in_memory(patch: Patch) -> None:
    """That a child has ended its parent is told from the memory of the worker that ended it, not by a letter."""
    write = writes.letter_writes

    def in_memory(letter: Letter) -> Any:
        return () if letter.kind == kin_letters.ENDED else write(letter)

    patch.setattr(writes, "letter_writes", in_memory)


def many_letters(plan: Plan) -> Plan:
    """A broker that gives up whatever it is given, and workers that set an item aside at its second letter."""
    settings = plan.settings
    settings = replace(settings, limits=replace(settings.limits, dead_letters=1))
    faults = tuple(Planned(at, "dead letters") for at in (0.0, 0.5, 1.0))
    return replace(plan, faults=faults, seconds=15.0, settings=settings)


def held_for_a_server(patch: Patch) -> None:
    """A worker keeps the messages of a server that is out of reach, until its hands are full of them."""
    patch.setattr(Services, "is_out_of_reach", lambda *_: False)


def one_clock_for_all(patch: Patch) -> None:
    """What is about a run is written by the clock of whichever server is ahead, and compared with that of its own."""
    patch.setattr(Services, "now_ms", lambda self, *_: self.session.now_ms())


def over_three_servers(plan: Plan) -> Plan:
    """A store of three servers, and few hands."""
    settings = replace(plan.settings, limits=replace(plan.settings.limits, concurrency=1))
    return replace(plan, servers=("a1", "b2", "c3"), runs=3, workers=1, settings=settings)


def clocks_apart(plan: Plan) -> Plan:
    """A store of three servers, whose clocks go apart, and messages that are lost."""
    faults = (Planned(0.0, "store clock"), Planned(0.05, "purge"), Planned(0.3, "broker wiped"))
    return replace(plan, servers=("a1", "b2", "c3"), runs=3, faults=faults, seconds=6.0)


def keys_kept(patch: Patch) -> None:
    """A run that ends with steps at work, or in line, does not give back their concurrency keys, and nobody asks."""

    async def nothing(*_given: Any) -> bool:
        return True

    patch.setattr(ReleaseKeys, "deliver", nothing)
    patch.setattr(limit_keys, "ask_again", lambda state, *_: LimitChange(state=state))


def same_instants(patch: Patch) -> None:
    """Two workers reserve the same instants of a rate limit, as neither looks whether the other did."""
    patch.setattr(rate_keys, "unchanged", lambda *_: ())


def rated(plan: Plan) -> Plan:
    """Many runs at once on three workers."""
    return replace(hand_to_hand(plan), runs=8)


def without_labels(patch: Patch) -> None:
    """A message that is published again goes to the queue that its node names, and whoever gets it runs it."""
    real = publish_moves.republish

    def forgetful(item: WorkItem, *facts: Any, **more: Any) -> Decision:
        return real(replace(item, queue=queue_named(item.queue)), *facts, **more)

    def anything(self: Any, services: Any, deaths: Any, limit_of: Any, queues: Any = ()) -> None:
        del queues
        made(self, services, deaths, limit_of)

    made = admission.Admissions.__init__
    patch.setattr(admission.Admissions, "__init__", anything)
    patch.setattr(publish_moves, "republish", forgetful)


def labelled(plan: Plan) -> Plan:
    """Workers of which some lack what nodes ask for, on a broker that loses what it has."""
    wipes = tuple(Planned(each, "broker wiped") for each in (0.2, 0.5, 1.0, 2.0))
    drawn = hand_to_hand(plan)
    return replace(drawn, runs=6, is_labelled=True, faults=(*plan.faults, *wipes), seconds=max(plan.seconds, 6.0))


def acknowledged_too_soon(patch: Patch) -> None:
    """A message of a source is taken off its queue, and then its run is recorded."""
    record = SourceIntake.record

    async def too_soon(self: Any, deliveries: Any) -> Any:
        for delivery in deliveries:
            await delivery.acknowledge()
        return await record(self, deliveries)

    patch.setattr(SourceIntake, "record", too_soon)


def advanced_before_start(patch: Patch) -> None:
    """A schedule goes on to its next occurrence, and what is to be started is remembered by its leader alone."""
    write = schedule_firing.write_schedule

    async def advanced(services: Any, spec: Any, state: Any, before: Any, now_ms: int, **options: Any) -> Any:
        written = await write(services, spec, replace(state, starting=()), before, now_ms, **options)
        for planned in state.starting if written is not None else ():
            await schedule_firing.start_planned(services.whole, spec, planned)
        return written

    patch.setattr(schedule_firing, "write_schedule", advanced)


BUGS = (
    Bug("ack before commit", ack_before_commit),
    Bug("publish before commit", publish_before_commit),
    Bug("no turn check", no_turn_check, within=60),
    Bug("lost timer", lost_timer),
    Bug("join acted on after its commit", join_after_its_commit, within=60),
    Bug("no epoch check", no_epoch_check, within=60, change=many_controls),
    Bug("no scope check", no_scope_check, within=120, change=hand_to_hand),
    Bug("joins resolved out of order", joins_out_of_order, within=120),
    Bug("join that nobody awaits", join_that_nobody_awaits, within=60),
    Bug("rest of a closed fan-out left behind", rest_left_behind, within=60),
    Bug("early ack without owner entry", early_ack_without_owner_entry),
    Bug("random ids", random_ids),
    Bug("swallowed publish error", swallowed_publish_error, change=only_bad_messages),
    Bug("context overwritten", context_overwritten),
    Bug("stale context cache", stale_context_cache, within=60, change=hand_to_hand),
    Bug("walk that stops at the first completed item", walk_stops_at_the_first, within=60, change=many_deaths),
    Bug("hold without mailbox check", hold_without_check, within=60),
    Bug("wait for a signal without mailbox check", wait_without_check, change=hand_to_hand),
    Bug("signal kept without asking who waits", kept_without_check, change=hand_to_hand),
    Bug("value taken without asking who has it", taken_without_check, within=60, change=hand_to_hand),
    Bug("signal accepted twice", accepted_twice, change=hand_to_hand, within=70),
    Bug("set aside without a letter", kept_without_a_letter, change=many_letters),
    Bug("letter in memory only", letter_in_memory, within=60),
    Bug("concurrency keys kept by a run that is cancelled", keys_kept, change=many_controls),
    Bug("labels forgotten by messages that are published again", without_labels, change=labelled),
    Bug("instants of a rate limit given twice", same_instants, within=60, change=rated),
    Bug("messages held for a server that is away", held_for_a_server, within=60, change=over_three_servers),
    Bug("one clock for all servers", one_clock_for_all, change=clocks_apart),
    Bug("run raised to a version with its epoch as it was", raised_in_silence, change=always_raised),
    Bug("deleted in part", deleted_in_part, change=soon_deleted),
    Bug("id of a deleted run is free at once", deleted_id_is_free, change=soon_deleted),
    Bug("message of a source acknowledged too soon", acknowledged_too_soon, draw=with_a_source),
    Bug(
        "schedule advanced before its run is started",
        advanced_before_start,
        within=60,
        change=many_deaths,
        draw=with_a_schedule,
    ),
)


def _write_without(
    patch: Patch,
    *,
    conditions: Callable[[Any], bool] = lambda condition: False,
    changes: Callable[[Any], bool] = lambda change: False,
) -> None:
    batch = BatchWriter.batch

    def less(self: BatchWriter, checked: Iterable[Any], written: Iterable[Any], **options: Any) -> Any:
        return batch(self, _left(checked, conditions), _left(written, changes), **options)

    patch.setattr(BatchWriter, "batch", less)


def _left(all_of_them: Iterable[Any], are_left_out: Callable[[Any], bool]) -> tuple[Any, ...]:
    return tuple(each for each in all_of_them if not are_left_out(each))
