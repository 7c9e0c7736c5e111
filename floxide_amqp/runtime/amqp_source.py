"""A source from a queue of somebody else's on RabbitMQ, as an application declares it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Generic, Literal

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.sources import KeyFunction, MessageKey, SourceMessage, SourceSpec, check_source_name
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.registry import graph_of

InT = TypeVar("InT")

DEFAULT_PREFETCH: Final = 500
"""Messages in hand at a time: the next batch has arrived while one is written."""

DEFAULT_BATCH: Final = 200
"""Runs started together: they share their round trips."""

DEFAULT_OPEN_RUNS: Final = 1_000
"""Runs of one source that are not over at a time: enough to keep workers busy, few enough that a long queue stays in
the broker, where it was."""

MOST_OPEN_RUNS: Final = 100_000
"""What `AmqpSource.max_open_runs` can be: they are counted one by one."""

DEFAULT_MAX_BYTES: Final = 1024 * 1024
"""Longest body that is decoded: decoded, a body may take seventy times its length of memory."""

MOST_BYTES: Final = 16 * 1024 * 1024
"""What `AmqpSource.max_bytes` can be: the longest value that a run can be given."""

LONGEST_EXCHANGE: Final = 127
"""Bytes of an exchange's name; the client library takes no more, nor other characters than these."""

LONGEST_QUEUE: Final = 255

PLAIN_NAME: Final = re.compile(r"[a-zA-Z0-9-_.:@#,/+ ]*")
NAME_RULE: Final = "1 to {} characters: letters of ASCII, digits, blanks and -_.:@#,/+"

ExchangeType = Literal["direct", "topic", "fanout"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What brings messages into a source's queue.

    Attributes:
        exchange: The exchange's name.
        routing_key: Which of its messages; of no account for a fanout exchange.
        declare: The kind that the exchange is declared as; None where it is somebody else's and must be there.
    """

    exchange: str
    routing_key: str = ""
    _: KW_ONLY
    declare: ExchangeType | None = None

    def __post_init__(self) -> None:
        if not self.exchange:
            raise DefinitionError("Binding('', …): the default exchange cannot be bound; every queue hears it anyway.")
        if len(self.exchange) > LONGEST_EXCHANGE or not PLAIN_NAME.fullmatch(self.exchange):
            raise DefinitionError(
                f"Binding({self.exchange!r}, …): an exchange's name has to have {NAME_RULE.format(LONGEST_EXCHANGE)}."
            )
        if len(self.routing_key.encode("utf-8", "replace")) > LONGEST_QUEUE:
            raise DefinitionError(
                f"Binding({self.exchange!r}, {self.routing_key!r:.40}): a routing key has at most 255 bytes."
            )


@dataclass(frozen=True, slots=True)
class AmqpSource(Generic[InT]):
    """Each message of a queue is one run.

        AmqpSource("orders", OrderProcessing, queue="shop.orders", key=MessageKey.header("x-order-id"))

    A message is acknowledged once its run is recorded, and the run's id follows from the message's key, so that a
    message which comes again starts nothing again. One that no run can be made of goes into the quarantine with its
    reason (``floxide dead-letters``).

    Attributes:
        name: Its name, 1 to 100 printable characters without a colon; its runs' ids begin with it.
        workflow: The workflow whose runs it starts.
        queue: The queue. It is read as it is, unless `declare` says what it is to be.
        key: What tells one message from another; by default its ``message_id``, which its sender must set. A function
            gets the message and returns a text.
        decode: Makes the run's input of a message, and raises where it cannot; by default JSON or msgpack, as
            ``content_type`` says (JSON where it says nothing), checked against the workflow's input type.
        extra_fields: Whether a body may have fields that the input type lacks, which are then ignored.
        context: Makes the run's initial context of its input and the message; None where every field has a default.
        attributes: Attributes of the run, each from the header of this name; one that is missing is left out.
        priority: Makes the run's level of a message, of a workflow with ``priorities=True``; by default the normal one.
        declare: Declares the queue, durable, as this kind where it is missing; by default it is waited for.
        arguments: What it is declared with besides, such as ``{"x-dead-letter-exchange": "shop.dead"}``.
        bindings: Bound to the queue at each connection.
        on_unusable: What becomes of a message that no run can be made of: ``"quarantine"`` keeps it in the store,
            ``"reject"`` gives it back to the queue, which passes it to its own dead letter exchange, or drops it where
            it has none.
        max_open_runs: How many runs of the source may be not over, about, of all processes together: while there are
            more, no messages are taken. 1 to 100,000; None for any number.
        rate: Runs that a process starts per second at most; None for as many as it can.
        prefetch: Messages in hand at a time, 1 to 65,535.
        batch: Runs started together at most, 1 to 1,000.
        max_bytes: Longest body that is decoded, up to 16 MiB.
        broker: The broker's URL, where it is not the application's.
        run_by_workers: Whether each worker of the application takes messages; else ``floxide sources run`` does.

    Raises:
        DefinitionError: Something of it cannot be.
    """

    name: str
    workflow: type[WorkflowDefinition[InT, Any, Any]]
    _: KW_ONLY
    queue: str
    key: MessageKey | KeyFunction = field(default_factory=MessageKey.message_id)
    decode: Callable[[SourceMessage], InT] | None = None
    extra_fields: Literal["ignore", "refuse"] = "ignore"
    context: Callable[[InT, SourceMessage], Context] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: Callable[[SourceMessage], Priority] | None = None
    declare: Literal["quorum", "classic"] | None = None
    arguments: Mapping[str, str | int | bool] = field(default_factory=dict[str, "str | int | bool"])
    bindings: Sequence[Binding] = ()
    on_unusable: Literal["quarantine", "reject"] = "quarantine"
    max_open_runs: int | None = DEFAULT_OPEN_RUNS
    rate: float | None = None
    prefetch: int = DEFAULT_PREFETCH
    batch: int = DEFAULT_BATCH
    max_bytes: int = DEFAULT_MAX_BYTES
    broker: str | None = None
    run_by_workers: bool = True

    def __post_init__(self) -> None:
        check_source_name(self.name)
        if not (0 < len(self.queue) <= LONGEST_QUEUE and PLAIN_NAME.fullmatch(self.queue)):
            raise self._refusal(f"queue={self.queue!r} has to have {NAME_RULE.format(LONGEST_QUEUE)}")
        if self.arguments and self.declare is None:
            raise self._refusal("arguments=... are for a queue that it declares: give declare='quorum' as well")
        if self.priority is not None and not graph_of(self.workflow).options.priorities:
            raise self._refusal(
                "priority=... is for a workflow whose workers serve all levels: Workflow[...], priorities=True"
            )
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise self._refusal(f"rate={self.rate!r} has to be more than 0")
        for what, given, most in (
            ("max_open_runs", self.max_open_runs, MOST_OPEN_RUNS), ("prefetch", self.prefetch, 65_535),
            ("batch", self.batch, 1_000), ("max_bytes", self.max_bytes, MOST_BYTES),
        ):  # fmt: skip
            if given is not None and not 1 <= given <= most:
                raise self._refusal(f"{what}={given!r} has to be from 1 to {most:,}")

    @property
    def spec(self) -> SourceSpec:
        """What is kept of it in the store."""
        graph = graph_of(self.workflow)
        origin = f"queue {self.queue}"
        return SourceSpec(
            name=self.name, kind="queue", workflow=graph.workflow, version=graph.version, origin=origin
        )  # fmt: skip

    def _refusal(self, problem: str) -> DefinitionError:
        return DefinitionError(f"Source {self.name!r}: {problem}.")
