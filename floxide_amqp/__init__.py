"""Durable, distributed, typed workflows for Python, on the RabbitMQ you already run."""

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.local import GraphBuilder, Workflow
from floxide_amqp.core.compose import BatchNode, CompositeNode, SplitNode, collect
from floxide_amqp.core.context import Context, Fixed, NoContext
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.node import Node, node, with_retry
from floxide_amqp.core.path import Path, fan_out, gather, repeat
from floxide_amqp.core.reducers import Append, LastWrite, Max, Min, Reducer, Sum, Union
from floxide_amqp.core.retry import NO_RETRY, Backoff, BackoffStrategy, RetryPolicy
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.drivers.codecs.compression import Compression
from floxide_amqp.drivers.codecs.encryption import Encryption
from floxide_amqp.exceptions import (
    AlreadyCompletedError,
    BrokerError,
    CodecError,
    ConfigurationError,
    DeadLetterError,
    DefinitionError,
    FloxideError,
    InvalidRunStateError,
    MissingKeyError,
    NodeCancelledError,
    NodeError,
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
    StoreError,
)
from floxide_amqp.ports.codec import Codec
from floxide_amqp.runtime.health import WorkerHealth
from floxide_amqp.runtime.interceptors import Interceptor, LoggingInterceptor, StartCall, StepCall
from floxide_amqp.runtime.orchestrator import Orchestrator, RunHandle, Start
from floxide_amqp.runtime.pool import WorkerPool
from floxide_amqp.runtime.settings import Limits, Retention, Timeouts
from floxide_amqp.runtime.source import Channel, Source
from floxide_amqp.runtime.views import (
    DeadLetterInfo,
    DeadLetterKind,
    Liveness,
    RunInfo,
    RunMetrics,
    RunPage,
    WorkerInfo,
    WorkItemInfo,
)
from floxide_amqp.runtime.worker import Worker

__all__ = [
    "NO_RETRY",
    "Abort",
    "AlreadyCompletedError",
    "Append",
    "Backoff",
    "BackoffStrategy",
    "BatchNode",
    "BrokerError",
    "Channel",
    "Codec",
    "CodecError",
    "CompositeNode",
    "Compression",
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
    "GraphBuilder",
    "Hold",
    "Interceptor",
    "InvalidRunStateError",
    "LastWrite",
    "Limits",
    "Liveness",
    "LoggingInterceptor",
    "Max",
    "Min",
    "MissingKeyError",
    "Next",
    "NextAll",
    "NoContext",
    "Node",
    "NodeCancelledError",
    "NodeError",
    "NodeTimeoutError",
    "NotStartedError",
    "Orchestrator",
    "Path",
    "Reducer",
    "ResultTimeoutError",
    "Retention",
    "RetryPolicy",
    "RunCancelledError",
    "RunConflictError",
    "RunDeletedError",
    "RunError",
    "RunFailedError",
    "RunHandle",
    "RunInfo",
    "RunMetrics",
    "RunNotFoundError",
    "RunPage",
    "RunStatus",
    "RunTimeoutError",
    "Source",
    "SplitNode",
    "Start",
    "StartCall",
    "StepCall",
    "StoreError",
    "Sum",
    "Timeouts",
    "Transition",
    "Union",
    "WorkItemInfo",
    "WorkItemStatus",
    "Worker",
    "WorkerHealth",
    "WorkerInfo",
    "WorkerPool",
    "Workflow",
    "WorkflowCtx",
    "collect",
    "fan_out",
    "gather",
    "node",
    "repeat",
    "with_retry",
]
