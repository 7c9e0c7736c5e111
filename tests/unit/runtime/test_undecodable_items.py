"""An item whose stored data the code does not decode any more is set aside with the reason; its run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from floxide_amqp import (
    ChildWorkflow,
    Compensation,
    Context,
    Hold,
    NextAll,
    NoContext,
    RunStatus,
    Signal,
    Sum,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import (
    InvalidRunStateError,
    RunNotFoundError,
    UndecodableError,
    WorkItemNotFoundError,
)
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.requeuing import SetAsideItem
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores.encoding import encode_payload
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]
ONE_BY_ONE = Limits(concurrency=8, chain_steps=1)


# --- what decodes from what an older release wrote


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class FewerColors(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Point3(NamedTuple):
    x: int
    y: int = 2
    z: int = 3


@dataclass
class Line:
    sku: str


@dataclass
class LongerLine:
    sku: str
    count: int = 1


@dataclass
class Order:
    number: int
    lines: list[Line] = field(default_factory=list[Line])


@dataclass
class LongerOrder:
    number: int
    lines: list[LongerLine] = field(default_factory=list[LongerLine])
    note: str | None = None


@dataclass
class NeedyOrder:
    number: int
    customer: str


@dataclass
class TextOrder:
    number: list[str]


class Model(BaseModel):
    a: int


class LongerModel(BaseModel):
    a: int
    inner: LongerLine | None = None
    tags: list[str] = []


class Typed(TypedDict):
    a: int


class LongerTyped(TypedDict):
    a: int
    b: NotRequired[str]


class NeedyTyped(TypedDict):
    a: int
    b: str


def reread(before: Any, value: object, after: Any) -> object:
    """Return what one release stores and another reads."""
    stored = encode_payload(PayloadType.of(before, where="it"), value)
    return decode_stored(PayloadType.of(after, where="it"), stored, "It")


@pytest.mark.parametrize(
    ("before", "value", "after", "read"),
    [
        (Order, Order(1, [Line("a")]), LongerOrder, LongerOrder(1, [LongerLine("a", 1)], None)),
        (Model, Model(a=1), LongerModel, LongerModel(a=1)),
        (Typed, {"a": 1}, LongerTyped, {"a": 1}),
        (Point, Point(1), Point3, Point3(1, 2, 3)),
        (list[Line], [Line("a")], list[LongerLine], [LongerLine("a")]),
        (dict[str, Line], {"k": Line("a")}, dict[str, LongerLine], {"k": LongerLine("a")}),
        (Line, Line("a"), LongerLine | Point, LongerLine("a")),
    ],
    ids=lambda given: getattr(given, "__name__", None) or str(given),
)
def test_fields_with_defaults_decode_from_what_was_stored_without_them(
    before: Any, value: object, after: Any, read: object
) -> None:
    assert reread(before, value, after) == read


@pytest.mark.parametrize(
    ("before", "value", "after", "problem"),
    [
        (Order, Order(1), NeedyOrder, "customer"),
        (Order, Order(1), TextOrder, "number"),
        (Color, Color.BLUE, FewerColors, "red"),
        (Literal["a", "b"], "b", Literal["a"], "'a'"),
        (Typed, {"a": 1}, NeedyTyped, "b"),
        (int, 1, Line, "Line"),
    ],
    ids=lambda given: getattr(given, "__name__", None) or str(given),
)
def test_what_does_not_decode_is_named(before: Any, value: object, after: Any, problem: str) -> None:
    with pytest.raises(UndecodableError, match=problem):
        reread(before, value, after)


def test_what_a_validator_of_the_users_refuses_is_undecodable_too() -> None:
    class Odd(BaseModel):
        a: int

        def model_post_init(self, context: object) -> None:
            raise RuntimeError("only odd ones")

    with pytest.raises(UndecodableError, match="only odd ones"):
        reread(Model, Model(a=1), Odd)


# --- in a run


def shop(order: Any, *, made: Any = None, version: str = "1") -> Any:
    """One release of a workflow whose second step takes an order; another release declares it differently."""

    @node
    async def first(x: int) -> order:  # type: ignore[valid-type]
        return made

    @node
    async def second(given: order) -> str:  # type: ignore[valid-type]
        return repr(given)

    class Shop(Workflow[int, str], version=version):
        start = first
        edges = (first >> second,)

    return Shop


OLD = shop(Order, made=Order(7))
BROKEN = shop(NeedyOrder)
CURED = shop(LongerOrder)


async def begun(here: Cluster, workflow: Any, *, steps: int = 1, run_id: str = "run", **more: Any) -> None:
    """Start a run and do so many of its steps, by a worker of this release."""
    await here.client().start(workflow, 1, run_id=run_id, **more)
    worker, *_ = here.worker_of(workflows=[workflow], queues=["default"])
    for _ in range(steps):
        assert await worker.run_once()


async def set_aside(here: Cluster, count: int = 1) -> Sequence[SetAsideItem]:
    """Wait until so many items are set aside, and return them."""
    client = here.client()
    for _ in range(200):
        found = await client.set_aside.list()
        if len(found) >= count:
            return found
        await asyncio.sleep(1)
    raise AssertionError(f"only {found}")


async def test_an_item_that_does_not_decode_is_set_aside_and_goes_on_when_it_is_requeued_after_a_deploy(
    cluster: MakeCluster,
) -> None:
    here = cluster(OLD, limits=ONE_BY_ONE)
    await begun(here, OLD)
    broken = await here.start_worker(workflows=[BROKEN], queues=["default"])
    (item,) = await set_aside(here)
    assert (item.run_id, item.workflow, item.version, item.node) == ("run", "Shop", "1", "second")
    assert "customer" in item.reason
    client = here.client()
    info = await client.run_info("run")
    assert info.status is RunStatus.WAITING
    assert info.waits[0].status is WorkItemStatus.PARKED
    assert "The input of node 'second' cannot be decoded" in info.waits[0].what
    before = broken.services.figures.deliveries
    await asyncio.sleep(60)
    assert broken.services.figures.deliveries <= before + 1  # nothing spins
    await broken.stop()
    await here.start_worker(workflows=[CURED], queues=["default"])
    await asyncio.sleep(10)
    assert await client.status("run") is RunStatus.WAITING  # it is somebody's decision
    assert (await client.set_aside.requeue(workflow="Shop", by="me", reason="deployed")).items == 1
    assert "LongerOrder(number=7" in await client.handle(CURED, "run").result(100)
    assert [(each.action, each.by) for each in await client.audit_log("run")] == [("requeue", "me")]
    await here.check_completed("run")


async def test_an_item_requeued_too_early_is_set_aside_once_more(cluster: MakeCluster) -> None:
    here = cluster(OLD, limits=ONE_BY_ONE)
    await begun(here, OLD)
    await here.start_worker(workflows=[BROKEN], queues=["default"])
    (first,) = await set_aside(here)
    client = here.client()
    assert (await client.set_aside.requeue_run("run")).items == 1
    (second,) = await set_aside(here)
    assert second.item_id == first.item_id
    with pytest.raises(WorkItemNotFoundError):
        await client.set_aside.requeue_run("run", item_id="nothing")
    assert (await client.set_aside.requeue(node="first")).items == 0
    with pytest.raises(RunNotFoundError):
        await client.set_aside.requeue_run("another")
    await client.cancel("run")
    with pytest.raises(InvalidRunStateError):
        await client.set_aside.requeue_run("run")
    assert list(await client.set_aside.list()) == []
    assert here.store.leftovers("parked:") == {}  # what led to it is dropped by whoever meets it


async def test_other_items_of_the_run_go_on_and_the_join_gets_the_cured_one(cluster: MakeCluster) -> None:
    def fan(element: Any, values: Sequence[Any]) -> Any:
        @node
        async def split(x: int) -> NextAll[element]:  # type: ignore[valid-type]
            return NextAll(values)

        @node
        async def each(given: element) -> str:  # type: ignore[valid-type]
            return str(given)

        @node
        async def total(all_of_them: list[str]) -> str:
            return " ".join(all_of_them)

        class Fan(Workflow[int, str]):
            start = split
            edges = (split >> each >> gather(total),)

        return Fan

    old, new = fan(Color, [Color.RED, Color.BLUE, Color.RED]), fan(FewerColors, [])
    here = cluster(old, limits=ONE_BY_ONE)
    await begun(here, old)
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    client = here.client()
    while (await here.counts("run")).completed < 3:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert (await client.status("run"), item.node) == (RunStatus.WAITING, "each")
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await client.set_aside.requeue_run("run", item_id=item.item_id)
    assert await client.handle(old, "run").result(100) == "FewerColors.RED Color.BLUE FewerColors.RED"
    await here.check_completed("run")


async def test_a_join_is_set_aside_when_what_arrived_at_it_does_not_decode(cluster: MakeCluster) -> None:
    def fan(element: Any) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll([1, 2])

        @node
        async def each(x: int) -> element:  # type: ignore[valid-type]
            return Order(x)

        @node
        async def total(all_of_them: list[element]) -> int:  # type: ignore[valid-type]
            return len(all_of_them)

        class Fan(Workflow[int, int]):
            start = split
            edges = (split >> each >> gather(total),)

        return Fan

    old, new = fan(Order), fan(NeedyOrder)
    here = cluster(old, limits=ONE_BY_ONE)
    await begun(here, old, steps=3)
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert item.node == "total"
    assert "What arrived at node 'total'" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await here.client().set_aside.requeue()
    assert await here.client().handle(old, "run").result(100) == 2
    await here.check_completed("run")


def telling(context: type[Context]) -> Any:
    """A workflow with a context."""

    @node
    async def first(ctx: WorkflowCtx[context], x: int) -> int:  # type: ignore[valid-type]
        ctx.state.spent += x  # type: ignore[attr-defined]
        return x

    @node
    async def second(ctx: WorkflowCtx[context], x: int) -> str:  # type: ignore[valid-type]
        return str(ctx.state.spent)  # type: ignore[attr-defined]

    class Telling(Workflow[int, str, context]):  # type: ignore[valid-type]
        start = first
        edges = (first >> second,)

    return Telling


class Before(Context):
    spent: Annotated[int, Sum()] = 0
    color: Color = Color.BLUE


class Longer(Context):
    spent: Annotated[int, Sum()] = 0
    color: Color = Color.RED
    added: str = "new"


class Needy(Context):
    spent: Annotated[int, Sum()] = 0
    color: Color = Color.BLUE
    needed: str


async def test_a_context_with_more_fields_that_have_defaults_decodes(cluster: MakeCluster) -> None:
    old, new = telling(Before), telling(Longer)
    here = cluster(old, limits=ONE_BY_ONE)
    await begun(here, old)
    await here.start_worker(workflows=[new], queues=["default"])
    assert await here.client().handle(new, "run").result(100) == "1"
    state: Any = await here.client().context(new, "run")
    assert (state.spent, state.color, state.added) == (1, Color.BLUE, "new")


async def test_items_of_a_run_whose_context_cannot_be_put_together_are_set_aside(cluster: MakeCluster) -> None:
    old, new = telling(Before), telling(Needy)
    here = cluster(old, limits=ONE_BY_ONE)
    await begun(here, old)
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert "The context of run 'run' cannot be put together" in item.reason
    assert "needed" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await here.client().set_aside.requeue()
    assert await here.client().handle(old, "run").result(100) == "1"
    await here.check_completed("run")


async def test_an_item_that_reads_a_field_of_the_context_which_does_not_decode_is_set_aside(
    cluster: MakeCluster,
) -> None:
    class Odd(Context):
        spent: Annotated[int, Sum()] = 0
        color: FewerColors = FewerColors.RED

    def reading(context: Any) -> Any:
        @node
        async def only(ctx: WorkflowCtx[context], x: int) -> str:
            return str(ctx.state.color)

        class Reading(Workflow[int, str, context]):
            start = only

        return Reading

    old, new = reading(Before), reading(Odd)
    here = cluster(old, limits=ONE_BY_ONE)
    await here.client().start(old, 1, run_id="run")
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert "Odd.color cannot be decoded" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await here.client().set_aside.requeue()
    assert await here.client().handle(old, "run").result(100) == "Color.BLUE"


async def test_a_signal_whose_value_does_not_decode_sets_the_item_aside_that_receives_it(cluster: MakeCluster) -> None:
    def asking(kind: Any) -> Any:
        approval = Signal("approval", kind)

        @node
        async def ask(ctx: WorkflowCtx[NoContext], x: int) -> str | Hold:
            answer = ctx.received(approval)
            return Hold(until=approval) if answer is None else repr(answer)

        class Asking(Workflow[int, str]):
            start = ask

        return Asking, approval

    (old, approval), (new, _) = asking(Order), asking(NeedyOrder)
    here = cluster(old)
    client = here.client()
    await client.start(old, 1, run_id="run")
    await client.signal("run", approval, Order(3))
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert "A value of signal 'approval' cannot be decoded" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await client.set_aside.requeue_run("run")
    assert await client.handle(old, "run").result(100) == "Order(number=3, lines=[])"
    await here.check_completed("run")


async def test_an_item_whose_childs_output_does_not_decode_is_set_aside(cluster: MakeCluster) -> None:
    def family(output: Any) -> Any:
        @node
        async def pay(x: int) -> output:  # type: ignore[valid-type]
            return Order(x)

        @node
        async def end(given: output) -> str:  # type: ignore[valid-type]
            return type(given).__name__

        class Billing(Workflow[int, output]):  # type: ignore[valid-type]
            start = pay

        billing = ChildWorkflow(Billing, name="billing")

        class Parent(Workflow[int, str]):
            start = billing
            edges = (billing >> end,)

        return Parent, Billing

    (old, billing), (new, _) = family(Order), family(NeedyOrder)
    here = cluster(old)
    await here.client().start(old, 1, run_id="run")
    only_children, *_ = here.worker_of(workflows=[old], queues=["default"])
    assert await only_children.run_once()  # the parent starts its child
    while not await only_children.run_once():  # noqa: ASYNC110 - the child, once its letter is delivered
        await asyncio.sleep(1)
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert (item.node, item.run_id) == ("billing", "run")
    assert "The output of run" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await here.client().set_aside.requeue()
    assert await here.client().handle(old, "run").result(100) == "Order"
    assert billing.graph.workflow == "Billing"


async def test_a_compensation_whose_input_does_not_decode_is_set_aside_and_the_others_wait_their_turn(
    cluster: MakeCluster,
) -> None:
    undone: list[str] = []

    def undoing(kind: Any) -> Any:
        @node
        async def refund(given: Compensation[kind, str]) -> None:  # type: ignore[valid-type]
            undone.append(type(given.input).__name__)

        @node(compensation=refund)
        async def charge(given: kind) -> str:  # type: ignore[valid-type]
            return "paid"

        @node
        async def wait(x: str) -> str | Hold:
            return Hold(for_=timedelta(days=1))

        class Undoing(Workflow[kind, str]):  # type: ignore[valid-type]
            start = charge
            edges = (charge >> wait,)

        return Undoing

    old, new = undoing(Order), undoing(NeedyOrder)
    here = cluster(old, limits=ONE_BY_ONE)
    client = here.client()
    await client.start(old, Order(1), run_id="run")
    worker, *_ = here.worker_of(workflows=[old], queues=["default"])
    for _ in range(2):
        assert await worker.run_once()
    await client.cancel("run")
    broken = await here.start_worker(workflows=[new], queues=["default"])
    (item,) = await set_aside(here)
    assert await client.status("run") is RunStatus.COMPENSATING
    assert "The input of node 'charge'" in item.reason
    await broken.stop()
    await here.start_worker(workflows=[old], queues=["default"])
    await client.set_aside.requeue_run("run")
    assert await client.wait("run", 100) is RunStatus.CANCELLED
    assert undone == ["Order"]


async def test_a_set_aside_item_leaves_nothing_behind_when_its_run_is_deleted(cluster: MakeCluster) -> None:
    here = cluster(OLD, limits=ONE_BY_ONE)
    await begun(here, OLD)
    await here.start_worker(workflows=[BROKEN], queues=["default"])
    await set_aside(here)
    client = here.client()
    await client.terminate("run")
    assert await client.delete("run")
    for _ in range(60):
        if not here.store.leftovers("parked:"):
            break
        await asyncio.sleep(2)
    assert here.store.leftovers("parked:", "live:") == {}
