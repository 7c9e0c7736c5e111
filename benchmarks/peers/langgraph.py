"""LangGraph, with its checkpointer for PostgreSQL.

Its manual offers three modes of durability; only ``sync`` has a step's checkpoint written before the next step starts.
Graphs run in the process that calls them: there are no workers. The pool's connections are set up as the checkpointer's
page tells, and are as many as in its examples; one saver is what they have, too.
"""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.arena import Arena, Facts
from benchmarks.peers.payload import Order, advance_plain_awaiting

CONNECTIONS = 20


class State(TypedDict):
    order: dict[str, Any]


async def step(state: State) -> State:
    return {"order": await advance_plain_awaiting(state["order"])}


def graph_of(steps: int, checkpointer: Any) -> Any:
    """Return a chain of so many nodes."""
    builder: Any = StateGraph(State)
    names = [f"step_{number}" for number in range(1, steps + 1)]
    for name in names:
        builder.add_node(name, step)
    for first, second in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(first, second)
    return builder.compile(checkpointer=checkpointer)


class LangGraph:
    facts = Facts(
        title="LangGraph",
        packages=("langgraph", "langgraph-checkpoint-postgres", "psycopg"),
        setting=f"PostgreSQL checkpointer, durability='sync', in the client's own process; one saver, whose lock"
        f" lets one statement through its pool ({CONNECTIONS} connections) at a time",
        is_synced=True,
        durability="Each step's checkpoint is committed in PostgreSQL before the next one starts.",
        is_apart=False,
        manual=(
            "https://docs.langchain.com/oss/python/langgraph/durable-execution.md",
            "https://pypi.org/project/langgraph-checkpoint-postgres/",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._graphs: dict[int, Any] = {}

    async def open(self) -> None:
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self._pool: Any = AsyncConnectionPool(
            self._arena.postgresql, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=settings, open=False,
            timeout=120,
        )  # fmt: skip
        await self._pool.open()
        self._saver = AsyncPostgresSaver(self._pool)
        await self._saver.setup()

    async def run(self, order: Order, steps: int) -> Order:
        if steps not in self._graphs:
            self._graphs[steps] = graph_of(steps, self._saver)
        thread = {"configurable": {"thread_id": f"{self._arena.name}-{order.number}"}}
        found = await self._graphs[steps].ainvoke({"order": order.model_dump()}, thread, durability="sync")
        return Order.model_validate(found["order"])

    async def close(self) -> None:
        await self._pool.close()


CONTESTANTS = {"": LangGraph}
