"""The commands that do something: run, worker, start, cancel, pause, resume."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import ExitCode, UsageError, say
from floxide_amqp.apps.cli.inputs import parse_context, parse_input
from floxide_amqp.apps.cli.options import (
    CONNECT_SECONDS,
    ContextOption,
    Frame,
    InputOption,
    RunIdArgument,
    RunIdOption,
    TimeoutOption,
    WatchOption,
    WorkflowName,
    check_context,
    command,
)
from floxide_amqp.apps.cli.printing import print_text, result_as_json
from floxide_amqp.apps.cli.running import Stop, leave_if_threads_hang, run_to_end
from floxide_amqp.apps.cli.watch import watch
from floxide_amqp.apps.log_setup import LogLevel
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import InvalidRunStateError, ResultTimeoutError
from floxide_amqp.runtime.orchestrator import Orchestrator, RunHandle
