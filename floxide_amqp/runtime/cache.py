"""What a worker remembers of runs: header, graph, scopes, and the merged context up to a log position.

The cache is only ever optimistic: every commit checks what it stands on, and whatever is acknowledged without a
commit is decided on a fresh read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Final

from floxide_amqp.core.context import Context, ContextState, NoContext
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, ScopeId
from floxide_amqp.core.kin import ALONE, Kin
from floxide_amqp.core.records import RunHeader, Scope
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import LogPage
from floxide_amqp.runtime.settings import LEAST_TOMBSTONE_SECONDS
from floxide_amqp.stores.context_snapshots import NO_SNAPSHOTS
from floxide_amqp.stores.contexts import ContextStore, apply_page, bytes_after
from floxide_amqp.stores.encoding import unpack
from floxide_amqp.stores.sealed_records import delta_opener
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.writes import BatchWriter

MAX_IDLE_SECONDS = LEAST_TOMBSTONE_SECONDS
"""A run not asked for in so long is read anew: it may have been deleted, and another may have its id."""

MAX_SCOPES = 1_000
"""Scopes remembered of one run; they are small, and all items of a fan-out share one."""

_NOTHING: Final = ContextState(NoContext, {})


class CachedRun:
    """One run as this worker knows it.

    Args:
        header: Its header.
        graph: Its workflow.
        sealing: Opens what users carry.
        is_raised: Whether it has had another version, by which it may have called children and taken keys.

    Attributes:
        has_context: Whether the workflow has a context at all.
        position: Log position that the context reaches.
        asked_for_at: When it was last asked for, by the event loop's clock.
    """

    def __init__(self, header: RunHeader, graph: Graph, sealing: Sealing = PLAIN, *, is_raised: bool = False) -> None:
        self.header = header
        self.graph = graph
        self.has_context = graph.context is not NoContext
        self.writer = BatchWriter(
            header.run_id, header.created_at_ms, header.workflow, _kin_of(header, graph, is_raised), header.version
        )
        self.position = 0
        self.asked_for_at = asyncio.get_running_loop().time()
        self._sealing = sealing
        self._context: ContextState[Any] | None = None
        self._snapshots = NO_SNAPSHOTS
        self._tail_bytes = 0
        self._is_saving = False
        self._scopes: dict[ScopeId, Scope] = {}

    @cached_property
    def serial(self) -> asyncio.Lock:
        """Held by isolated steps that have conflicted too often, so that they go one at a time."""
        return asyncio.Lock()

    @cached_property
    def _loading(self) -> asyncio.Lock:
        return asyncio.Lock()

    @cached_property
    def _opened(self) -> Callable[[str, bytes], bytes]:
        return delta_opener(self._sealing, self.header.run_id)

    @property
    def is_loaded(self) -> bool:
        """Whether the context was read, and not forgotten since because another step could not merge a delta."""
        return self._context is not None

    def scope(self, scope_id: ScopeId) -> Scope | None:
        """Return a scope if it is remembered."""
        return self._scopes.get(scope_id)

    def remember_scope(self, scope: Scope) -> None:
        """Remember a scope."""
        self._scopes[scope.scope_id] = scope
        if len(self._scopes) > MAX_SCOPES:
            del self._scopes[next(iter(self._scopes))]

    async def refresh(self, contexts: ContextStore) -> None:
        """Bring the context up to the log's end."""
        if not self.has_context:
            return
        async with self._loading:
            while self._context is not None:
                page = await contexts.tail(self.header.run_id, self.position)
                if self.absorb(page):
                    return
                if page.first > self.position or page.length < page.first:
                    break
            loaded = await contexts.read(self.header, self.graph.context)
            self._context, self.position = loaded.state, loaded.position
            self._snapshots, self._tail_bytes = loaded.snapshots, loaded.tail_bytes

    def absorb(self, page: LogPage) -> bool:
        """Apply a page of the log; return whether the context reaches the log's end.

        False also where there is a gap, because the log was trimmed, and where the log ends before the page: a store
        that came back from before lacks what was merged, and the context is to be read anew.
        """
        if self._context is None or page.first > self.position or page.length < page.first:
            return False
        with self._dropped_when_broken():
            self._tail_bytes += bytes_after(self.position, page)
            self.position = apply_page(self._context, self.position, page, self._opened)
        return self.position >= page.length

    def advance(self, first: int | None, delta: bytes) -> None:
        """Apply an own delta that was committed at position `first`, if the context reaches just there."""
        if self._context is not None and first == self.position:
            with suppress(Exception), self._dropped_when_broken():  # whoever reads it next meets the error
                self._context.apply(unpack(delta))
                self.position += 1
                self._tail_bytes += len(delta)

    async def save(self, contexts: ContextStore) -> None:
        """Leave a snapshot of the context in the store, if one is due; a store that fails goes without."""
        state, position = self._context, self.position
        if state is None or self._is_saving or not contexts.is_due(self._snapshots, position, self._tail_bytes):
            return
        self._is_saving, self._tail_bytes = True, 0
        try:
            with suppress(StoreError):  # it only saves reading, and the next one will be left
                self._snapshots = await contexts.save(self.header.run_id, state, position, self._snapshots)
        finally:
            self._is_saving = False

    @contextmanager
    def _dropped_when_broken(self) -> Generator[None]:
        """Forget the context where a delta cannot be merged: those before it must not be merged a second time."""
        try:
            yield
        except Exception:
            self._context, self.position = None, 0
            raise

    def view(self, origin: str) -> tuple[Context, int]:
        """Return a copy of the context for one step, and the log position it reaches.

        Where the run has a context, it must be loaded: it is asked for before anything else is awaited.
        """
        if self._context is None:
            return _NOTHING.view(origin), 0
        state: Context = self._context.view(origin)
        return state, self.position


def _kin_of(header: RunHeader, graph: Graph, is_raised: bool) -> Kin:
    if header.parent is None and not (graph.has_children or graph.has_limits or is_raised):
        return ALONE
    return Kin(header.parent, graph.has_children or is_raised, graph.has_limits or is_raised)


class RunCache:
    """The runs a worker remembers, least recently used dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: OrderedDict[RunId, CachedRun] = OrderedDict()

    def find(self, run_id: RunId) -> CachedRun | None:
        """Return a run if it is remembered."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        now = asyncio.get_running_loop().time()
        if now - run.asked_for_at >= MAX_IDLE_SECONDS:
            del self._runs[run_id]
            return None
        run.asked_for_at = now
        self._runs.move_to_end(run_id)
        return run

    def add(self, run: CachedRun) -> CachedRun:
        """Remember a run; return the one to use."""
        kept = self._runs.setdefault(run.header.run_id, run)
        while len(self._runs) > self._limit:
            self._runs.popitem(last=False)
        return kept

    def forget(self, run_id: RunId) -> None:
        """Drop a run that is over."""
        self._runs.pop(run_id, None)
