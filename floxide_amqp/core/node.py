"""Nodes: what all of them have, and classes that carry configuration; functions are in `function_node`.

A node object says what it takes and returns, how it wants to be run, and runs the user's code when told to. It holds no
state of a run.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from typing_extensions import TypeIs, TypeVar

from floxide_amqp.core.blueprint import AnyNode, Draft
from floxide_amqp.core.class_signature import read_class
from floxide_amqp.core.connections import Connections, Entry, Exit
from floxide_amqp.core.context import Context
from floxide_amqp.core.limits import Concurrency
from floxide_amqp.core.node_names import OPTION_NAMES, DefaultName, check_name, refuse_reserved_names
from floxide_amqp.core.options import Executor, NodeOptions, check_node_options
from floxide_amqp.core.path import Path
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.rates import RateLimit
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.signature import EnclosingNames, NodeSignature
from floxide_amqp.core.transition import Transition
from floxide_amqp.core.type_args import free_type_vars, type_parameters
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

N = TypeVar("N", bound="Node[Any, Any]")
I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)


class Node(Path[I_contra, O_co]):
    """A step: subclass it where a node carries configuration; for a plain function use `node`.

    ``process`` is the step. Options are class attributes or keywords of the class statement; type arguments are the
    input and the output. Frozen, slotted and generic dataclasses work; a generic one is used as ``Foo[int](...)``.

    Example:
        >>> class Scale(Node[float, float], queue="fast"):
        ...     def __init__(self, factor: float) -> None:
        ...         self.factor = factor
        ...
        ...     async def process(self, ctx: WorkflowCtx[Any], input: float, /) -> float:
        ...         return input * self.factor

    Attributes:
        name: Unique in a workflow; the class's name where nothing else is given.
    """

    name: str = cast(str, DefaultName())
    queue: ClassVar[str]
    retry: ClassVar[RetryPolicy | None]
    timeout: ClassVar[timedelta | float | None]
    isolated: ClassVar[bool]
    at_most_once: ClassVar[bool]
    requires: ClassVar[tuple[type, ...]]
    compensation: ClassVar[Node[Any, Any] | None]
    concurrency: ClassVar[Concurrency | None]
    rate: ClassVar[RateLimit | None]
    priority: ClassVar[Priority | None]
    labels: ClassVar[AbstractSet[str] | None]
    executor: ClassVar[Executor]

    _names: ClassVar[EnclosingNames | None] = None
    _needs_arguments: ClassVar[bool] = True
    _signature: ClassVar[NodeSignature | None] = None
    _own_options: NodeOptions | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        unknown = sorted(set(options) - set(OPTION_NAMES))
        if unknown:
            raise DefinitionError(
                f"class {cls.__name__}: {unknown[0]!r} is no option of a node. "
                f"The options are {', '.join(OPTION_NAMES)}."
            )
        for name, value in options.items():
            setattr(cls, name, value)
        if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
            refuse_reserved_names(cls)
            cls._names = EnclosingNames(cls.__qualname__, sys.modules[cls.__module__].__dict__)

    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """Refuse a generic class without its type arguments."""
            del args, kwargs
            parameters = type_parameters(cls)
            if parameters and cls._needs_arguments:
                holes = ", ".join("int" if len(parameters) == 1 else p.__name__ for p in parameters)
                raise DefinitionError(
                    f"{cls.__name__}(...) leaves {', '.join(p.__name__ for p in parameters)} open, but the engine must "
                    f"know its types. Write {cls.__name__}[{holes}](…) with the types in brackets."
                )
            return super().__new__(cls)

        def __class_getitem__(cls, item: Any) -> Any:
            """Return the class for type arguments: a subclass, since a frozen slotted one takes no alias in 3.11."""
            alias = super().__class_getitem__(item)
            arguments = item if isinstance(item, tuple) else (item,)
            if not cls._needs_arguments or cls.process is Node.process:
                return alias
            if any(free_type_vars(argument) for argument in arguments):
                return alias
            return _specialise(cls, arguments, alias)

    def process(
        self, ctx: WorkflowCtx[Any], input: I_contra, /
    ) -> Transition[O_co] | O_co | Awaitable[Transition[O_co] | O_co]:
        """Do the step; ``async def`` or ``def``.

        Args:
            ctx: The run's state and what the step may ask for.
            input: The value the step works on.
        """
        raise NotImplementedError

    def connections(self) -> Connections:
        """Return the node as a path of one."""
        return Connections((Entry(self),), (Exit(self),))

    def expand(self) -> Draft | None:
        """Return the plain nodes this node stands for; None where it is one."""
        return None

    def signature(self) -> NodeSignature:
        """Return what the node takes and returns.

        Raises:
            DefinitionError: Its annotations do not say, or name what is not defined (yet).
        """
        cls = type(self)
        known = cls.__dict__.get("_signature")
        if isinstance(known, NodeSignature):
            return known
        names = cls._names() if cls._names is not None else {}
        found = read_class(cls, Node, names)
        cls._signature = found
        cls._names = None
        return found

    @property
    def input_type(self) -> Any:
        """The annotation of its input."""
        return self.signature().input

    @property
    def output_type(self) -> Any:
        """The annotation of one value it passes on: of `NextAll`, one element."""
        return self.signature().output

    @property
    def context_type(self) -> type[Context]:
        """The context class it reads; `Context` where any will do."""
        return self.signature().context

    @property
    def is_async(self) -> bool:
        """Whether `invoke` gives an awaitable."""
        return self.signature().is_async

    @property
    def may_fan_out(self) -> bool:
        """Whether it may return `NextAll`."""
        return self.signature().may_fan_out

    @property
    def may_hold(self) -> bool:
        """Whether it may return `Hold`."""
        return self.signature().may_hold

    @property
    def options(self) -> NodeOptions:
        """How it wants to be run.

        Raises:
            DefinitionError: An option is out of range, or a field has the name of one.
        """
        if self._own_options is not None:
            return self._own_options
        cls = type(self)
        given = {name: getattr(cls, name) for name in OPTION_NAMES if hasattr(cls, name)}
        for name, value in given.items():
            if inspect.isdatadescriptor(value) or inspect.ismemberdescriptor(value):
                raise DefinitionError(
                    f"{cls.__name__}.{name} is a field, but {name!r} is an option of every node. "
                    f"Give the field another name, or set the option: class {cls.__name__}(Node[...], {name}=...)."
                )
        return check_node_options(where=f"class {cls.__name__}", **given)

    def invoke(self, ctx: WorkflowCtx[Any], value: Any) -> Any:
        """Call the user's code with an input; an awaitable where `is_async`."""
        return self.process(ctx, value)

    def named(self, name: str) -> Self:
        """Return a second copy of the node under another name, for use beside the first in one graph.

        Args:
            name: Unique in the graph; without slashes.

        Raises:
            DefinitionError: It cannot be a name.
        """
        clone = _clone(self)
        object.__setattr__(clone, "name", check_name(name, where=f"{self.name}.named({name!r})"))
        return clone

    def with_options(self, **options: Any) -> Self:
        """Return a copy of the node with some options replaced; it keeps its name.

        Raises:
            DefinitionError: Something given is no option, or has a wrong value.
        """
        current = self.options
        given = {name: getattr(current, name) for name in OPTION_NAMES} | options
        clone = _clone(self)
        object.__setattr__(clone, "_own_options", check_node_options(where=f"node {self.name!r}", **given))
        return clone

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name is this one, written twice: equal dataclasses are."""
        return self is other or (type(self) is type(other) and self == other and self.options == other.options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def is_node(given: object) -> TypeIs[Node[Any, Any]]:
    """Say whether something is a node."""
    return isinstance(given, Node)


def with_retry(node: N, policy: RetryPolicy) -> N:
    """Return a copy of a node with another retry policy, under the same name.

    Args:
        node: Any node; of a `BatchNode` or `CompositeNode` the policy of inner nodes without their own.
        policy: The policy.
    """
    return node.with_options(retry=policy)


@functools.cache
def _specialise(cls: type[Node[Any, Any]], arguments: tuple[Any, ...], alias: Any) -> type[Node[Any, Any]]:
    shown = f"{cls.__name__}[{', '.join(describe_type(argument) for argument in arguments)}]"
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": (),
        "__orig_bases__": (alias,),
        "_unspecialised": cls,
    }
    metaclass: Any = type(cls)
    return cast("type[Node[Any, Any]]", metaclass(shown, (cls,), namespace))


def _clone(node: N) -> N:
    """Copy a node field by field: `copy.copy` of a frozen slotted dataclass would lose what is in its `__dict__`."""
    clone = object.__new__(type(node))
    for cls in type(node).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(node, slot):
                object.__setattr__(clone, slot, getattr(node, slot))
    for name, value in vars(node).items():
        object.__setattr__(clone, name, value)
    return clone
