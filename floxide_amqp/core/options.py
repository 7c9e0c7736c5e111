"""How a node and a workflow want to be run: queue, retry, timeouts and guarantees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias, cast

from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.priorities import Priority, check_priority, leveled
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.task_queues import NO_LABELS, check_labels, effective_queue
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import DefinitionError

Executor: TypeAlias = Literal["thread", "process"]
"""Where the bodies of a sync node run: in a thread of the worker, or in a process of their own."""

DEFAULT_QUEUE = "default"
"""The task queue of a node where neither it nor its workflow names one."""

MAX_QUEUE_LENGTH = 100
"""Characters of a task queue's name: with a namespace before it the broker's limit of 255 bytes is never reached."""

MAX_TIMEOUT = timedelta(days=3_650)
"""The longest timeout: ten years, far below what a timer can store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How one node is run.

    Attributes:
        queue: Task queue; empty on a node means its workflow's, and there `DEFAULT_QUEUE`. Of a node of a graph it is
            the effective one, with the labels.
        labels: What a worker must have to run it; None on a node means its workflow's, and there none.
        executor: Where the body of a sync node runs.
        retry: What happens after an error; None means the workflow's, and there the worker's.
        timeout: Longest time of one attempt; None for no limit.
        isolated: Commit only if no other step changed the context meanwhile; else run again.
        at_most_once: Never start the body twice, even after a crash: the step then fails as *outcome unknown*.
        requires: Types of the resources that must be there when a worker starts.
        compensation: The node that undoes what it did, if its run fails or is cancelled; None where nothing does.
        concurrency: How many steps of one key are at work at once; None for no limit.
        rate: How many bodies of one key start within a time; None for no limit.
        priority: Its level; None for that of its run.
    """

    queue: str = ""
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    isolated: bool = False
    at_most_once: bool = False
    requires: tuple[type, ...] = ()
    concurrency: Concurrency | None = None
    rate: RateLimit | None = None
    priority: Priority | None = None
    labels: frozenset[str] | None = None
    executor: Executor = "thread"
    compensation: Any = None  # `AnyNode | None`, which knows the options itself

    @property
    def is_limited(self) -> bool:
        """Whether its steps need a concurrency key, or an instant of a rate limit."""
        return self.concurrency is not None or self.rate is not None

    @property
    def notes_begin(self) -> bool:
        """Whether it is noted in the store that its body may have begun, before it does."""
        return self.at_most_once or self.compensation is not None

    def within(self, outer: WorkflowOptions | NodeOptions) -> NodeOptions:
        """Return these options with what they leave open taken from `outer`: the nearest wins."""
        retry = self.retry if self.retry is not None else outer.retry
        labels = self.labels if self.labels is not None else outer.labels
        queue = self.queue or outer.queue
        if isinstance(outer, WorkflowOptions):  # nobody further out says anything: this is the node of a graph
            labels = labels or NO_LABELS
            queue = leveled(effective_queue(queue, labels), self.priority or Priority.NORMAL)
        return replace(self, queue=queue, labels=labels, retry=NO_RETRY if self.at_most_once else retry)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOptions:
    """How the runs of one workflow are run.

    Attributes:
        retry: Policy of nodes without their own; None means the worker's.
        timeout: Longest time of a whole run; None for no limit.
        queue: Task queue of nodes without their own.
        labels: What workers must have to run nodes that do not say so themselves.
        versions: What a worker that has only this version does with runs of an older one.
        priorities: Whether runs may be started with a priority: its workers serve a queue for each level.
        concurrency: How many runs of one key are under way at once; None for no limit.
    """

    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    queue: str = DEFAULT_QUEUE
    labels: frozenset[str] | None = None
    versions: VersionPolicy = VersionPolicy.STRICT
    priorities: bool = False
    concurrency: Concurrency | None = None


def check_timeout(given: object, *, where: str) -> timedelta | None:
    """Return a timeout as a `timedelta`; the error names `where`.

    Raises:
        DefinitionError: It is no span of more than 0 and at most `MAX_TIMEOUT`.
    """
    if given is None:
        return None
    seconds: float = math.nan
    if isinstance(given, timedelta):
        seconds = given.total_seconds()
    elif isinstance(given, int | float) and not isinstance(given, bool):
        seconds = float(given)
    if not 0 < seconds <= MAX_TIMEOUT.total_seconds():
        raise DefinitionError(
            f"{where}: timeout={given!r} must be a timedelta or seconds, more than 0 and at most "
            f"{MAX_TIMEOUT.days} days."
        )
    return timedelta(seconds=seconds)


def check_queue(given: object, *, where: str) -> str:
    """Return the name of a task queue; the error names `where`.

    Raises:
        DefinitionError: It cannot be a name.
    """
    is_name = isinstance(given, str) and len(given) <= MAX_QUEUE_LENGTH and given.isprintable()
    if isinstance(given, str) and is_name and not set(given) & set(" /!"):
        return given
    raise DefinitionError(
        f"{where}: queue={given!r} must be at most {MAX_QUEUE_LENGTH} printable characters without spaces, slashes and "
        "exclamation marks."
    )


def check_retry(given: object, *, where: str) -> RetryPolicy | None:
    """Return a retry policy; the error names `where`.

    Raises:
        DefinitionError: It is no policy.
    """
    if given is None or isinstance(given, RetryPolicy):
        return given
    raise DefinitionError(f"{where}: retry={given!r} must be a RetryPolicy, such as RetryPolicy(max_attempts=3).")


def check_run_limit(given: object, *, where: str) -> Concurrency | None:
    """Return the limit of whole runs; the error names `where`.

    Raises:
        DefinitionError: It is no limit.
    """
    if given is None or isinstance(given, Concurrency):
        return given
    raise DefinitionError(
        f"{where}: concurrency={given!r} must be a Concurrency, such as Concurrency('tenant', limit=5)."
    )


def check_versions(given: object, *, where: str) -> VersionPolicy | None:
    """Return a version policy; the error names `where`.

    Raises:
        DefinitionError: It is no policy.
    """
    if given is None or isinstance(given, VersionPolicy):
        return given
    raise DefinitionError(f"{where}: versions={given!r} must be a VersionPolicy, such as VersionPolicy.COMPATIBLE.")


def check_node_options(
    *,
    where: str,
    queue: object = "",
    retry: object = None,
    timeout: object = None,
    isolated: object = False,
    at_most_once: object = False,
    requires: object = (),
    compensation: object = None,
    concurrency: object = None,
    rate: object = None,
    priority: object = None,
    labels: object = None,
    executor: object = "thread",
) -> NodeOptions:
    """Return the options of a node; each error names `where` and the option.

    Raises:
        DefinitionError: An option is out of range, or two contradict each other.
    """
    policy = check_retry(retry, where=where)
    for name, flag in (("isolated", isolated), ("at_most_once", at_most_once)):
        if not isinstance(flag, bool):
            raise DefinitionError(f"{where}: {name}={flag!r} must be True or False.")
    if at_most_once and policy is not None and policy.max_attempts > 1:
        raise DefinitionError(
            f"{where}: at_most_once=True and a retry policy of {policy.max_attempts} attempts contradict each other. "
            "Leave out one of them; an on_failure edge can still handle the error."
        )
    return NodeOptions(
        queue=check_queue(queue, where=where),
        retry=policy,
        timeout=check_timeout(timeout, where=where),
        isolated=bool(isolated),
        at_most_once=bool(at_most_once),
        requires=_check_requires(requires, where=where),
        compensation=_check_compensation(compensation, where=where),
        concurrency=_check_concurrency(concurrency, where=where),
        rate=_check_rate(rate, where=where),
        priority=check_priority(priority, where=where),
        labels=check_labels(labels, where=where),
        executor=_check_executor(executor, where=where),
    )


def _check_executor(given: object, *, where: str) -> Executor:
    if given == "thread":
        return "thread"
    if given == "process":
        return "process"
    raise DefinitionError(f"{where}: executor={given!r} must be 'thread' or 'process'.")


def _check_compensation(given: object, *, where: str) -> Any:
    if given is None or (not isinstance(given, type) and isinstance(getattr(given, "options", None), NodeOptions)):
        return given
    raise DefinitionError(f"{where}: compensation={given!r} must be a node: put @node above the function that undoes.")


def _check_concurrency(given: object, *, where: str) -> Concurrency | None:
    if given is None or isinstance(given, Concurrency):
        return given
    raise DefinitionError(f"{where}: concurrency={given!r} must be a Concurrency: Concurrency('mail', limit=5).")


def _check_rate(given: object, *, where: str) -> RateLimit | None:
    if given is None or isinstance(given, RateLimit):
        return given
    raise DefinitionError(f"{where}: rate={given!r} must be a RateLimit: RateLimit('mail-api', 100, per=1).")


def _check_requires(given: object, *, where: str) -> tuple[type, ...]:
    kinds = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
    if not all(isinstance(kind, type) for kind in kinds):
        raise DefinitionError(f"{where}: requires={given!r} must be a tuple of classes, such as (PaymentApi,).")
    return cast("tuple[type, ...]", kinds)
