"""What nodes get by type: clients, pools, models, opened once per worker by the application's lifespan."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, TypeVar, cast

from floxide_amqp.exceptions import ConfigurationError, ResourceNotFoundError

T = TypeVar("T")

Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""An async context manager that yields one resource, or several as a list, a tuple or a dict by type."""


class Resources:
    """Resources by type; a subclass serves where its base is asked for."""

    def __init__(self, given: Mapping[type, object] | None = None) -> None:
        self._by_type = dict(given or {})

    def find(self, kind: type[T], *, node: str) -> T:
        """Return the resource of a type.

        Raises:
            ResourceNotFoundError: There is none; the message names the node and what there is.
        """
        if kind in self._by_type:
            return cast("T", self._by_type[kind])
        for resource in self._by_type.values():
            if isinstance(resource, kind):
                return resource
        known = tuple(sorted(each.__name__ for each in self._by_type))
        raise ResourceNotFoundError(node=node, resource=kind.__name__, known=known)

    def check(self, wanted: Mapping[type, list[str]]) -> None:
        """Make sure that everything nodes require is there.

        Raises:
            ConfigurationError: Something is not; the message names the types and the nodes.
        """
        missing = [
            f"{kind.__name__} (for {', '.join(sorted(nodes))})" for kind, nodes in wanted.items() if not self._has(kind)
        ]
        if missing:
            raise ConfigurationError(
                f"The lifespan does not provide: {'; '.join(sorted(missing))}. Yield it from Floxide(lifespan=...), "
                "or pass it: Workflow.run(..., resources={Type: ...})."
            )

    def _has(self, kind: type) -> bool:
        return kind in self._by_type or any(isinstance(resource, kind) for resource in self._by_type.values())


@asynccontextmanager
async def open_resources(lifespan: Lifespan | None) -> AsyncGenerator[Resources]:
    """Enter the lifespan and keep what it yields by type until the block ends.

    Raises:
        ConfigurationError: The lifespan is no async context manager.
    """
    if lifespan is None:
        yield Resources()
        return
    opened = lifespan()
    if not _is_context_manager(opened):
        raise ConfigurationError(
            f"lifespan={getattr(lifespan, '__name__', lifespan)!r} returned {type(opened).__name__}, which is no async "
            "context manager. Write it as an async function that yields, under @asynccontextmanager."
        )
    async with opened as given:
        yield Resources(_by_type(given))


def _is_context_manager(opened: object) -> bool:
    return isinstance(opened, AbstractAsyncContextManager)


def _by_type(given: object) -> dict[type, object]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(cast("Mapping[type, object]", given))
    if isinstance(given, list | tuple):
        return {type(resource): resource for resource in cast("Iterable[object]", given)}
    return {type(given): given}
