"""The context that a run begins with, encoded."""

from __future__ import annotations

import functools

from floxide_amqp.core.context import Context, context_to_plain
from floxide_amqp.core.graph import Graph
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.stores.encoding import pack


def initial_context(graph: Graph, context: Context | None) -> bytes:
    """Return the context of a run, encoded; without one, that in which every field has its default.

    Raises:
        DefinitionError: It is missing where a field has no default, or is of another class than the workflow's.
        CodecError: A field was assigned a value of another type, or it is too large.
    """
    if context is None:
        try:
            return _default_context(graph.context)
        except TypeError as error:
            raise DefinitionError(
                f"Workflow {graph.workflow!r} needs a context: pass context={graph.context.__name__}(...). {error}"
            ) from error
    if not isinstance(context, graph.context):
        raise DefinitionError(
            f"Workflow {graph.workflow!r} has the context {graph.context.__name__}, not {type(context).__name__}."
        )
    return pack(context_to_plain(context))


def _default_context(context: type[Context]) -> bytes:
    """Return what runs have that are given none: the same for all, unless the class has a constructor of its own."""
    if context.__init__ is not Context.__init__:
        return pack(context_to_plain(context()))
    return _of_defaults(context)  # type: ignore[arg-type]  # its instances cannot be hashed, it can


@functools.lru_cache(maxsize=1_000)
def _of_defaults(context: type[Context]) -> bytes:
    return pack(context_to_plain(context()))
