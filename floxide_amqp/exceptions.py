"""Every error this package raises.

    FloxideError
      DefinitionError           fix your code: a workflow, node, context or payload type is wrong
      ConfigurationError        fix the deployment: a URL, a missing extra, a missing resource, a version
        WorkerNameTakenError  WorkerNameLostError
      WorkerStuckError          a worker gave up: nodes hold what it cannot go on without
      RunError                  about one run
        RunNotFoundError  RunDeletedError  RunConflictError  RunFailedError  RunCancelledError  RunTimeoutError
        ResultTimeoutError  RunStalledError  RunOutputError  NotStartedError  AlreadyCompletedError
        MigrationError  InvalidRunStateError  InvalidRunIdError  UnknownWorkflowError  DeadLetterNotFoundError
        DeadLetterIncompleteError  RunChangedError  RunImportError  SignalConflictError  UnknownSignalError
        MailboxFullError  WorkItemNotFoundError  ForkError  ScheduleNotFoundError  SourceNotFoundError
      NodeError                 raised inside a step
        NodeTimeoutError  HoldTimeoutError  NodeCancelledError  NodeInterruptedError  IterationLimitError
        ResourceNotFoundError  OutcomeUnknownError  PoisonError  DeadLetterError
        UndeclaredTransitionError  UnroutedValueError  ContextChangeError  ChildRunFailedError
        JoinIncompleteError  NodeProcessDiedError  NodeProcessError  ForeignNodeError
      CodecError                bytes or values that cannot be encoded or decoded
        PayloadTooLargeError  PayloadMismatchError  NewerFormatError  UnknownKeyError
        InvalidAttributeError  RunFileError  UndecodableError  UnusableMessageError
      BrokerError
        BrokerUnavailableError  BrokerConnectionLostError  BrokerAccessRefusedError
        TopologyClashError  ConsumerStoppedError
      StoreError
        StoreUnavailableError  CommitOutcomeUnknownError  StoreClosedError  InvalidBatchError
        StoreFullError  StoreReadOnlyError  StoreCorruptError  StoreSchemaError  UnreadableRecordError
        MissingKeyError  StoreAccessRefusedError  StoreDataLostError  ReshardingError

Facts are keyword-only attributes and the class writes the sentence: what failed, with which ids, what to do next.
`retryable` says whether doing the same again later may succeed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar


class FloxideError(Exception):
    """Root of the tree."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)


def _ended(text: str) -> str:
    """Return somebody else's text as the end of a sentence."""
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


class DefinitionError(FloxideError):
    """A workflow, a node, a context or a payload type is defined wrongly; the message names the cure."""


class ConfigurationError(FloxideError):
    """The deployment is wrong: a URL, a missing extra, a missing resource; the message names the cure."""


class WorkerNameTakenError(ConfigurationError):
    """Another worker with this name is alive."""

    worker_id: str
    host: str
    pid: int

    def __init__(self, *, worker_id: str, host: str, pid: int) -> None:
        super().__init__(
            f"A worker named {worker_id!r} is at work already, on host {host!r} as process {pid}: its heartbeat goes "
            "on. Two of one name would take each other's items. Stop that one first, or start this one with another "
            "name; without one, a name is made up.",
            worker_id=worker_id,
            host=host,
            pid=pid,
        )


class WorkerNameLostError(ConfigurationError):
    """Another worker has taken this one's name over while it was silent, or in spite of it."""

    worker_id: str
    host: str
    pid: int

    def __init__(self, *, worker_id: str, host: str, pid: int) -> None:
        super().__init__(
            f"Another worker, on host {host!r} as process {pid}, has taken over the name {worker_id!r} of this one, "
            "which was taken for dead. This one ends; what it had in its hands goes on there. If both were started "
            "on purpose, give each a name of its own.",
            worker_id=worker_id,
            host=host,
            pid=pid,
        )


class WorkerStuckError(FloxideError):
    """A worker has lost so many threads to nodes that do not end that it ended itself."""

    retryable = True

    worker_id: str
    threads: int
    nodes: tuple[str, ...]

    def __init__(self, *, worker_id: str, threads: int, nodes: tuple[str, ...]) -> None:
        super().__init__(
            f"Worker {worker_id!r} has ended itself: {threads} threads are held by nodes that did not end "
            f"({', '.join(nodes) or 'unknown'}). Start it again, and give what those nodes wait for a timeout of its "
            "own: a thread cannot be ended from outside.",
            worker_id=worker_id,
            threads=threads,
            nodes=nodes,
        )


class RunError(FloxideError):
    """Something about one run."""


class RunNotFoundError(RunError):
    """No run with this id is in the store."""

    run_id: str

    def __init__(self, *, run_id: str) -> None:
        super().__init__(
            f"There is no run {run_id!r} in this store. Check the id and the store's URL, or start it.", run_id=run_id
        )


class RunDeletedError(RunNotFoundError):
    """The run was deleted after it had ended: nothing is left of it but that, and its id is not free yet.

    Attributes:
        status: How it ended.
        ended_at, deleted_at: When, aware UTC.
    """

    run_id: str
    status: str
    ended_at: datetime
    deleted_at: datetime

    def __init__(self, *, run_id: str, status: str, ended_at: datetime, deleted_at: datetime) -> None:
        ended = "was cancelled" if status == "cancelled" else status
        RunError.__init__(
            self,
            f"Run {run_id!r} {ended} at {ended_at:%Y-%m-%d %H:%M:%S} UTC and was deleted at "
            f"{deleted_at:%Y-%m-%d %H:%M:%S} UTC, with all that was known of it. Its id is free again after "
            "Retention.tombstone (a week by default); to run the workflow again before, use another run id.",
            run_id=run_id,
            status=status,
            ended_at=ended_at,
            deleted_at=deleted_at,
        )


class RunConflictError(RunError):
    """A run with this id exists, or existed not long ago, and was started with something else."""

    run_id: str
    differs: str
    was_deleted: bool

    def __init__(self, *, run_id: str, differs: str, was_deleted: bool = False) -> None:
        what = "was deleted not long ago" if was_deleted else "exists already"
        super().__init__(
            f"Run {run_id!r} {what} and was started with another {differs}. "
            "Starting is idempotent only for the same workflow, version, input and context: use another run id.",
            run_id=run_id,
            differs=differs,
            was_deleted=was_deleted,
        )


class RunFailedError(RunError):
    """The run failed; the attributes tell where and why.

    Attributes:
        node, item_id: The work item that failed for good.
        error_type, error_message, traceback_text: Its last error; the traceback is text from the worker.
        attempts: How often it was tried.
        was_undone: Whether what the run did has been undone, so that it cannot be resumed.
    """

    run_id: str
    node: str
    item_id: str
    error_type: str
    error_message: str
    traceback_text: str
    attempts: int
    was_undone: bool

    def __init__(
        self,
        *,
        run_id: str,
        node: str,
        item_id: str,
        error_type: str,
        error_message: str,
        traceback_text: str,
        attempts: int,
        was_undone: bool = False,
    ) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        cure = "resume the run: it goes on from there."
        if was_undone:
            cure = "start another run: what this one did has been undone."
        super().__init__(
            f"Run {run_id!r} failed: node {node!r} (item {item_id}) was tried {times} and raised {error_type}: "
            f"{_ended(error_message)} Fix the cause and {cure}",
            run_id=run_id,
            node=node,
            item_id=item_id,
            error_type=error_type,
            error_message=error_message,
            traceback_text=traceback_text,
            attempts=attempts,
            was_undone=was_undone,
        )


class RunCancelledError(RunError):
    """The run was cancelled before it had a result."""

    run_id: str
    reason: str

    def __init__(self, *, run_id: str, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(f"Run {run_id!r} was cancelled{because}; it has no result.", run_id=run_id, reason=reason)


class RunTimeoutError(RunError):
    """The run did not end within its own timeout."""

    run_id: str
    timeout_seconds: float

    def __init__(self, *, run_id: str, timeout_seconds: float) -> None:
        super().__init__(
            f"Run {run_id!r} did not end within its timeout of {timeout_seconds:g} s, and so it failed.",
            run_id=run_id,
            timeout_seconds=timeout_seconds,
        )


class ResultTimeoutError(RunError):
    """The run has not ended within the time the caller was willing to wait; it goes on."""

    retryable = True

    run_id: str
    timeout_seconds: float
    status: str

    def __init__(self, *, run_id: str, timeout_seconds: float, status: str) -> None:
        super().__init__(
            f"Run {run_id!r} has no result after {timeout_seconds:g} s: it is {status}. It goes on; wait for it again.",
            run_id=run_id,
            timeout_seconds=timeout_seconds,
            status=status,
        )


class RunStalledError(RunError):
    """Every item left holds, nothing can wake any of them, and there is no output."""

    run_id: str
    node: str

    def __init__(self, *, run_id: str, node: str) -> None:
        super().__init__(
            f"Run {run_id!r} stalled: every item left is held (the last at node {node!r}), no other item is alive to "
            "change what they wait for, and the run has no output. Make one of the arrivals return Next.",
            run_id=run_id,
            node=node,
        )


class RunOutputError(RunError):
    """The run completed, but not with the one output its workflow declares."""

    run_id: str
    workflow: str
    outputs: int

    def __init__(self, *, run_id: str, workflow: str, outputs: int) -> None:
        super().__init__(
            f"Run {run_id!r} completed with {outputs} outputs, but workflow {workflow!r} declares a single one. "
            "Close the fan-out with gather(...) or declare the workflow's output as list[...].",
            run_id=run_id,
            workflow=workflow,
            outputs=outputs,
        )


class NotStartedError(RunError):
    """`resume` found no checkpoint: the run was never started in this store."""

    run_id: str

    def __init__(self, *, run_id: str) -> None:
        super().__init__(
            f"Run {run_id!r} was never started in this store, so there is nothing to resume. Use run_with_checkpoint.",
            run_id=run_id,
        )


class AlreadyCompletedError(RunError):
    """`resume` found a run that has completed."""

    run_id: str

    def __init__(self, *, run_id: str) -> None:
        super().__init__(
            f"Run {run_id!r} has completed already, so there is nothing to resume. Read its result: "
            "run_with_checkpoint with the same id and input returns it, and `floxide status` shows it.",
            run_id=run_id,
        )


class InvalidRunStateError(RunError):
    """The action does not apply to a run in this status."""

    run_id: str
    action: str
    status: str
    cure: str

    def __init__(self, *, run_id: str, action: str, status: str, cure: str = "") -> None:
        what_next = f" {cure}" if cure else ""
        super().__init__(
            f"Cannot {action} run {run_id!r}: it is {status}.{what_next}",
            run_id=run_id,
            action=action,
            status=status,
            cure=cure,
        )


class MigrationError(RunError):
    """A run cannot be raised to a newer version of its workflow.

    Attributes:
        problem: Why not.
        cure: What to do about it.
    """

    problem: str
    cure: str

    def __init__(self, *, problem: str, cure: str) -> None:
        super().__init__(f"{problem[:1].upper()}{problem[1:]}: {cure}.", problem=problem, cure=cure)


class InvalidRunIdError(RunError):
    """The run id is empty, too long or holds control characters."""

    run_id: str
    limit: int

    def __init__(self, *, run_id: str, limit: int) -> None:
        super().__init__(
            f"{run_id[:60]!r} cannot be a run id: use 1 to {limit} printable characters without colons at the ends.",
            run_id=run_id,
            limit=limit,
        )


class WorkItemNotFoundError(RunError):
    """The run has no such item, or it has ended, or it is the engine's own."""

    run_id: str
    item_id: str

    def __init__(self, *, run_id: str, item_id: str) -> None:
        super().__init__(
            f"Run {run_id!r} has no item {item_id!r} that waits for an output. `floxide items` lists its items.",
            run_id=run_id,
            item_id=item_id,
        )


class ScheduleNotFoundError(RunError):
    """There is no schedule of this name in the store."""

    name: str

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"There is no schedule {name!r} in this store. `floxide schedules list` shows those there are.", name=name
        )


class SourceNotFoundError(RunError):
    """There is no source of this name in the store."""

    name: str

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"There is no source {name!r} in this store: `floxide sources list` shows those there are. A declared one "
            "is there once a worker that runs it has begun.",
            name=name,
        )


class ForkError(RunError):
    """No run can begin at this item of a run; the sentence says why, and what can be done."""

    run_id: str
    item_id: str
    problem: str
    cure: str

    def __init__(self, *, run_id: str, item_id: str, problem: str, cure: str) -> None:
        super().__init__(
            f"Cannot fork run {run_id!r} from item {item_id!r}: {problem}. {cure}",
            run_id=run_id,
            item_id=item_id,
            problem=problem,
            cure=cure,
        )


class UnknownWorkflowError(RunError):
    """This application does not have the workflow."""

    workflow: str
    known: tuple[str, ...]

    def __init__(self, *, workflow: str, known: tuple[str, ...]) -> None:
        have = ", ".join(known) or "none"
        super().__init__(
            f"There is no workflow {workflow!r} here. This application has: {have}. "
            "Add it to Floxide(workflows=[...]).",
            workflow=workflow,
            known=known,
        )


class DeadLetterNotFoundError(RunError):
    """There is no dead letter with this id, or its item has gone on without it."""

    letter_id: str

    def __init__(self, *, letter_id: str) -> None:
        super().__init__(
            f"There is no dead letter {letter_id!r} any more, or there never was one: `floxide dead-letters list` "
            "shows those that are left.",
            letter_id=letter_id,
        )


class DeadLetterIncompleteError(RunError):
    """Only the beginning of a message that nobody could read was kept, so it cannot be published again."""

    letter_id: str
    kept_bytes: int
    size_bytes: int

    def __init__(self, *, letter_id: str, kept_bytes: int, size_bytes: int) -> None:
        super().__init__(
            f"Of message {letter_id!r} only the first {kept_bytes} of {size_bytes} bytes were kept, so it cannot be "
            "published again. Look at it, then drop it.",
            letter_id=letter_id,
            kept_bytes=kept_bytes,
            size_bytes=size_bytes,
        )


class RunChangedError(RunError):
    """A run was worked on while it was exported, each time it was tried; no file was written."""

    run_id: str

    def __init__(self, *, run_id: str) -> None:
        super().__init__(
            f"Run {run_id!r} changed while it was exported: workers still commit steps that were in flight when it was "
            "paused. Wait until they have ended, then repeat.",
            run_id=run_id,
        )


class RunImportError(RunError):
    """A run cannot be put into this store; nothing of it is there."""

    run_id: str
    reason: str
    cure: str

    def __init__(self, *, run_id: str, reason: str, cure: str) -> None:
        super().__init__(
            f"Run {run_id!r} cannot be imported: {reason}. {cure}", run_id=run_id, reason=reason, cure=cure
        )


class SignalConflictError(RunError):
    """The run has accepted another signal under this id."""

    run_id: str
    signal_id: str

    def __init__(self, *, run_id: str, signal_id: str) -> None:
        super().__init__(
            f"Run {run_id!r} has accepted a signal with the id {signal_id!r} already, with another name or value. "
            "Give each signal an id of its own, and repeat one only as it was.",
            run_id=run_id,
            signal_id=signal_id,
        )


class UnknownSignalError(RunError):
    """The run's workflow says which signals it takes, and this is none of them."""

    run_id: str
    workflow: str
    signal: str
    known: tuple[str, ...]

    def __init__(self, *, run_id: str, workflow: str, signal: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"Run {run_id!r} is of workflow {workflow!r}, which takes no signal {signal!r}: it takes "
            f"{', '.join(known) or 'none'}. Send one of these, or add it to the workflow's signals = (...,).",
            run_id=run_id,
            workflow=workflow,
            signal=signal,
            known=known,
        )


class MailboxFullError(RunError):
    """The run has too many values of signals that no step has taken."""

    retryable = True

    run_id: str
    unread: int
    limit: int

    def __init__(self, *, run_id: str, unread: int, limit: int) -> None:
        super().__init__(
            f"Run {run_id!r} has {unread} signals that no step has received, and keeps at most {limit} "
            "(Limits.mailbox). Send more once it has, or make sure that a node receives what is sent.",
            run_id=run_id,
            unread=unread,
            limit=limit,
        )


class NodeError(FloxideError):
    """Something inside one step."""


class NodeTimeoutError(NodeError):
    """The node did not end within its timeout."""

    retryable = True

    node: str
    timeout_seconds: float

    def __init__(self, *, node: str, timeout_seconds: float) -> None:
        super().__init__(
            f"Node {node!r} did not end within its timeout of {timeout_seconds:g} s.",
            node=node,
            timeout_seconds=timeout_seconds,
        )


class ChildRunFailedError(NodeError):
    """The run that a `ChildWorkflow` node has started did not complete; the attributes tell what became of it.

    Attributes:
        node: The node that started it.
        run_id, workflow: The child.
        status: ``failed`` or ``cancelled``.
        failed_node: Where it failed; empty where no node of it did.
        error_type, error_message: Its error; of one that was cancelled, the reason that was given, which may be empty.
    """

    retryable = True

    node: str
    run_id: str
    workflow: str
    status: str
    failed_node: str
    error_type: str
    error_message: str

    def __init__(
        self,
        *,
        node: str,
        run_id: str,
        workflow: str,
        status: str,
        failed_node: str = "",
        error_type: str = "",
        error_message: str = "",
    ) -> None:
        where = f" at node {failed_node!r}" if failed_node else ""
        why = ": ".join(filter(None, (error_type, error_message)))
        because = f" ({why.rstrip('.')})" if why else ""
        super().__init__(
            f"Run {run_id!r} of workflow {workflow!r}, which node {node!r} has started, "
            f"{'was cancelled' if status == 'cancelled' else status}{where}{because}. "
            "The node's retry policy and on_failure edges say what follows.",
            node=node,
            run_id=run_id,
            workflow=workflow,
            status=status,
            failed_node=failed_node,
            error_type=error_type,
            error_message=error_message,
        )


class HoldTimeoutError(NodeError):
    """What the node was held for did not come in time; its ``on_timeout`` edge is taken."""

    node: str

    def __init__(self, *, node: str) -> None:
        super().__init__(f"What node {node!r} was held for did not come within the timeout of its hold.", node=node)


class NodeCancelledError(NodeError):
    """The run of this step was cancelled, paused past its grace or is over: stop and clean up."""

    node: str
    run_id: str

    def __init__(self, *, node: str, run_id: str) -> None:
        super().__init__(f"Run {run_id!r} was cancelled while node {node!r} was at work.", node=node, run_id=run_id)


class NodeInterruptedError(NodeError):
    """The node's code raised an exit (`SystemExit`, `KeyboardInterrupt`, `CancelledError`) that nobody asked for."""

    node: str
    exit_type: str

    def __init__(self, *, node: str, exit_type: str) -> None:
        super().__init__(
            f"Node {node!r} raised {exit_type}, which would have ended the worker; it counts as a failed attempt.",
            node=node,
            exit_type=exit_type,
        )


class NodeProcessDiedError(NodeError):
    """The process in which a node ran died under it; the worker goes on, with a fresh one."""

    retryable = True

    node: str
    pid: int
    how: str

    def __init__(self, *, node: str, pid: int, how: str) -> None:
        super().__init__(
            f"Process {pid}, in which node {node!r} ran, died: {how}. The usual reasons are too little memory, "
            "os._exit, or a crash in native code; the next attempt has a fresh process.",
            node=node,
            pid=pid,
            how=how,
        )


class NodeProcessError(NodeError):
    """A node asked for something that it cannot have in a process of its own, or could not be run in one."""

    node: str
    problem: str
    cure: str

    def __init__(self, *, node: str, problem: str, cure: str) -> None:
        super().__init__(
            f"Node {node!r} has executor='process': {problem}. {cure}", node=node, problem=problem, cure=cure
        )


class ForeignNodeError(NodeError):
    """A node's process raised an error of a class that its worker cannot import."""

    kind: str
    text: str

    def __init__(self, *, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}", kind=kind, text=text)


class IterationLimitError(NodeError):
    """A loop ran as often as its `repeat(..., max_iterations=n)` allows."""

    node: str
    target: str
    limit: int

    def __init__(self, *, node: str, target: str, limit: int) -> None:
        super().__init__(
            f"Node {node!r} asked for another iteration back to {target!r}, but the loop is bounded to {limit}. "
            "Raise max_iterations, or give the node an on_failure edge.",
            node=node,
            target=target,
            limit=limit,
        )


class JoinIncompleteError(NodeError):
    """Something that a join needs did not come, and cannot come any more: its edge was not taken."""

    node: str
    needed: int
    arrived: int
    missing: tuple[str, ...]

    def __init__(self, *, node: str, needed: int, arrived: int, missing: tuple[str, ...]) -> None:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        super().__init__(
            f"Node {node!r} joins {needed} values, and {arrived} came: nothing else is at work that could bring one of "
            f'{shown}. Let the join go on without, with missing="skip", or lead every way to it.',
            node=node,
            needed=needed,
            arrived=arrived,
            missing=missing,
        )


class UndeclaredTransitionError(NodeError):
    """A node returned a transition that its annotation does not name, so the graph was not checked for it."""

    node: str
    transition: str

    def __init__(self, *, node: str, transition: str) -> None:
        example = "NextAll[...]" if transition == "NextAll" else f"... | {transition}"
        super().__init__(
            f"Node {node!r} returned {transition}, which its return annotation does not say. Annotate it as "
            f"-> {example}: the workflow is checked for what its nodes declare.",
            node=node,
            transition=transition,
        )


class UnroutedValueError(NodeError):
    """A node returned a value that none of its edges takes."""

    node: str
    value_type: str
    ways: tuple[str, ...]

    def __init__(self, *, node: str, value_type: str, ways: tuple[str, ...]) -> None:
        super().__init__(
            f"Node {node!r} returned a value of type {value_type}, which none of its edges takes ({', '.join(ways)}). "
            "Return a value of the type the node declares.",
            node=node,
            value_type=value_type,
            ways=ways,
        )


class OutcomeUnknownError(NodeError):
    """A worker died while it ran a node that must run at most once."""

    node: str
    item_id: str

    def __init__(self, *, node: str, item_id: str) -> None:
        super().__init__(
            f"A worker died while it ran node {node!r} (item {item_id}), which must run at most once: whether it took "
            "effect is unknown. Find out, then resume the run to try again, or handle this error with on_failure.",
            node=node,
            item_id=item_id,
        )


class PoisonError(NodeError):
    """Workers died on this item again and again."""

    node: str
    item_id: str
    deaths: int

    def __init__(self, *, node: str, item_id: str, deaths: int) -> None:
        super().__init__(
            f"{deaths} workers died while they ran node {node!r} (item {item_id}), the last one with nothing else at "
            "work; it is not tried any more. "
            "Look for what kills the process (memory, a native crash), then resume the run.",
            node=node,
            item_id=item_id,
            deaths=deaths,
        )


class DeadLetterError(NodeError):
    """Somebody dropped the dead letter of this item: nobody tries to deliver its message any more."""

    node: str
    item_id: str
    reason: str
    count: int

    def __init__(self, *, node: str, item_id: str, reason: str, count: int) -> None:
        times = "once" if count == 1 else f"{count} times in a row"
        super().__init__(
            f"The broker gave up on the message of node {node!r} (item {item_id}) {times} ({reason}), and its dead "
            "letter was dropped. Change what makes the broker drop messages, then resume the run.",
            node=node,
            item_id=item_id,
            reason=reason,
            count=count,
        )


class ResourceNotFoundError(NodeError):
    """The worker's lifespan provides no resource of this type."""

    node: str
    resource: str
    known: tuple[str, ...]

    def __init__(self, *, node: str, resource: str, known: tuple[str, ...]) -> None:
        have = ", ".join(known) or "none"
        super().__init__(
            f"Node {node!r} asked for a resource of type {resource}, but the lifespan provides: {have}. "
            f"Yield it from Floxide(lifespan=...), or pass it: Workflow.run(..., resources={{{resource}: ...}}), in "
            f"tests WorkflowCtx.for_test(resources={{{resource}: ...}}).",
            node=node,
            resource=resource,
            known=known,
        )


class ContextChangeError(NodeError):
    """A node changed its state in a way that cannot be merged with what others wrote; its change is discarded."""

    context: str
    field: str
    problem: str
    cure: str

    def __init__(self, *, context: str, field: str, problem: str, cure: str) -> None:
        super().__init__(
            f"{context}.{field} {problem}. To cure it, {cure}.",
            context=context,
            field=field,
            problem=problem,
            cure=cure,
        )


class CodecError(FloxideError):
    """Bytes or values that cannot be encoded or decoded."""


class NewerFormatError(CodecError):
    """A newer release wrote this, in a way that this release does not know."""

    what: str
    found: str

    def __init__(self, *, what: str, found: str) -> None:
        super().__init__(
            f"This {what} has {found}, which this release of floxide_amqp does not know: a newer one wrote it. "
            "Upgrade this process.",
            what=what,
            found=found,
        )


class UnknownKeyError(CodecError):
    """Something is encrypted with a key that this process does not have."""

    key_id: str
    known: tuple[str, ...]
    what: str

    def __init__(self, *, key_id: str, known: tuple[str, ...] = (), what: str = "It was encrypted") -> None:
        has = f"it has {', '.join(map(repr, known))}" if known else "it has none"
        super().__init__(
            f"{what} with the key {key_id!r}, which this process does not have; {has}. "
            "Give it the key: Encryption(keys={…}), or FLOXIDE_ENCRYPTION_KEYS.",
            key_id=key_id,
            known=known,
            what=what,
        )


class PayloadMismatchError(CodecError):
    """A value, or stored data, is not of the type that was declared."""

    expected: str
    got: str
    problem: str
    where: str

    def __init__(self, *, expected: str, got: str, problem: str = "", is_stored: bool = False, where: str = "") -> None:
        subject = "Stored data was to be read" if is_stored else "A value was to be stored"
        rule = f"{where} must be" if where else f"{subject} as"
        reason = f": {problem}" if problem else ""
        super().__init__(
            f"{rule} {expected}, but it is {got}{reason}.", expected=expected, got=got, problem=problem, where=where
        )

    def at(self, where: str) -> PayloadMismatchError:
        """Return the same error with the place of the value, as the subject of its sentence."""
        return PayloadMismatchError(expected=self.expected, got=self.got, problem=self.problem, where=where)


class UndecodableError(CodecError):
    """What is stored for a step is of no type that this code reads it as: its item is set aside until it is requeued.

    Attributes:
        what: What was to be read.
        problem: Why it cannot be.
    """

    what: str
    problem: str

    def __init__(self, *, what: str, problem: str) -> None:
        super().__init__(
            f"{what} cannot be decoded: {problem} "
            "Deploy code that reads it, or give what changed a new workflow version, then requeue the item.",
            what=what,
            problem=problem,
        )


class PayloadTooLargeError(CodecError):
    """A value is larger than `Limits` allows."""

    what: str
    size_bytes: int
    limit_bytes: int
    limit: str

    def __init__(self, *, what: str, size_bytes: int, limit_bytes: int, limit: str) -> None:
        super().__init__(
            f"{what} has {size_bytes} bytes when encoded, and at most {limit_bytes} are accepted (Limits.{limit}). "
            "Put it where large things belong and pass a reference to it, or raise the limit.",
            what=what,
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
            limit=limit,
        )

    def at(self, what: str) -> PayloadTooLargeError:
        """Return the same error with the place of the value, as the subject of its sentence."""
        return PayloadTooLargeError(
            what=what, size_bytes=self.size_bytes, limit_bytes=self.limit_bytes, limit=self.limit
        )


class InvalidAttributeError(CodecError):
    """A name or a value cannot be an attribute of a run."""

    name: str
    problem: str

    def __init__(self, *, name: str, problem: str) -> None:
        super().__init__(
            f"The run attribute {name!r} cannot be set or looked for: {problem}. "
            "What is larger or has another type belongs into the run's input or context.",
            name=name,
            problem=problem,
        )


class UnusableMessageError(CodecError):
    """No run can be made of a message of a source."""

    problem: str
    cure: str

    def __init__(self, *, problem: str, cure: str) -> None:
        super().__init__(f"{problem}. {cure}.", problem=problem, cure=cure)


class RunFileError(CodecError):
    """A file cannot be written, is no exported run, is damaged, or of a newer release; nothing was imported."""

    path: str
    problem: str
    cure: str
    action: str

    def __init__(
        self, *, path: str, problem: str, cure: str = "Export the run again.", action: str = "imported"
    ) -> None:
        super().__init__(
            f"The file {path} cannot be {action}: {problem}. {cure}",
            path=path,
            problem=problem,
            cure=cure,
            action=action,
        )


class BrokerError(FloxideError):
    """The message broker refused or failed."""


class BrokerUnavailableError(BrokerError):
    """The broker could not be reached, or did not answer in time."""

    retryable = True

    url: str
    operation: str
    reason: str
    cure: str

    def __init__(self, *, url: str, operation: str, reason: str, cure: str = "") -> None:
        super().__init__(
            f"{operation} failed: the broker at {url} is unavailable ({reason}). "
            f"{cure or 'Check that it runs and is reachable, then repeat.'}",
            url=url,
            operation=operation,
            reason=reason,
            cure=cure,
        )


class BrokerConnectionLostError(BrokerError):
    """The connection went away during an operation, whose outcome is therefore unknown."""

    retryable = True

    url: str
    operation: str
    reason: str

    def __init__(self, *, url: str, operation: str, reason: str) -> None:
        super().__init__(
            f"{operation} was interrupted: the connection to {url} was lost ({reason}); it may or may not have taken "
            "effect. The connection heals by itself; repeat.",
            url=url,
            operation=operation,
            reason=reason,
        )


class BrokerAccessRefusedError(BrokerError):
    """The broker knows the user but refuses the operation, or refuses the login."""

    url: str
    operation: str
    reason: str
    cure: str

    def __init__(self, *, url: str, operation: str, reason: str, cure: str = "") -> None:
        super().__init__(
            f"{operation} was refused by the broker at {url}: {_ended(reason)} "
            f"{cure or 'Grant the user the permission named there, or use another user.'}",
            url=url,
            operation=operation,
            reason=reason,
            cure=cure,
        )


class TopologyClashError(BrokerError):
    """An exchange or a queue exists already, declared differently."""

    kind: str
    name: str
    argument: str
    existing: str
    wanted: str

    def __init__(self, *, kind: str, name: str, argument: str, existing: str, wanted: str) -> None:
        super().__init__(
            f"{kind} {name!r} exists with {argument} = {existing}, but {argument} = {wanted} is needed. "
            f"Delete the {kind} (its messages are re-created from the store) or use another namespace.",
            kind=kind,
            name=name,
            argument=argument,
            existing=existing,
            wanted=wanted,
        )


class ConsumerStoppedError(BrokerError):
    """A consumer that was stopped is asked to receive."""

    queues: tuple[str, ...]

    def __init__(self, *, queues: tuple[str, ...]) -> None:
        super().__init__(
            f"The consumer of {', '.join(queues)} was stopped; open another with consume() to receive more.",
            queues=queues,
        )


class StoreError(FloxideError):
    """The store refused or failed; nothing of the call was applied."""


class StoreUnavailableError(StoreError):
    """The store could not be reached or stayed busy; nothing was applied."""

    retryable = True

    store: str
    reason: str
    cure: str

    def __init__(self, *, store: str, reason: str, cure: str = "") -> None:
        super().__init__(
            f"The store {store} is unavailable ({reason}). Nothing was applied; "
            f"{cure or 'check that it runs and is reachable, then repeat.'}",
            store=store,
            reason=reason,
            cure=cure,
        )


class CommitOutcomeUnknownError(StoreError):
    """A commit was sent and its reply lost: each batch of the group may or may not be applied."""

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"It is unknown whether the store {store} applied a commit ({reason}). "
            "Read the witness of each batch before repeating it.",
            store=store,
            reason=reason,
        )


class StoreClosedError(StoreError):
    """A store that was closed is used."""

    store: str

    def __init__(self, *, store: str) -> None:
        super().__init__(f"The store {store} is closed; open it again to go on.", store=store)


class UnreadableRecordError(StoreError):
    """What the store holds at one place is damaged, or a newer release wrote it.

    Attributes:
        place: The record, as ``partition/name``; of what belongs to a run the partition is the run's id.
        problem: What is wrong with it.
        is_newer: Whether it is sound, and only this release cannot read it.
    """

    place: str
    problem: str
    is_newer: bool

    def __init__(self, *, place: str, problem: str, is_newer: bool = False) -> None:
        cure = "" if is_newer else " Restore it from a backup, or cancel the run it belongs to."
        super().__init__(
            f"The record {place!r} cannot be read: {problem}{cure}", place=place, problem=problem, is_newer=is_newer
        )


class MissingKeyError(UnreadableRecordError):
    """A record is sound, and this process lacks the key, or the codec, that opens it; one that has it goes on.

    Attributes:
        codec: The codec's name, as the record has it.
        key_id: The key's id; empty of a codec without keys.
    """

    codec: str
    key_id: str

    def __init__(self, *, place: str, problem: str, codec: str, key_id: str) -> None:
        super().__init__(place=place, problem=problem, is_newer=True)
        self.codec = codec
        self.key_id = key_id


class InvalidBatchError(StoreError):
    """A batch or a read asks for what no store can do: a number beyond 64 bits, text that is not Unicode."""

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"The store {store} cannot do what was asked: {reason}. Nothing of the group was applied; "
            "repeating it will fail again.",
            store=store,
            reason=reason,
        )


class StoreFullError(StoreError):
    """No space is left where the store writes; nothing was applied."""

    retryable = True

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"The store {store} has no space left ({reason}). Nothing was applied; make room, then repeat.",
            store=store,
            reason=reason,
        )


class StoreReadOnlyError(StoreError):
    """The store may be read and not written."""

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"The store {store} cannot be written ({reason}). Nothing was applied; give this process write access "
            "to it and to the folder it is in.",
            store=store,
            reason=reason,
        )


class StoreCorruptError(StoreError):
    """What the store has on disk is damaged, or is not a store."""

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"The store {store} is damaged or is not a store ({reason}). Stop all workers, keep a copy of it, and "
            "restore a backup, or name another path.",
            store=store,
            reason=reason,
        )


class StoreDataLostError(StoreError):
    """The store has lost commits that it had reported, or is not the one that was opened any more."""

    store: str
    reason: str

    def __init__(self, *, store: str, reason: str) -> None:
        super().__init__(
            f"The store {store} has lost data ({reason}). What this process remembers of it may never have been: "
            "start the process anew, so that it goes on from what the store has.",
            store=store,
            reason=reason,
        )


class StoreSchemaError(StoreError):
    """The store was written by another release, or by another program."""

    store: str
    found: str
    expected: str
    cure: str

    def __init__(self, *, store: str, found: str, expected: str, cure: str = "") -> None:
        super().__init__(
            f"The store {store} holds {found}, but this release of floxide_amqp reads {expected}. "
            f"{cure or 'Use the release that wrote it, or name another path.'}",
            store=store,
            found=found,
            expected=expected,
            cure=cure,
        )


class StoreAccessRefusedError(StoreError):
    """The store's server refuses the login, or what this user may not do; nothing was applied."""

    store: str
    reason: str
    cure: str

    def __init__(self, *, store: str, reason: str, cure: str = "") -> None:
        super().__init__(
            f"The store {store} refused access: {_ended(reason)} "
            f"{(cure[:1].upper() + cure[1:]) or 'Correct its URL, or let this user do what it asked for.'}",
            store=store,
            reason=reason,
            cure=cure,
        )


class ReshardingError(StoreError):
    """The runs of a store cannot be moved to other servers, or not yet."""

    reason: str
    cure: str

    def __init__(self, *, reason: str, cure: str) -> None:
        super().__init__(f"The store cannot be resharded: {reason}. {cure}", reason=reason, cure=cure)
