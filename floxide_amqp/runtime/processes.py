"""Processes for the bodies of sync nodes: started when first needed, used again and again, killed one by one.

A process is a fresh interpreter, never a fork of the worker with its threads and its event loop. It runs one body at a
time. A body that is cancelled or takes too long is killed with its process, and so is whatever it has started; the
next one has a fresh process. A process that dies fails the attempt it was at, not the worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.process_nodes import NodeReference, reference_to
from floxide_amqp.core.transition import Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import ConfigurationError, NodeProcessDiedError, NodeProcessError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.node_process import NodeProcess
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.stores.encoding import encode_payload

_log = get_logger("floxide_amqp.processes")

FRESH_TRIES: Final = 3
"""Processes tried for a body: one that lay idle may have been killed."""

PREPARE_SECONDS: Final = 120.0
"""Longest time for importing a workflow in a fresh process; it does not count as the body's."""


class ProcessPlace:
    """Room for one step's body, in a process that has imported its node.

    Attributes:
        node: The node.
        process: The process; None where none is to be had.
        problem: Why the body cannot run; None where it can.
        is_whole: Whether the process is as good as before: it was not broken off while it imported or ran a body.
        has_died: Whether it died under the body.
    """

    def __init__(self, node: GraphNode) -> None:
        self.node = node
        self.process: NodeProcess | None = None
        self.problem: NodeProcessError | None = None
        self.is_whole = True
        self.has_died = False

    async def run(self, ctx: WorkflowCtx[Any], value: Any, now_ms: int) -> Transition[Any]:
        """Run the body; whoever cancels this kills the process.

        Args:
            ctx: Of the step; the attributes that the body sets are set there.
            value: Its input.
            now_ms: Store time.

        Raises:
            NodeProcessDiedError: The process died.
            NodeProcessError: The node could not be imported.
            PayloadMismatchError: The input is not of the node's type.
            BaseException: What the body raised.
        """
        if self.problem is not None or self.process is None:
            raise self.problem or RuntimeError("a body that was left runs again")
        data = encode_payload(self.node.input, value)
        self.is_whole = False
        try:
            result = await self.process.run(self.node, ctx, data, now_ms)
        except asyncio.CancelledError:
            await self.process.kill()
            raise
        except NodeProcessDiedError:
            self.has_died = True
            raise
        except BaseException:
            self.is_whole = True  # the body raised
            raise
        self.is_whole = True
        return result


class NodeProcesses:
    """Processes for nodes, so many bodies at a time.

    Args:
        registry: The workflows whose nodes run.
        size: How many processes; at least 1.
        bodies: How many bodies run in one process before it is replaced; 0 for as many as there are.

    Attributes:
        died: Processes that died under a body.
    """

    def __init__(self, registry: Registry, *, size: int, bodies: int = 0) -> None:
        self.died = 0
        self._registry = registry
        self._bodies = bodies
        self._places = asyncio.Semaphore(size)
        self._idle: list[NodeProcess] = []
        self._all: set[NodeProcess] = set()
        self._references: dict[int, NodeReference] = {}

    def __len__(self) -> int:
        return len(self._all)

    @asynccontextmanager
    async def place(self, node: GraphNode) -> AsyncGenerator[ProcessPlace]:
        """Wait until a process is free and has imported the node, and keep it for the block."""
        async with self._places:
            place = ProcessPlace(node)
            try:
                await self._prepare(place)
                yield place
            finally:
                await self._leave(place)

    async def aclose(self) -> None:
        """Kill what is left; bodies were waited for by those who ran them."""
        await asyncio.gather(*(self._end(process) for process in list(self._all)))

    async def _prepare(self, place: ProcessPlace) -> None:
        """Find a process that has the node; what goes wrong with that is what the body comes to."""
        node = place.node
        try:
            reference = self._reference(node)
            for _ in range(FRESH_TRIES):
                place.process, place.is_whole = await self._take(), False
                async with asyncio.timeout(PREPARE_SECONDS):
                    place.is_whole = await place.process.prepare(reference)
                if place.is_whole:
                    return
                await self._leave(place)
            problem, cure = "its process dies before it begins", "The worker's standard error may say why."
        except NodeProcessError as error:
            place.problem = error
            return
        except TimeoutError:
            problem, cure = f"importing it took longer than {PREPARE_SECONDS:g} s", "Import less with the workflow."
        except (OSError, ConfigurationError) as error:
            problem, cure = f"no process can be had ({error})", "Look at what the system allows this worker."
        place.problem = NodeProcessError(node=node.name, problem=problem, cure=cure)

    async def _leave(self, place: ProcessPlace) -> None:
        """Take a process back; one whose body did not come to an end is ended."""
        process, place.process = place.process, None
        if process is None:
            return
        is_fit = process.is_alive and place.is_whole and not (self._bodies and process.bodies >= self._bodies)
        if is_fit and place.problem is None:
            self._idle.append(process)
            return
        if place.has_died:
            self.died += 1
            _log.warning("process.died", pid=process.pid, node=place.node.name, how=process.how_it_ended)
        await asyncio.shield(asyncio.ensure_future(self._end(process)))

    async def _take(self) -> NodeProcess:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            await self._end(process)
        process = await NodeProcess.start()
        self._all.add(process)
        return process

    async def _end(self, process: NodeProcess) -> None:
        self._all.discard(process)
        await process.kill()

    def _reference(self, node: GraphNode) -> NodeReference:
        if id(node) not in self._references:
            for workflow in self._registry.classes():
                found = workflow.graph.nodes.get(node.name)
                if found is node:
                    self._references[id(node)] = reference_to(workflow, node.name)
        return self._references[id(node)]


def check_process_nodes(registry: Registry) -> None:
    """Make sure that processes find the nodes that are to run in them.

    Raises:
        ConfigurationError: A workflow cannot be imported by its name, or the system has no process groups.
    """
    for workflow in registry.classes():
        for name, node in workflow.graph.nodes.items():
            if node.options.executor == "process":
                reference_to(workflow, name)
                if os.name != "posix":
                    raise ConfigurationError(f"Node {name!r} has executor='process', which needs Linux, macOS or BSD.")
