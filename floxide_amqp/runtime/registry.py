"""Which workflows a process has, by name and version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeGuard

from floxide_amqp.core.agreement import Agreement
from floxide_amqp.core.child_workflow import children_of
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.options import DEFAULT_QUEUE
from floxide_amqp.core.priorities import LEVELS, Priority, leveled
from floxide_amqp.core.task_queues import labels_needed, queue_named, served_queues
from floxide_amqp.core.versions import is_newer
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import ConfigurationError, UnknownWorkflowError


class Declared(Protocol):
    """What an application declares that starts runs: a schedule, a source."""

    @property
    def name(self) -> str:
        """Tells it from others of its kind."""
        ...

    @property
    def workflow(self) -> type[WorkflowDefinition[Any, Any, Any]]:
        """The workflow of its runs."""
        ...


class Registry:
    """The workflows of one application.

    Attributes:
        agreements: What is known of older versions that it does not have, by workflow and version.

    Raises:
        ConfigurationError: Two classes have the same name and version, or something is no workflow that can be run.
    """

    def __init__(self, workflows: Iterable[type[WorkflowDefinition[Any, Any, Any]]]) -> None:
        self._graphs: dict[tuple[str, str], Graph] = {}
        self._classes: dict[str, type[WorkflowDefinition[Any, Any, Any]]] = {}
        self._versions: dict[tuple[str, str], type[WorkflowDefinition[Any, Any, Any]]] = {}
        self._named: dict[str, type[WorkflowDefinition[Any, Any, Any]]] = {}
        self._stand_ins: dict[tuple[str, str], Graph] = {}
        self.agreements: dict[tuple[str, str], Agreement] = {}
        for workflow in _with_children(check_workflows(workflows)):
            graph = workflow.graph
            key = (graph.workflow, graph.version)
            if key in self._graphs and self._graphs[key] is not graph:
                raise ConfigurationError(
                    f"Two workflows are called {graph.workflow!r} with version {graph.version!r}. "
                    "Give one of them another name=... or version=...."
                )
            self._graphs[key] = graph
            self._named[f"{graph.workflow}@{graph.version}"] = workflow
            known = self._classes.get(graph.workflow)
            if known is None or not is_newer(known.graph.version, graph.version):
                self._classes[graph.workflow] = workflow
            self._versions[key] = workflow

    @property
    def graphs(self) -> Mapping[tuple[str, str], Graph]:
        """Every graph by workflow name and version."""
        return self._graphs

    def find(self, workflow: str, version: str) -> Graph | None:
        """Return the graph of a workflow's version, or what stands in for it; None where neither is there."""
        key = (workflow, version)
        return self._graphs.get(key) or self._stand_ins.get(key)

    def has(self, workflow: str, version: str) -> bool:
        """Whether this very version of a workflow is there."""
        return (workflow, version) in self._graphs

    def let_stand_in(self, workflow: str, version: str, graph: Graph) -> None:
        """Let a newer version's graph run from now on what it may of an older version's runs."""
        self._stand_ins[workflow, version] = graph

    def newer(self, workflow: str, version: str) -> type[WorkflowDefinition[Any, Any, Any]] | None:
        """Return the newest version of a workflow if it is newer than another; None where this application has none."""
        known = self._classes.get(workflow)
        return known if known is not None and is_newer(known.graph.version, version) else None

    def latest(self, name: str) -> Graph | None:
        """Return the graph of a workflow by name, its newest version; None where there is none."""
        workflow = self._classes.get(name)
        return None if workflow is None else workflow.graph

    def workflow(self, name: str) -> type[WorkflowDefinition[Any, Any, Any]]:
        """Return a workflow's class by name: its newest version, or one named as ``Orders@2``.

        Raises:
            UnknownWorkflowError: There is none; the message lists those there are.
        """
        found = self._classes.get(name) or self._named.get(name)
        if found is None:
            known = self.names() if "@" in name else (*sorted(self._classes), *self._several())
            raise UnknownWorkflowError(workflow=name, known=known)
        return found

    def _several(self) -> Sequence[str]:
        """Return, as ``name@version``, the workflows of which there are several versions."""
        count = Counter(workflow for workflow, _ in self._versions)
        return sorted(f"{workflow}@{version}" for workflow, version in self._versions if count[workflow] > 1)

    def classes(self) -> Iterable[type[WorkflowDefinition[Any, Any, Any]]]:
        """Return every workflow's class, each version for itself."""
        return self._versions.values()

    def check_declared(self, kind: str, declared: Sequence[Declared]) -> None:
        """Make sure that all workflows of what starts runs are here, and that no two have one name.

        Args:
            kind: What it is, for errors: ``schedule``.
            declared: All of that kind.

        Raises:
            ConfigurationError: A workflow is missing, or two have one name.
        """
        for each in declared:
            graph = graph_of(each.workflow)
            if self.find(graph.workflow, graph.version) is not graph:
                raise ConfigurationError(
                    f"{kind.capitalize()} {each.name!r} is of workflow {graph.workflow!r}, which is not among "
                    "workflows=[...]. Add it."
                )
            if sum(each.name == other.name for other in declared) > 1:
                raise ConfigurationError(f"Two {kind}s are called {each.name!r}. Give one of them another name.")

    def names(self) -> tuple[str, ...]:
        """The workflows as ``name@version``, sorted."""
        return tuple(sorted(f"{name}@{version}" for name, version in self._graphs))

    def queues(self) -> tuple[str, ...]:
        """Every task queue that a node of these workflows uses, sorted."""
        return tuple(sorted({queue for graph in self._graphs.values() for queue in queues_of(graph)}))

    def served(
        self, queues: Collection[str], labels: AbstractSet[str] | None, *, only_labelled: bool = False
    ) -> tuple[str, ...]:
        """Return the task queues that a worker serves, sorted; see `served_queues`.

        Raises:
            ConfigurationError: There would be none, because of `only_labelled`; or a queue is named as ``queue/label``
                and the worker lacks the label.
        """
        _check_named(queues, labels)
        used = self.queues() or (DEFAULT_QUEUE,)
        found = served_queues(used, queues=queues, labels=labels, only_labelled=only_labelled)
        if found:
            return found
        if only_labelled:
            has = ", ".join(sorted(labels)) if labels else "none"
            raise ConfigurationError(
                f"This worker would serve no task queue: only labelled work, and its labels are {has}. The workflows' "
                f"task queues are {', '.join(used)} (queue/label)."
            )
        return tuple(sorted(frozenset(map(queue_named, used)) & frozenset(queues or map(queue_named, used))))

    def required_resources(self) -> dict[type, list[str]]:
        """Resource types that nodes require, with the nodes that do."""
        wanted: dict[type, list[str]] = {}
        for graph in self._graphs.values():
            for name, node in graph.nodes.items():
                for kind in node.options.requires:
                    wanted.setdefault(kind, []).append(f"{graph.workflow}.{name}")
        return wanted


def queues_of(graph: Graph) -> set[str]:
    """Return every task queue that a node of a workflow uses, at each level that its runs may have."""
    used = {node.options.queue for node in graph.nodes.values()}
    levels = LEVELS if graph.options.priorities else (Priority.NORMAL,)
    return {leveled(queue, level) for queue in used for level in levels}


def _check_named(queues: Collection[str], labels: AbstractSet[str] | None) -> None:
    """Refuse queues that are named with labels which the worker lacks: it would wait for nothing, without a word."""
    for queue in sorted(queues):
        needed = labels_needed(queue)
        if labels is not None and not needed <= labels:
            which = "label" if len(needed) == 1 else "labels"
            raise ConfigurationError(
                f"This worker is told to serve task queue {queue!r}, which is for workers with {which} "
                f"{', '.join(sorted(needed))}, and its labels are {', '.join(sorted(labels)) or 'none'}. Give it those "
                "labels too, or leave the queue to others."
            )


def check_workflows(given: Any) -> Iterable[type[WorkflowDefinition[Any, Any, Any]]]:
    """Yield the workflows given to an application.

    Raises:
        ConfigurationError: One is not a workflow class, or has no start.
    """
    if not _is_list(given):
        raise ConfigurationError(f"workflows={_shown(given)} is not a list. Write workflows=[OrderProcessing].")
    for workflow in given:
        if not _is_workflow(workflow):
            raise ConfigurationError(
                f"workflows holds {_shown(workflow)}, which is not a workflow class. Give the classes themselves: "
                "workflows=[OrderProcessing]."
            )
        graph_of(workflow)
        yield workflow


def _with_children(
    workflows: Iterable[type[WorkflowDefinition[Any, Any, Any]]],
) -> Iterable[type[WorkflowDefinition[Any, Any, Any]]]:
    """Yield workflows, and those whose runs their nodes start: who runs the one can run the other.

    Those that are given come last, so that they are what their names stand for.
    """
    given = list(workflows)
    left, seen = list(given), set(given)
    others: list[type[WorkflowDefinition[Any, Any, Any]]] = []
    while left:
        for child in children_of(left.pop().graph):
            if child.workflow not in seen:
                seen.add(child.workflow)
                left.append(child.workflow)
                others.append(child.workflow)
    yield from others
    yield from given


def _is_list(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str | bytes)


def _is_workflow(given: object) -> TypeGuard[type[WorkflowDefinition[Any, Any, Any]]]:
    return isinstance(given, type) and issubclass(given, WorkflowDefinition)


def graph_of(workflow: type[WorkflowDefinition[Any, Any, Any]]) -> Graph:
    """Return a workflow's graph.

    Raises:
        ConfigurationError: It has none, or is no workflow.
    """
    if not hasattr(workflow, "graph"):
        if not _is_workflow(workflow):
            raise ConfigurationError(
                f"{_shown(workflow)} is not a workflow class. Give the class itself, such as OrderProcessing."
            )
        raise ConfigurationError(
            f"Workflow {workflow.__name__!r} has no start, so there is nothing to run. Give it a start and edges, "
            "or name a class derived from it that has them."
        )
    return workflow.graph


def _shown(given: object) -> str:
    return given.__name__ if isinstance(given, type) else repr(given)
