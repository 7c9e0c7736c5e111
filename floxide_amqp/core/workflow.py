"""Workflows: a class that names its start and its edges is checked and compiled when it is created."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.blueprint import Draft
from floxide_amqp.core.compensation import Cancelled
from floxide_amqp.core.compiler import compile_graph
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.draft import draft_paths
from floxide_amqp.core.drawing import draw_dot, draw_mermaid
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.layout import Declared
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.core.node import Node, is_node
from floxide_amqp.core.options import (
    DEFAULT_QUEUE,
    NodeOptions,
    WorkflowOptions,
    check_queue,
    check_retry,
    check_run_limit,
    check_timeout,
    check_versions,
)
from floxide_amqp.core.path import Path
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.signature import EnclosingNames, resolve_annotations
from floxide_amqp.core.task_queues import check_labels
from floxide_amqp.core.type_args import arguments_for, free_type_vars, plain_type
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.versions import VersionPolicy
from floxide_amqp.exceptions import DefinitionError

WI = TypeVar("WI")
WO = TypeVar("WO")
CD = TypeVar("CD", bound=Context, default=NoContext)

MAX_LABEL_LENGTH = 200
"""Characters of a workflow's name or version: they are part of keys and messages."""


class WorkflowDefinition(Generic[WI, WO, CD]):
    """A graph of nodes from an input to an output, over a context: ``class Shop(Workflow[Order, Receipt, Account])``.

    The class statement compiles it, so that a mistake is an error where it was made. A class with neither `start`
    nor `edges` is not compiled: other workflows may derive from it, and inherit its options.

    Attributes:
        start: The node that receives the run's input.
        edges: Paths; together they are the graph. A path with ``when`` and without ``>>`` ends the branch there.
        signals: The signals that its runs take, so that senders are told of a wrong one; empty to take any.
        on_cancel: A node that runs first when a run is cancelled, before compensations; it takes `Cancelled`.
        graph: The compiled graph.
        old_contexts: The context classes of older versions, by version, that runs are read with before `migrate`; by
            default with the new one.
    """

    start: Path[WI, Any]
    edges: ClassVar[tuple[Path[Any, Any], ...]] = ()
    signals: ClassVar[tuple[Signal[Any], ...]] = ()
    on_cancel: ClassVar[Node[Cancelled, Any] | None] = None
    graph: ClassVar[Graph]
    old_contexts: ClassVar[Mapping[str, type[Context]]] = MappingProxyType({})

    _draft: ClassVar[Draft]
    _retry: ClassVar[RetryPolicy | None] = None
    _timeout: ClassVar[timedelta | None] = None
    _queue: ClassVar[str] = ""
    _labels: ClassVar[frozenset[str] | None] = None
    _priorities: ClassVar[bool] = False
    _concurrency: ClassVar[Concurrency | None] = None
    _versions: ClassVar[VersionPolicy] = VersionPolicy.STRICT

    def __init_subclass__(
        cls,
        *,
        version: str = "1",
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | float | None = None,
        queue: str = "",
        labels: AbstractSet[str] | None = None,
        versions: VersionPolicy | None = None,
        priorities: bool | None = None,
        concurrency: Concurrency | None = None,
        **more: Any,
    ) -> None:
        super().__init_subclass__(**more)
        where = f"Workflow {cls.__name__!r}"
        cls._retry = check_retry(retry, where=where) or cls._retry
        cls._timeout = check_timeout(timeout, where=where) or cls._timeout
        cls._queue = check_queue(queue, where=where) or cls._queue
        cls._labels = cls._labels if labels is None else check_labels(labels, where=where)
        cls._versions = check_versions(versions, where=where) or cls._versions
        cls._priorities = cls._priorities if priorities is None else priorities is True
        cls._concurrency = check_run_limit(concurrency, where=where) or cls._concurrency
        start: object = getattr(cls, "start", None)
        if start is None:
            if cls.edges:
                raise DefinitionError(
                    f"{where} has edges but no start. Name the node that receives the input: start = charge."
                )
            return
        annotations = _type_arguments(cls)
        declared = Declared(
            name=_check_label(name if name is not None else cls.__name__, where, "name"),
            version=_check_label(version, where, "version"),
            input=annotations[0],
            output=annotations[1],
            context=_check_context(annotations[2], where),
            options=WorkflowOptions(
                retry=cls._retry,
                timeout=cls._timeout,
                queue=cls._queue or DEFAULT_QUEUE,
                labels=cls._labels,
                versions=cls._versions,
                priorities=cls._priorities,
                concurrency=cls._concurrency,
            ),
            on_cancel=_check_on_cancel(cls.on_cancel, where),
            signals=_check_signals(cls.signals, where),
        )
        cls._draft = draft_paths(_check_start(start, where), _check_edges(cls.edges, where))
        cls.graph = compile_graph(declared, cls._draft)

    @classmethod
    def migrate(cls, run: RunToMigrate) -> None:
        """Change a run of an older version so that this one can go on with it; by default nothing is changed.

        Called where the class says ``versions=VersionPolicy.AUTO_UPGRADE``, with the run as it stands. It must be
        quick, and it may be called again. If it raises, the item that led to the run is set aside with the reason, and
        nothing is changed.

        Args:
            run: The run: its context, and the inputs of its steps that have not ended.
        """
        del run

    @classmethod
    def to_dot(cls) -> str:
        """Return the graph in the language of Graphviz."""
        return draw_dot(cls.graph)

    @classmethod
    def to_mermaid(cls) -> str:
        """Return the graph as a Mermaid flowchart."""
        return draw_mermaid(cls.graph)

    @classmethod
    def draft(cls) -> Draft:
        """Return the graph before it was compiled, for inlining it into another."""
        return cls._draft

    @classmethod
    def defaults(cls) -> NodeOptions:
        """Return what nodes that leave their options open get from this workflow."""
        return NodeOptions(queue=cls._queue, retry=cls._retry, labels=cls._labels)


def _type_arguments(cls: type[WorkflowDefinition[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    where = f"Workflow {cls.__name__!r}"
    given = arguments_for(cls, WorkflowDefinition)
    is_generic = bool(getattr(cls, "__parameters__", ()))  # `class Shop(Workflow)` is not: it names no types at all
    if given is None or len(given) < 2 or (not is_generic and any(map(free_type_vars, given))):
        raise DefinitionError(
            f"{where} does not say what it takes and returns. Declare it: "
            f"class {cls.__name__}(Workflow[Order, Receipt]), with the context as third argument where it has one."
        )
    context = given[2] if len(given) > 2 else NoContext
    module = vars(sys.modules[cls.__module__])
    names = EnclosingNames(cls.__qualname__, module)()
    hints = resolve_annotations({"input": given[0], "output": given[1], "context": context}, module, names, where=where)
    for part, annotation in hints.items():
        if free_type_vars(annotation):
            raise DefinitionError(
                f"{where} leaves the type of its {part}, {describe_type(annotation)}, open. A workflow with a start "
                "needs its types: derive a class with the type filled in, and give that the start."
            )
    return hints["input"], hints["output"], hints["context"]


def _check_context(annotation: object, where: str) -> type[Context]:
    plain = plain_type(annotation)
    if isinstance(plain, type) and issubclass(plain, Context):
        return plain
    shown = describe_type(cast(object, plain))
    raise DefinitionError(f"{where}: its context {shown} is not a context. Make it one: class {shown}(Context).")


def _check_start(start: object, where: str) -> Node[Any, Any]:
    if is_node(start):
        return start
    if isinstance(start, FunctionType):
        raise DefinitionError(f"{where}: start is the function {start.__name__}, not a node: put @node above it.")
    shown = f"the class {start.__name__}" if isinstance(start, type) else repr(start)
    raise DefinitionError(
        f"{where}: start is {shown}; it must be one node. Write start = charge, and in edges: charge >> (a, b)."
    )


def _check_signals(given: object, where: str) -> dict[str, Signal[Any]]:
    if not isinstance(given, tuple) or not all(isinstance(each, Signal) for each in cast("tuple[object, ...]", given)):
        raise DefinitionError(f"{where}: signals is {given!r}; it must be a tuple of signals: signals = (APPROVAL,).")
    signals = cast("tuple[Signal[Any], ...]", given)
    named = {signal.name: signal for signal in signals}
    if len(named) < len(signals):
        raise DefinitionError(f"{where}: two of its signals have one name. Each needs a name of its own.")
    return named


def _check_on_cancel(given: object, where: str) -> Node[Any, Any] | None:
    if given is None or is_node(given):
        return given
    raise DefinitionError(f"{where}: on_cancel is {given!r}; it must be a node that takes Cancelled.")


def _check_edges(edges: object, where: str) -> Iterable[Path[Any, Any]]:
    if isinstance(edges, Path):
        raise DefinitionError(f"{where}: edges is a single path. Put it into a tuple, with a comma: edges = (a >> b,).")
    if not isinstance(edges, tuple | list):
        raise DefinitionError(f"{where}: edges is {edges!r}; it must be a tuple of paths: edges = (a >> b, b >> c).")
    for path in cast("tuple[object, ...]", edges):
        if not isinstance(path, Path):
            raise DefinitionError(
                f"{where}: edges holds {path!r}, which is not a path. Connect nodes with >>: edges = (a >> b, b >> c)."
            )
    return cast("tuple[Path[Any, Any], ...]", edges)


def _check_label(given: object, where: str, part: str) -> str:
    if isinstance(given, str) and 0 < len(given) <= MAX_LABEL_LENGTH and given.isprintable() and given == given.strip():
        return given
    raise DefinitionError(f"{where}: {part}={given!r} must be 1 to {MAX_LABEL_LENGTH} printable characters.")
