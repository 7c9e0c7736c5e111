"""What must hold of runs that undo what their steps did: each step once, in reverse order, and then the run ends."""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core.compensation import is_undoing, undoing_id
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.testing.simulation.cluster import Simulation

UNDONE = (RunStatus.FAILED, RunStatus.CANCELLED)


async def check_undone(world: Simulation, client: Orchestrator, run_id: RunId) -> None:
    """I12: what a run did is undone if it has failed or was cancelled, and only then; the last first."""
    run, mirrored = await client.services.runs.find(run_id), world.watch.runs.get(run_id)
    if run is None or mirrored is None:
        return
    undoing = [item_id for item_id in mirrored.ended if is_undoing(mirrored.items[item_id].node)]
    if run.state.status not in UNDONE:
        if undoing:
            world.story.violation(f"I12: run {run_id} is {run.state.status.value}, and steps of it were undone")
        return
    if await is_terminated(client, run_id):
        return
    if run.counts.to_undo or (run.state.status is RunStatus.CANCELLED and run.counts.hooks):
        world.story.violation(f"I12: run {run_id} is {run.state.status.value}, and counts {run.counts} to be undone")
    log = [codec.decode_compensable(entry) for entry in world.store.log(keys.compensables(run_id), slot_of(run_id))]
    expected = [undoing_id(run_id, step.item_id) for step in reversed(log)]
    done = undoing[len(undoing) - len(expected) :]
    if done != expected:
        world.story.violation(f"I12: run {run_id} undid {done}, and should have undone {expected} at its end")


async def check_bodies_undone(
    world: Simulation, client: Orchestrator, graph: Graph, bodies: Iterable[tuple[str, str, str]]
) -> None:
    """I12: every step that can be undone and whose body ran is undone, if its run has failed or was cancelled.

    Args:
        world: The simulation.
        client: Reads the runs.
        graph: Their workflow.
        bodies: Every body that began: its run, item and node, as those who ran it saw it.
    """
    if world.story.faults["lost tail"]:
        return  # the store has forgotten what had begun
    for run_id, item_id, node in sorted(bodies):
        if is_undoing(node) or graph.nodes[node].options.compensation is None:
            continue
        run, mirrored = await client.services.runs.find(RunId(run_id)), world.watch.runs.get(run_id)
        if run is None or mirrored is None or run.state.status not in UNDONE or await is_terminated(client, run_id):
            continue
        if undoing_id(RunId(run_id), WorkItemId(item_id)) not in mirrored.ended:
            world.story.violation(f"I12: the body of item {item_id} ({node}) of run {run_id} ran, and was not undone")


async def is_terminated(client: Orchestrator, run_id: str) -> bool:
    """Whether somebody ended a run without undoing what it did."""
    return any(entry.action == "terminate" for entry in await client.audit_log(run_id))
