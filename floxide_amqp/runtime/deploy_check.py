"""What would break if this application took over the open runs of a store: asked before a deploy, nothing is written.

Each open run is read, and what is stored of it decoded with this application's types: the inputs of its live items,
what arrived at their joins, what signals brought, its context. A run of a version that is not here is checked as the
policy of the newest version says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from floxide_amqp.core.agreement import agree
from floxide_amqp.core.context import NoContext
from floxide_amqp.core.descriptions import Description, describe_graph
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import InputKind
from floxide_amqp.core.shape_tables import Reading
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.described import OPEN
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.upgrading import MAX_LIVE, plan_upgrade
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed_places import mail_place
from floxide_amqp.stores.sealed_records import input_of

PAGE: Final = 500
"""Runs listed in one round trip."""

TOLD_EVERY: Final = 500
"""Runs after which the progress is told."""

MOST_EXAMPLES: Final = 5
"""Runs that are named of those with the same problem."""

MOST_ARRIVALS: Final = 100
"""Values of a join that are decoded of each run."""


@dataclass(slots=True, kw_only=True)
class Problem:
    """What would break, or be lost, and of how many runs.

    Attributes:
        node: The node; empty where it is the run as a whole.
        reason: Why.
        runs: How many runs.
        examples: Some of them.
    """

    workflow: str
    version: str
    node: str
    reason: str
    runs: int = 0
    examples: list[str] = field(default_factory=list[str])


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What a check came to.

    Attributes:
        runs: Open runs that were checked.
        broken: Runs of which something would break.
        checked: Runs by workflow and version, as ``name@version``.
        breaks: What would break, the most frequent first.
        losses: Fields that nobody would read any more.
    """

    runs: int = 0
    broken: int = 0
    checked: Counter[str] = field(default_factory=Counter[str])
    breaks: list[Problem] = field(default_factory=list[Problem])
    losses: list[Problem] = field(default_factory=list[Problem])


async def check_deploy(
    services: Services, *, workflow: str | None = None, on_progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Check every open run against this application.

    Args:
        services: The process's parts.
        workflow: Only runs of this workflow.
        on_progress: Told, now and then, how many runs were checked.
    """
    checker, report = _Checker(services), CheckReport()
    breaks: dict[tuple[str, ...], Problem] = {}
    losses: dict[tuple[str, ...], Problem] = {}
    async for run in _open_runs(services, workflow):
        name, version = run.header.workflow, run.header.version
        found = await checker.problems_of(run)
        report.runs += 1
        report.broken += bool(found.breaks)
        report.checked[f"{name}@{version}"] += 1
        for table, problems in ((breaks, found.breaks), (losses, found.losses)):
            for node, reason in sorted(problems):
                key = (name, version, node, reason)
                problem = table.setdefault(key, Problem(workflow=name, version=version, node=node, reason=reason))
                problem.runs += 1
                if len(problem.examples) < MOST_EXAMPLES:
                    problem.examples.append(run.header.run_id)
        if on_progress is not None and report.runs % TOLD_EVERY == 0:
            on_progress(report.runs)
    report.breaks = sorted(breaks.values(), key=lambda problem: -problem.runs)
    report.losses = sorted(losses.values(), key=lambda problem: -problem.runs)
    return report


async def _open_runs(services: Services, workflow: str | None) -> AsyncGenerator[StoredRun]:
    """Yield the open runs of this application's workflows; one whose status changes meanwhile may come twice or not."""
    names = {name for name, _ in services.registry.graphs}
    for status in OPEN:
        after = ""
        while True:
            page = await services.session.scan(IndexRange(keys.runs_with_status(status), after=after, limit=PAGE))
            for entry in page:
                listed = keys.listed_version(entry.value)
                if listed is not None and (listed[0] not in names or workflow not in (None, listed[0])):
                    continue
                run = await services.runs.find(keys.run_of(entry.entry))
                if run is not None and run.header.workflow in names and workflow in (None, run.header.workflow):
                    yield run
            if len(page) < PAGE:
                break
            after = page[-1].entry


@dataclass(slots=True)
class _Found:
    """What is wrong with one run: pairs of node and reason."""

    breaks: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    losses: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])


class _Checker:
    """Checks runs one by one; what is known of versions is read once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._descriptions: dict[tuple[str, str], Description | None] = {}

    async def problems_of(self, run: StoredRun) -> _Found:
        """Return what is wrong with a run."""
        found, header = _Found(), run.header
        registry = self._services.registry
        newer = registry.newer(header.workflow, header.version)
        graph = registry.graphs.get((header.workflow, header.version))
        policy = VersionPolicy.STRICT if newer is None else newer.graph.options.versions
        live = await self._services.items.live(header.run_id, limit=MAX_LIVE + 1)
        if graph is None and newer is not None and policy is VersionPolicy.AUTO_UPGRADE:
            try:
                await plan_upgrade(self._services, run, live, newer)
            except USER_ERRORS as error:  # the user's migrate, and the user's types
                found.breaks.add(("", f"it cannot be raised to version {newer.graph.version}: {_told(error)}"))
            return found
        if graph is None and newer is not None and policy is VersionPolicy.COMPATIBLE:
            graph = newer.graph
        if graph is None:
            known = [version for name, version in registry.graphs if name == header.workflow]
            found.breaks.add(("", f"this application has no version {header.version}, only {', '.join(known)}"))
            return found
        await self._compare(run, graph, live, found)
        await self._decode(run, graph, live, found)
        return found

    async def _compare(self, run: StoredRun, graph: Graph, live: Sequence[StoredItem], found: _Found) -> None:
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
            elif before is None or after is None or (before.form, before.edges) != (after.form, after.edges):
                found.breaks.add((node, f"version {graph.version} changed without a new number: {why}"))
            elif lost is not None:
                found.losses.add((node, f"of its input, {lost}"))

    async def _description(self, workflow: str, version: str) -> Description | None:
        key = (workflow, version)
        if key not in self._descriptions:
            self._descriptions[key] = await self._services.versions.find(*key)
        return self._descriptions[key]

    async def _decode(self, run: StoredRun, graph: Graph, live: Sequence[StoredItem], found: _Found) -> None:
        """Decode with this code's types what is stored of the run."""
        run_id = run.header.run_id
        try:
            await self._decode_context(run, graph)
        except USER_ERRORS as error:  # the user's types and reducers
            found.breaks.add(("", f"its context cannot be decoded: {_told(error)}"))
        for each in live:
            node = graph.nodes.get(each.item.node)
            if node is None:
                found.breaks.add((each.item.node, f"version {graph.version} has no such node"))
                continue
            try:
                if each.item.input.kind is InputKind.PAYLOAD and each.item.input.payload:
                    payload = input_of(self._services.sealing, run_id, each.item)
                    decode_stored(node.input, payload, f"The input of node {node.name!r}")
                elif node.is_gather and each.item.input.kind in (InputKind.ARRIVALS, InputKind.FOLD):
                    await self._decode_arrivals(run_id, graph, node.name, each.item.input.opener)
            except USER_ERRORS as error:  # the user's types
                found.breaks.add((node.name, _told(error)))
        await self._decode_scopes(run_id, graph, live, found)
        await self._decode_mail(run_id, graph, found)

    async def _decode_context(self, run: StoredRun, graph: Graph) -> None:
        if graph.context is NoContext:
            return
        loaded = await self._services.contexts.peek(run.header, graph.context)
        view: Any = loaded.state.view("check")
        for name in graph.context.__context_fields__:
            getattr(view, name)

    async def _decode_scopes(self, run_id: RunId, graph: Graph, live: Sequence[StoredItem], found: _Found) -> None:
        """Decode what has arrived at joins that still wait."""
        for scope_id in {scope for each in live for scope in each.item.scope}:
            scope = await self._services.items.scope(run_id, scope_id)
            try:
                await self._decode_arrivals(run_id, graph, scope.then.node, scope.then.input.opener)
            except USER_ERRORS as error:  # the user's types
                found.breaks.add((scope.then.node, _told(error)))

    async def _decode_arrivals(self, run_id: RunId, graph: Graph, name: str, opener: str) -> None:
        gather = graph.nodes.get(name)
        if gather is None or gather.element is None:
            return
        for _, payload in await self._services.runs.arrivals(run_id, opener, limit=MOST_ARRIVALS):
            decode_stored(gather.element, payload, f"What arrived at node {name!r}")

    async def _decode_mail(self, run_id: RunId, graph: Graph, found: _Found) -> None:
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
                found.breaks.add(("", _told(error)))


def _told(error: BaseException) -> str:
    if isinstance(error, StoreError):
        return f"it cannot be read: {error}"
    text = str(error).partition(" Deploy code that reads it")[0]
    return text or type(error).__name__
