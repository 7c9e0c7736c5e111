"""What an older version of a workflow has begun in a run, and the newer one must be able to end before it is raised.

Outputs that came already are read by whoever asks for the result, steps that ended may have to be undone, a step that
has called a child is given its output, and what waits at a join of edges waits for the others. Where the newer version
has nothing that goes on with it, the run stays as it is: nothing is forgotten without a word.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from floxide_amqp.core.agreement import why_not_raised
from floxide_amqp.core.child_workflow import is_child
from floxide_amqp.core.compensation import is_undoing, undone_by
from floxide_amqp.core.descriptions import Description
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.records import Compensable
from floxide_amqp.core.shape_tables import Reading
from floxide_amqp.core.version_moves import Moved
from floxide_amqp.exceptions import CodecError, MigrationError
from floxide_amqp.runtime.join_waits import all_waiting
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.compensables import CompensableStore
from floxide_amqp.stores.encoding import decode_payload
from floxide_amqp.stores.runs import PAGE


@dataclass(frozen=True, slots=True)
class Raising:
    """A run that is to be raised.

    Attributes:
        version: The version that it has.
        old: That version as it was described; None where nothing is known of it.
        graph: The newer version's graph.
        new: The newer version, described.
    """

    run_id: RunId
    version: str
    old: Description | None
    graph: Graph
    new: Description

    def refusal(self, problem: str, cure: str = "") -> MigrationError:
        """Return the error that says why the run stays as it is."""
        return MigrationError(
            problem=problem, cure=cure or f"let a worker of version {self.version} bring it to its end"
        )


async def check_begun(services: Services, raising: Raising, items: Sequence[Moved]) -> None:
    """Check that a newer version can end what the older one has begun.

    Args:
        services: The process's parts.
        raising: The run.
        items: Its live items as they are, and as they would go on.

    Raises:
        MigrationError: It cannot.
        StoreError: Something of it cannot be read.
    """
    await _check_outputs(services, raising)
    await _check_undoing(services, raising)
    await _check_callers(services, raising, items)
    await _check_joins(services, raising, items)


async def _check_outputs(services: Services, raising: Raising) -> None:
    old, new, graph, run_id = raising.old, raising.new, raising.graph, raising.run_id
    page = await services.runs.outputs(run_id)
    if page and not graph.many_outputs and old is not None and old.many_outputs:
        raise raising.refusal(f"it has outputs already, and version {graph.version} has one only")
    if old is not None and Reading(old.shapes, new.shapes, keeps_all=False).problem(old.output, new.output) is None:
        return
    while page:
        for _, payload in page:
            try:
                decode_payload(graph.output, payload)
            except CodecError as error:
                problem = f"an output that it has already is none of version {graph.version}: {error}"
                raise raising.refusal(problem) from error
        page = await services.runs.outputs(run_id, after=page[-1][0]) if len(page) == PAGE else []


async def _check_undoing(services: Services, raising: Raising) -> None:
    """What undoes a step is a node of the graph that the step ran by."""
    nodes, old = raising.graph.nodes, raising.old
    if old is not None and all(name in nodes for name in old.nodes if is_undoing(name)):
        return
    async for step in _compensables(services, raising.run_id):
        if step.node not in nodes:
            of = undone_by(step.node)
            what = f"what its node {of!r} did may have to be undone" if of else "a node runs should it be cancelled"
            raise raising.refusal(
                f"{what}, and version {raising.graph.version} has no node {step.node!r}",
                f"keep what undoes it by its name, or let a worker of version {raising.version} bring it to its end",
            )


async def _compensables(services: Services, run_id: RunId) -> AsyncGenerator[Compensable]:
    store, after, start = CompensableStore(services.session), "", 0
    while begun := await store.begun(run_id, after=after, limit=PAGE):
        for step in begun:
            yield step
        after = begun[-1].item_id
    while ended := (await store.ended(run_id, start=start, limit=PAGE))[1]:
        for step in ended:
            yield step
        start += len(ended)


async def _check_callers(services: Services, raising: Raising, items: Sequence[Moved]) -> None:
    """A step that has called a child is given its output where it stands, and nowhere else."""
    called = [(each, child_id) for each in items if (child_id := waits_for_child(each.before.waits_for)) is not None]
    children = await services.children.named(raising.run_id, [child_id for _, child_id in called])
    for (each, _), child in zip(called, children, strict=True):
        name, node = each.after.node, raising.graph.nodes[each.after.node].node
        workflow = "" if child is None else child.workflow
        calls = is_child(node) and node.waits and node.graph.workflow == workflow
        if not calls or name != each.before.node:
            raise raising.refusal(
                f"a step of node {each.before.node!r} has started a run of {workflow!r}, and takes its output",
                f"let it stay at a node of this name that is a ChildWorkflow of {workflow!r}, or let a worker of "
                f"version {raising.version} bring it on first",
            )


async def _check_joins(services: Services, raising: Raising, items: Sequence[Moved]) -> None:
    """What has arrived at a join of edges waits there for the rest."""
    old = raising.old
    if old is not None and "joins_wait" not in old.flags:
        return
    seen: set[tuple[str, int]] = set()
    async for scope, join in all_waiting(services, raising.run_id, [each.before for each in items]):
        if (join.node, len(scope)) not in seen:
            seen.add((join.node, len(scope)))
            problem = _why_not_joined(raising, join.node, len(scope))
            if problem is not None:
                raise raising.refusal(f"something waits at the join {join.node!r}, and {problem}")


def _why_not_joined(raising: Raising, node: str, depth: int) -> str | None:
    old, new = raising.old, raising.new
    if old is None:
        return "nothing is known any more of the version it has"
    problem = why_not_raised(old, new, node, depth)
    if problem is not None:
        return problem
    before, after = old.nodes[node], new.nodes[node]
    problem = Reading(old.shapes, new.shapes, keeps_all=False).problem(before.input, after.input)
    return None if problem is None else f"what it takes changed: {problem}"
