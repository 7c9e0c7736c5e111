"""One open run, checked against the code of this application: what is stored of it is decoded; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from floxide_amqp.core.agreement import agree
from floxide_amqp.core.context import NoContext
from floxide_amqp.core.descriptions import Description, NodeDescription, describe_graph
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import InputKind
from floxide_amqp.core.shape_tables import Reading
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import CodecError, StoreError, UnreadableRecordError
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.runtime.join_waits import all_waiting
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.upgrading import MAX_LIVE, plan_upgrade
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.liveness import DEAD
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed_places import mail_place
from floxide_amqp.stores.sealed_records import input_of

UNREADABLE: Final = (UnreadableRecordError, CodecError)
"""What says that something of one run cannot be read; the others are checked all the same."""

MOST_ARRIVALS: Final = 100
"""Values of a join that are decoded of each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """An open run.

    Attributes:
        run: The run; None where it was not read, since nothing here knows its workflow, or cannot be.
        problem: Why it cannot be read.
    """

    run_id: RunId
    workflow: str
    version: str
    run: StoredRun | None = None
    problem: str = ""


@dataclass(slots=True)
class Found:
    """What is wrong with one run: pairs of node and reason."""

    breaks: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    losses: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])


class Checker:
    """Checks runs one by one; what is known of versions is read once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._descriptions: dict[tuple[str, str], Description | None] = {}
        self._of_others: frozenset[str] | None = None
        self.names = frozenset(name for name, _ in services.registry.graphs)

    async def is_of_others(self, workflow: str) -> bool:
        """Whether a workflow belongs to another application: its workers have it, and none that is here."""
        if workflow in self.names or not workflow:
            return False
        if self._of_others is None:
            records = await self._services.liveness.all()
            served = [{each.rpartition("@")[0] for each in one.workflows} for one in records if one.status != DEAD]
            self._of_others = frozenset().union(*(names for names in served if not names & self.names))
        return workflow in self._of_others

    async def problems_of(self, each: OpenRun) -> Found:
        """Return what is wrong with a run."""
        found = Found()
        if each.problem:
            found.breaks.add(("", each.problem))
        elif each.run is None or each.workflow not in self.names:
            found.breaks.add(("", f"this application has no workflow {each.workflow!r}"))
        else:
            try:
                await self._check(each.run, found)
            except UNREADABLE as error:
                found.breaks.add(("", told(error)))
        return found

    async def _check(self, run: StoredRun, found: Found) -> None:
        header = run.header
        registry = self._services.registry
        newer = registry.newer(header.workflow, header.version)
        graph = registry.graphs.get((header.workflow, header.version))
        policy = VersionPolicy.STRICT if newer is None else newer.graph.options.versions
        items = await self._services.items.live(header.run_id, limit=MAX_LIVE + 1)
        live = [each for each in items if each.item.status is not WorkItemStatus.COMPLETED]  # it was when it was listed
        if graph is None and newer is not None and policy is VersionPolicy.AUTO_UPGRADE:
            try:
                await plan_upgrade(self._services, run, live, newer)
            except USER_ERRORS as error:  # the user's migrate, and the user's types
                found.breaks.add(("", f"it cannot be raised to version {newer.graph.version}: {told(error)}"))
            else:
                await self._decode_waiting(header.run_id, newer.graph, live, found)
            return
        if graph is None and newer is not None and policy is VersionPolicy.COMPATIBLE:
            graph = newer.graph
        if graph is None:
            known = [version for name, version in registry.graphs if name == header.workflow]
            found.breaks.add(("", f"this application has no version {header.version}, only {', '.join(known)}"))
            return
        await self._compare(run, graph, live, found)
        await self._decode(run, graph, live, found)

    async def _compare(self, run: StoredRun, graph: Graph, live: Sequence[StoredItem], found: Found) -> None:
        """Compare the version as it was described with this code, where the run's items are."""
        old = await self._description(run.header.workflow, run.header.version)
        if old is None:
            return
        new = describe_graph(graph)
        agreement = agree(old, new)
        keeping = Reading(old.shapes, new.shapes, keeps_all=True)
        for node in {each.item.node for each in live}:
            why = agreement.why_not(node)
            before, after = old.nodes.get(node), new.nodes.get(node)
            lost = None if before is None or after is None else keeping.problem(before.input, after.input)
            if why is not None and graph.version != run.header.version:
                found.breaks.add((node, f"version {graph.version} does not go on with it: {why}"))
            elif before is None or after is None or _drawn(before) != _drawn(after):
                found.breaks.add((node, f"version {graph.version} changed without a new number: {why}"))
            elif lost is not None:
                found.losses.add((node, f"of its input, {lost}"))

    async def _description(self, workflow: str, version: str) -> Description | None:
        key = (workflow, version)
        if key not in self._descriptions:
            self._descriptions[key] = await self._services.versions.find(*key)
        return self._descriptions[key]

    async def _decode(self, run: StoredRun, graph: Graph, live: Sequence[StoredItem], found: Found) -> None:
        """Decode with this code's types what is stored of the run."""
        run_id = run.header.run_id
        try:
            await self._decode_context(run, graph)
        except USER_ERRORS as error:  # the user's types and reducers
            found.breaks.add(("", f"its context cannot be decoded: {told(error)}"))
        for each in live:
            node = graph.nodes.get(each.item.node)
            if node is None:
                found.breaks.add((each.item.node, f"version {graph.version} has no such node"))
                continue
            try:
                if each.item.input.kind is InputKind.PAYLOAD and each.item.input.payload:
                    payload = input_of(self._services.sealing, run_id, each.item)
                    decode_stored(node.input, payload, f"The input of node {node.name!r}")
            except USER_ERRORS as error:  # the user's types
                found.breaks.add((node.name, told(error)))
        await self._decode_waiting(run_id, graph, live, found)

    async def _decode_waiting(self, run_id: RunId, graph: Graph, live: Sequence[StoredItem], found: Found) -> None:
        """Decode what has arrived for nodes that have not begun."""
        for each in live:
            name, input_ = each.item.node, each.item.input
            if input_.kind in (InputKind.ARRIVALS, InputKind.FOLD):
                try:
                    await self._decode_arrivals(run_id, graph, name, input_.opener)
                except USER_ERRORS as error:  # the user's types
                    found.breaks.add((name, told(error)))
            elif input_.kind is InputKind.JOIN:
                await self._decode_joined(run_id, graph, name, input_.opener, found)
        async for _, join in all_waiting(self._services, run_id, [each.item for each in live]):
            await self._decode_joined(run_id, graph, join.node, join.join_id, found)
        await self._decode_scopes(run_id, graph, live, found)
        await self._decode_mail(run_id, graph, found)

    async def _decode_context(self, run: StoredRun, graph: Graph) -> None:
        if graph.context is NoContext:
            return
        loaded = await self._services.contexts.peek(run.header, graph.context)
        view: Any = loaded.state.view("check")
        for name in graph.context.__context_fields__:
            getattr(view, name)

    async def _decode_scopes(self, run_id: RunId, graph: Graph, live: Sequence[StoredItem], found: Found) -> None:
        """Decode what has arrived at joins that still wait."""
        for scope_id in {scope for each in live for scope in each.item.scope}:
            scope = await self._services.items.scope(run_id, scope_id)
            try:
                await self._decode_arrivals(run_id, graph, scope.then.node, scope.then.input.opener)
            except USER_ERRORS as error:  # the user's types
                found.breaks.add((scope.then.node, told(error)))

    async def _decode_joined(self, run_id: RunId, graph: Graph, name: str, join_id: str, found: Found) -> None:
        """Decode what has arrived at a join of edges; where it is a join no more, the graphs are compared elsewhere."""
        node = graph.nodes.get(name)
        if node is None or node.join is None:
            return
        for position, payload in await self._services.joins.arrivals(run_id, join_id, limit=MOST_ARRIVALS):
            try:
                if position < len(node.join.sources):
                    decode_stored(node.join.part(position), payload, f"What arrived at node {name!r}")
            except USER_ERRORS as error:  # the user's types
                found.breaks.add((name, told(error)))

    async def _decode_arrivals(self, run_id: RunId, graph: Graph, name: str, opener: str) -> None:
        gather = graph.nodes.get(name)
        if gather is None or gather.element is None:
            return
        for _, payload in await self._services.runs.arrivals(run_id, opener, limit=MOST_ARRIVALS):
            decode_stored(gather.element, payload, f"What arrived at node {name!r}")

    async def _decode_mail(self, run_id: RunId, graph: Graph, found: Found) -> None:
        """Decode the values of declared signals that nobody has received yet."""
        if not graph.signals:
            return
        for mail in (await self._services.mailbox.unread(run_id)).mail:
            signal = graph.signals.get(mail.name)
            try:
                if signal is None:
                    found.breaks.add(("", f"it has a value of signal {mail.name!r}, which is not declared any more"))
                    continue
                payload = self._services.sealing.open(mail.payload, mail_place(run_id, mail.name, mail.signal_id))
                decode_stored(signal.payload, payload, f"A value of signal {mail.name!r}")
            except USER_ERRORS as error:  # the user's types
                found.breaks.add(("", told(error)))


def _drawn(node: NodeDescription) -> tuple[object, ...]:
    """Return what of a node is to be the same in one version, apart from its types."""
    return node.form, node.edges, node.calls


def told(error: BaseException) -> str:
    """Return an error as a report says it."""
    if isinstance(error, StoreError):
        return f"it cannot be read: {error}"
    text = str(error).partition(" Deploy code that reads it")[0]
    return text or type(error).__name__
