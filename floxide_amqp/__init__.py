"""Durable, distributed, typed workflows for Python, on the RabbitMQ you already run."""

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.local import GraphBuilder, Workflow
from floxide_amqp.core.attributes import Attributes, AttributeValue
from floxide_amqp.core.child_workflow import ChildWorkflow
from floxide_amqp.core.compensation import Cancelled, Compensation
from floxide_amqp.core.compose import BatchNode, CompositeNode, SplitNode, collect
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.context_declaration import Fixed
from floxide_amqp.core.edge_joins import all_of, all_of_each, any_of, n_of
from floxide_amqp.core.entering import fan_out, first, gather, repeat
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.function_node import node
from floxide_amqp.core.kin import OnClose
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.migration import RunToMigrate, StepToMigrate
from floxide_amqp.core.node import Node, with_retry
from floxide_amqp.core.path import Path
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.reduce_node import ReduceNode
from floxide_amqp.core.reducers import Append, LastWrite, Max, Min, Reducer, Sum, Union
from floxide_amqp.core.retry import NO_RETRY, Backoff, BackoffStrategy, RetryPolicy
from floxide_amqp.core.schedules import Occasion, Overlap
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.sources import MessageKey, SourceMessage
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import (
    AlreadyCompletedError,
    BrokerError,
    BrokerUnavailableError,
    ChildRunFailedError,
    CodecError,
    ConfigurationError,
    DeadLetterError,
    DefinitionError,
    FloxideError,
    ForkError,
    HoldTimeoutError,
    InvalidAttributeError,
    InvalidRunStateError,
    JoinIncompleteError,
    MailboxFullError,
    MigrationError,
    MissingKeyError,
    NodeCancelledError,
    NodeError,
    NodeProcessDiedError,
    NodeTimeoutError,
    NotStartedError,
    ResultTimeoutError,
    RunCancelledError,
    RunConflictError,
    RunDeletedError,
    RunError,
    RunFailedError,
    RunNotFoundError,
    RunTimeoutError,
    ScheduleNotFoundError,
    SignalConflictError,
    SourceNotFoundError,
    StoreError,
    StoreUnavailableError,
    UndecodableError,
    UnknownSignalError,
    WorkItemNotFoundError,
)
from floxide_amqp.ports.codec import Codec
from floxide_amqp.runtime.amqp_source import AmqpSource, Binding
from floxide_amqp.runtime.bulk import BulkFailure, BulkReport
from floxide_amqp.runtime.health import WorkerHealth
from floxide_amqp.runtime.interceptors import Interceptor, LoggingInterceptor, StartCall, StepCall
from floxide_amqp.runtime.iterator_source import IteratorSource
from floxide_amqp.runtime.kin_views import ChildInfo, ChildPage
from floxide_amqp.runtime.limit_views import LimitInfo, RateInfo
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.pool import WorkerPool
from floxide_amqp.runtime.run_events import (
    AttemptFailed,
    ItemCancelled,
    ItemCompleted,
    ItemEnded,
    ItemFailed,
    ItemHeld,
    RunEnded,
    RunEvent,
    RunSignalled,
    RunStarted,
    RunSteered,
)
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.run_view import RunView
from floxide_amqp.runtime.schedule import Schedule
from floxide_amqp.runtime.schedule_views import ScheduleEvent, ScheduleInfo
from floxide_amqp.runtime.schedules import Schedules
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.signals import SignalReport
from floxide_amqp.runtime.source import Channel, Source
from floxide_amqp.runtime.sources import SourceInfo, Sources
from floxide_amqp.runtime.start import Start
from floxide_amqp.runtime.views import (
    AuditEntry,
    DeadLetterInfo,
    DeadLetterKind,
    Liveness,
    RunInfo,
    RunMetrics,
    RunPage,
    UndoInfo,
    WorkerInfo,
    WorkItemInfo,
)
from floxide_amqp.runtime.worker import Worker

__all__ = [
    "NO_RETRY",
    "Abort",
    "AlreadyCompletedError",
    "AmqpSettings",
    "AmqpSource",
    "Append",
    "AttemptFailed",
    "AttributeValue",
    "Attributes",
    "AuditEntry",
    "Backoff",
    "BackoffStrategy",
    "BatchNode",
    "Binding",
    "BrokerError",
    "BrokerUnavailableError",
    "BrokerUse",
    "BulkFailure",
    "BulkReport",
    "Cancelled",
    "Channel",
    "ChildInfo",
    "ChildPage",
    "ChildRunFailedError",
    "ChildWorkflow",
    "Codec",
    "CodecError",
    "Compensation",
    "CompositeNode",
    "Compression",
    "Concurrency",
    "ConfigurationError",
    "Context",
    "DeadLetterError",
    "DeadLetterInfo",
    "DeadLetterKind",
    "DefinitionError",
    "Encryption",
    "EventLog",
    "FailureInfo",
    "Fixed",
    "Floxide",
    "FloxideError",
    "ForkError",
    "GraphBuilder",
    "Hold",
    "HoldTimeoutError",
    "Interceptor",
    "InvalidAttributeError",
    "InvalidRunStateError",
    "ItemCancelled",
    "ItemCompleted",
    "ItemEnded",
    "ItemFailed",
    "ItemHeld",
    "IteratorSource",
    "JoinIncompleteError",
    "LastWrite",
    "LimitInfo",
    "Limits",
    "Liveness",
    "LoggingInterceptor",
    "MailboxFullError",
    "Max",
    "MessageKey",
    "MigrationError",
    "Min",
    "MissingKeyError",
    "Next",
    "NextAll",
    "NoContext",
    "Node",
    "NodeCancelledError",
    "NodeError",
    "NodeProcessDiedError",
    "NodeTimeoutError",
    "NotStartedError",
    "Occasion",
    "OnClose",
    "Orchestrator",
    "Overlap",
    "Path",
    "Priority",
    "RateInfo",
    "RateLimit",
    "ReduceNode",
    "Reducer",
    "ResultTimeoutError",
    "Retention",
    "RetryPolicy",
    "RunCancelledError",
    "RunConflictError",
    "RunDeletedError",
    "RunEnded",
    "RunError",
    "RunEvent",
    "RunFailedError",
    "RunFilter",
    "RunHandle",
    "RunInfo",
    "RunMetrics",
    "RunNotFoundError",
    "RunPage",
    "RunSignalled",
    "RunStarted",
    "RunStatus",
    "RunSteered",
    "RunTimeoutError",
    "RunToMigrate",
    "RunView",
    "Schedule",
    "ScheduleEvent",
    "ScheduleInfo",
    "ScheduleNotFoundError",
    "Schedules",
    "Signal",
    "SignalConflictError",
    "SignalReport",
    "Source",
    "SourceInfo",
    "SourceMessage",
    "SourceNotFoundError",
    "Sources",
    "SplitNode",
    "Start",
    "StartCall",
    "StepCall",
    "StepToMigrate",
    "StoreError",
    "StoreUnavailableError",
    "Sum",
    "Timeouts",
    "Transition",
    "UndecodableError",
    "UndoInfo",
    "Union",
    "UnknownSignalError",
    "VersionPolicy",
    "WorkItemInfo",
    "WorkItemNotFoundError",
    "WorkItemStatus",
    "Worker",
    "WorkerHealth",
    "WorkerInfo",
    "WorkerPool",
    "Workflow",
    "WorkflowCtx",
    "all_of",
    "all_of_each",
    "any_of",
    "collect",
    "fan_out",
    "first",
    "gather",
    "n_of",
    "node",
    "repeat",
    "with_retry",
]
