"""Workflows made by a program: the same graph as a class statement gives, from a loop."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar, Generic, Self, cast

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.entering import gather, repeat
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.path import Path
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError

I = TypeVar("I")  # noqa: E741  # input; the letter every signature of the package uses
O = TypeVar("O")  # noqa: E741  # output
T = TypeVar("T")
V = TypeVar("V")
C = TypeVar("C", bound=Context, default=NoContext)


class GraphBuilder(Generic[I, O, C]):
    """Collects paths and makes a workflow of them.

    Thousands of nodes are fine: nothing is recursive, and the cost grows with the number of edges.

    Example:
        >>> builder = GraphBuilder(first, output=int, name="Long")  # doctest: +SKIP
        >>> builder.chain([first, *(step.named(f"step-{n}") for n in range(5_000))])  # doctest: +SKIP
        >>> Long = builder.build()  # doctest: +SKIP

    Args:
        start: The node that receives the input.
        output: Type of the workflow's output.
        context: Class of the runs' state; None for `NoContext`.
        name, version, retry, timeout, queue, concurrency: As in the class statement of a workflow.
    """

    base: ClassVar[Any] = WorkflowDefinition
    """What the workflows it makes derive from."""

    def __init__(
        self,
        start: Path[I, Any],
        *,
        output: type[O],
        name: str,
        context: type[C] | None = None,
        version: str = "1",
        retry: RetryPolicy | None = None,
        timeout: timedelta | float | None = None,
        queue: str = "",
        concurrency: Concurrency | None = None,
    ) -> None:
        self._start = start
        self._output = output
        self._context = NoContext if context is None else context
        self._name = name
        self._options: dict[str, Any] = {
            "version": version, "name": name, "retry": retry, "timeout": timeout, "queue": queue,
            "concurrency": concurrency,
        }  # fmt: skip
        self._paths: list[Path[Any, Any]] = []

    def add(self, *paths: Path[Any, Any]) -> Self:
        """Add paths, written with ``>>`` as in `WorkflowDefinition.edges`."""
        self._paths += paths
        return self

    def connect(self, source: Path[Any, T], target: Path[T, Any]) -> Self:
        """Add a plain edge."""
        return self.add(source >> target)

    def branch(
        self, source: Path[Any, Any], variant: type[V] | Enum | Callable[[Any], bool], target: Path[Any, Any]
    ) -> Self:
        """Add an edge for some values: see `Path.when`."""
        return self.add(source.when(cast(Any, variant)) >> target)

    def chain(self, nodes: Iterable[Path[Any, Any]]) -> Self:
        """Add plain edges from each node to the next."""
        listed = list(nodes)
        for source, target in itertools.pairwise(listed):
            self.connect(source, target)
        return self

    def gather(self, sources: Iterable[Path[Any, T]], target: Path[list[T], Any]) -> Self:
        """Add an edge from each source into a node that receives the list of all that arrive."""
        for source in sources:
            self.add(source >> gather(target))
        return self

    def repeat(self, source: Path[Any, T], target: Path[T, Any], *, max_iterations: int) -> Self:
        """Add an edge that leads back: see `floxide_amqp.core.entering.repeat`."""
        return self.add(source >> repeat(target, max_iterations=max_iterations))

    def build(self) -> type[WorkflowDefinition[I, O, C]]:
        """Return the workflow.

        Raises:
            DefinitionError: As the class statement of a workflow.
        """
        signature = getattr(self._start, "signature", None)
        if signature is None:
            raise DefinitionError(f"GraphBuilder(name={self._name!r}): its start must be one node.")
        base: Any = self.base[signature().input, self._output, self._context]
        body = {"start": self._start, "edges": tuple(self._paths), "__module__": type(self).__module__}
        made = types.new_class(self._name, (base,), self._options, lambda namespace: namespace.update(body))
        return cast("type[WorkflowDefinition[I, O, C]]", made)
