"""Undoing: what a compensation receives, what it is called in a graph, and how its run is unwound.

A step whose node has a compensation is noted as *begun* before its body may run, and when it ends it goes to the end of
a log of the run. A run that fails or is cancelled and has such steps becomes *compensating*: those that have begun and
not ended are undone first, then those of the log from its end on. One compensation runs at a time, as an item of its
own, with retries; when none is left the run ends as it would have.

Invariants:

* `to_undo` counts the steps that began and are not undone. The commit that brings it to zero ends the run.
* While a run is compensating, a compensation is live or a timer leads to the next, never both and never neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, cast, get_args, get_origin

from typing_extensions import TypeVar

from floxide_amqp.core.bodies import LATER_MS
from floxide_amqp.core.changes import Change, Count, PutItem, PutRun, WhenCount
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Decision, Effects, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId, derive_item_id
from floxide_amqp.core.log_changes import AppendCompensable
from floxide_amqp.core.place_changes import DropTimer, EnterBegun, EnterMessage, LeaveBegun, SetTimer
from floxide_amqp.core.records import OF_THE_ENGINE, Compensable, InputKind, ItemInput, RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

if TYPE_CHECKING:
    from floxide_amqp.core.graph import Graph, GraphNode

I_co = TypeVar("I_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)

MARK: Final = "#"
"""Between the names of a node and of its compensation, in the name of the graph's node that undoes; in no other."""

HOOK: Final = WorkItemId("!cancel")
"""What stands for the item that is undone, where the node of a cancelled run is to run first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Generic[I_co, O_co]):
    """What a compensation receives: the step it is to undo.

    Attributes:
        input: What the step took.
        output: What it returned; None also where it is not known whether and how it ended: it may have been
            interrupted, have failed, or have died at any point. Then undo what may be there, or nothing.
        is_completed: Whether it is known to have completed.
        item_id: The step's item.
        idempotency_key: What the step gave to those who must act once, as ``ctx.idempotency_key``.
    """

    input: I_co
    output: O_co | None
    is_completed: bool
    item_id: str
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What the ``on_cancel`` node of a workflow receives.

    Attributes:
        reason: Why the run was cancelled, in the words of whoever did; may be empty.
    """

    reason: str = ""


# --- names and types


def hook_of(graph: Graph) -> Compensable | None:
    """Return what stands for the node that runs first when a run is cancelled; None where there is none."""
    if graph.on_cancel is None:
        return None
    return Compensable(item_id=HOOK, node=graph.on_cancel, queue=graph.nodes[graph.on_cancel].options.queue)


def undoing_name(node: str, compensation: str) -> str:
    """Return the name of the graph's node that undoes another; with no node, of the one for cancelled runs."""
    return f"{node}{MARK}{compensation}"


def is_undoing(node: str) -> bool:
    """Whether a graph's node of this name undoes another, or is the one for cancelled runs."""
    return MARK in node


def undone_by(node: str) -> str:
    """Return which node one that undoes belongs to; empty of the one for cancelled runs."""
    return node.partition(MARK)[0]


def compensated_types(annotation: Any) -> tuple[Any, Any] | None:
    """Return what a compensation says its step takes and returns; None where its input is no `Compensation`."""
    if annotation is Compensation:
        return Any, Any
    if get_origin(annotation) is not Compensation:
        return None
    return cast("tuple[Any, Any]", get_args(annotation))


# --- steps with a compensation


def begin(item: WorkItem, nodes: Mapping[str, GraphNode]) -> tuple[WorkItem, tuple[Change, ...]]:
    """Return an item whose body may run from now on, and the changes that note it where its node has a compensation."""
    node = None if item.input.kind in OF_THE_ENGINE else undoing_node(nodes[item.node])
    if node is None or item.begun:
        return item, ()
    step = Compensable(item_id=item.item_id, node=node, queue=nodes[node].options.queue)
    return replace(item, begun=True), (EnterBegun(step), Count("to_undo", 1))


def complete(item: WorkItem, output: bytes, nodes: Mapping[str, GraphNode]) -> tuple[Change, ...]:
    """Return the changes that note that a step with a compensation has completed."""
    node = undoing_node(nodes[item.node])
    if node is None:
        return ()
    step = Compensable(item_id=item.item_id, node=node, queue=nodes[node].options.queue, output=output)
    counted = () if item.begun else (Count("to_undo", 1),)
    return (LeaveBegun(item.item_id), AppendCompensable(step), *counted)


def end_without_output(item: WorkItem, nodes: Mapping[str, GraphNode]) -> tuple[Change, ...]:
    """Return the changes that note that a step has failed and others go on in its place: its turn to be undone."""
    node = undoing_node(nodes[item.node])
    if node is None or not item.begun:
        return ()
    step = Compensable(item_id=item.item_id, node=node, queue=nodes[node].options.queue)
    return (LeaveBegun(item.item_id), AppendCompensable(step))


def undoing_node(node: GraphNode) -> str | None:
    """Return the name of the graph's node that undoes a node; None where nothing does."""
    compensation = node.options.compensation
    return None if compensation is None else undoing_name(node.name, compensation.name)


# --- the run


def end_or_undo(
    header: RunHeader, run: RunState, ended: RunState, epoch: int, more: Sequence[Change] = ()
) -> tuple[Change, ...]:
    """Return the changes that end a run, or let it undo first what has been done, if there is something.

    Args:
        header: The run's.
        run: Its state until now.
        ended: Its state once it has ended; failed or cancelled.
        epoch: The version of `run`.
        more: What follows in either case.
    """
    undoing = replace(ended, status=RunStatus.COMPENSATING, finished_at_ms=None, ends_as=ended.status)
    begun = (PutRun(undoing, run.status), *more, SetTimer(undo_timer(header.run_id, epoch + 1, ended.updated_at_ms)))
    done: tuple[Change, ...] = (PutRun(ended, run.status), *more)
    if ended.status is RunStatus.CANCELLED:
        done = (WhenCount("hooks", 0, done, begun),)
    return (WhenCount("to_undo", 0, done, begun),)


def undo_timer(run_id: RunId, epoch: int, due_ms: int, after: str = "") -> Timer:
    """Return the timer that brings on what is to be undone next."""
    return Timer(due_ms=due_ms, run_id=run_id, kind=TimerKind.UNDO, turn=epoch, after=WorkItemId(after))


def undo_step(
    header: RunHeader, epoch: int, step: Compensable, number: int, timer: Timer, now_ms: int, publisher: WorkerId
) -> Decision:
    """A compensation becomes an item, in place of the timer that led to it; refused where it is one already."""
    item = WorkItem(
        item_id=undoing_id(header.run_id, step.item_id), node=step.node, queue=header.queue_for(step.queue),
        status=WorkItemStatus.PENDING, parent=step.item_id,
        input=ItemInput(
            kind=InputKind.UNDO, payload=step.output or b"", opener=step.item_id, number=number,
            pages=int(step.output is not None),
        ),
    )  # fmt: skip
    out = Outgoing(item, 1, message_entry(now_ms, item.item_id, 1))
    return Decision(
        conditions=(TurnIs(item.item_id, 0), EpochIs(epoch)),
        changes=(
            PutItem(item, is_listed=True), Count("live", 1), DropTimer(timer),
            EnterMessage(item.queue, out.entry, item.item_id, 1, publisher),
        ),
        effects=Effects(publish=(out,)),
        epoch_after=epoch,
    )  # fmt: skip


def undoing_id(run_id: RunId, item_id: WorkItemId) -> WorkItemId:
    """Return the id of the item that undoes another."""
    return derive_item_id(run_id, item_id, "undo")


def wait_for_body(item: WorkItemId, turn: int, epoch: int, timer: Timer, now_ms: int) -> Decision:
    """The body of what is to be undone next may still run: look again a little later."""
    later = replace(timer, due_ms=now_ms + LATER_MS)
    return Decision(
        conditions=(TurnIs(item, turn), EpochIs(epoch)),
        changes=(DropTimer(timer), SetTimer(later)),
        effects=Effects(timer=later),
        epoch_after=epoch,
    )


def after_undoing(
    header: RunHeader, run: RunState, epoch: int, item: WorkItem, now_ms: int, *, undone: bool
) -> tuple[Change, ...]:
    """Return what follows when a compensation has ended for good: the next one, or with the last the run's end."""
    undone_item = WorkItemId(item.input.opener)
    counts: list[Change] = [Count("live", -1), LeaveBegun(undone_item)]
    if undone_item == HOOK:
        counts.append(Count("hooks", -1))
    else:
        counts += (Count("to_undo", -1), Count("undone" if undone else "undo_failed", 1))
    following: tuple[Change, ...] = (SetTimer(next_timer(header.run_id, epoch, item, now_ms)),)
    done: tuple[Change, ...] = end_undoing(run, now_ms)
    if run.ends_as is RunStatus.CANCELLED:
        done = (WhenCount("hooks", 0, done, following),)
    return (*counts, WhenCount("to_undo", 0, done, following))


def next_timer(run_id: RunId, epoch: int, item: WorkItem, now_ms: int) -> Timer:
    """Return the timer that brings on what is to be undone after this compensation."""
    return undo_timer(run_id, epoch, now_ms, "" if item.input.number < 0 else str(item.input.number))


def end_undoing(run: RunState, now_ms: int) -> tuple[Change, ...]:
    """Return the change that ends a run which has undone what it had to."""
    ended = replace(
        run, status=run.ends_as or RunStatus.FAILED, updated_at_ms=now_ms, finished_at_ms=now_ms, ends_as=None,
        was_undone=True,
    )  # fmt: skip
    return (PutRun(ended, run.status),)
