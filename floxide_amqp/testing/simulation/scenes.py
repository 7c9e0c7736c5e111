"""Small plays beside the random workflows of a seed: what clients do to runs, and what must have come of it.

Random workflows show what nodes can say; a scene shows what people do: sagas that fail or are stopped, retries, forks and
other things done by hand, starts that are delayed, deadlines, runs that are followed as they go. A scene is acted by a
process that may die, and then by another from the beginning: all of it is idempotent by the ids of its runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from floxide_amqp.core.compensation import Compensation
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.node import node
from floxide_amqp.core.reducers import Append
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.transition import Abort, Hold
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import InvalidRunStateError, WorkItemNotFoundError
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_events import ItemEnded, RunEnded, RunEvent, RunStarted
from floxide_amqp.testing.simulation.exercised import CONTROL, SEARCH, TIMERS
from floxide_amqp.testing.simulation.watch import Watch
