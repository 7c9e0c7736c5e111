"""The nodes that the typing files connect: one shop, several kinds of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar

from typing_extensions import TypeIs

from floxide_amqp import Abort, Context, EventLog, Fixed, Hold, Next, NextAll, Node, RetryPolicy, Sum, WorkflowCtx, node


@dataclass(frozen=True)
class Order:
    id: str
    items: list[str]


@dataclass(frozen=True)
class Receipt:
    id: str


@dataclass(frozen=True)
class Approved:
    by: str


@dataclass(frozen=True)
class Rejected:
    why: str


@dataclass(frozen=True)
class Picked:
    item: str


@dataclass(frozen=True)
class Refund:
    id: str


@dataclass(frozen=True)
class Packed:
    n: int


class Color(Enum):
    RED = 1
    BLUE = 2


class Http: ...


class DeclinedError(Exception): ...


class OrderContext(Context):
    customer: Fixed[str]
    log: EventLog[str] = EventLog()
    spent: Annotated[int, Sum()] = 0


class OtherContext(Context):
    x: int = 0


@node(timeout=timedelta(seconds=30), retry=RetryPolicy(max_attempts=3), requires=(Http,))
async def charge(ctx: WorkflowCtx[OrderContext], order: Order) -> Receipt:
    ctx.state.spent += 5
    ctx.state.log.append("charged")
    return Receipt(order.id)


@node
async def approve(ctx: WorkflowCtx[OrderContext], receipt: Receipt) -> Next[Approved | Rejected] | Hold:
    return Next(Approved("boss")) if receipt.id else Next(Rejected("no"))


@node(queue="warehouse")
async def split(ctx: WorkflowCtx[OrderContext], order: Approved) -> NextAll[str]:
    return NextAll([order.by])


@node
async def pick(item: str) -> Picked:
    return Picked(item)


@node
async def pack(ctx: WorkflowCtx[OrderContext], picked: list[Picked]) -> Packed:
    return Packed(len(picked))


@node
async def pack_sequence(ctx: WorkflowCtx[OrderContext], picked: Sequence[Picked]) -> Packed:
    return Packed(len(picked))


@node
async def refund(ctx: WorkflowCtx[OrderContext], what: Order | Rejected) -> Refund:
    return Refund("r")


@node
def notify(ctx: WorkflowCtx[OrderContext], done: Packed | Refund) -> str:
    return "done"


@node
async def count(receipt: Receipt) -> int:
    return 1


@node
async def spell(receipt: Receipt) -> str:
    return receipt.id


@node
async def merge(value: int | str) -> bytes:
    return b""


@node
async def length(text: str) -> int:
    return len(text)


@node
async def judge(receipt: Receipt) -> Approved | Rejected:
    return Approved("boss") if receipt.id else Rejected("no")


@node
def judge_in_a_thread(receipt: Receipt) -> Approved | Rejected:
    return Approved("boss") if receipt.id else Rejected("no")


@node
async def tally(verdicts: list[Approved | Rejected]) -> int:
    return len(verdicts)


@node
async def answer(verdict: Approved | Rejected) -> str:
    return ""


@node
async def color(receipt: Receipt) -> Color:
    return Color.RED


@node
async def paint(what: Color) -> str:
    return what.name


@node
async def start_empty(ctx: WorkflowCtx[OrderContext], _: None) -> int:
    return 1


@node
async def give_up(ctx: WorkflowCtx[OrderContext], order: Order) -> Abort:
    return Abort(ValueError("no"))


@node
async def mixed(ctx: WorkflowCtx[OrderContext], order: Order) -> Next[int] | NextAll[int] | Hold | Abort:
    return Hold()


@node
async def bare_or_hold(ctx: WorkflowCtx[OrderContext], order: Order) -> int | Hold:
    return 1


@node
def sync_plain(text: str) -> int:
    return len(text)


@node
def sync_or_abort(text: str) -> int | Abort:
    return len(text)


@node
def sync_next(text: str) -> Next[int]:
    return Next(len(text))


@node
def optional(text: str) -> int | None:
    return len(text) or None


@node
async def draft(text: str) -> str:
    return text + "."


@node
async def review(text: str) -> Approved | Rejected:
    return Approved(text)


@node
async def rewrite(why: Rejected) -> str:
    return why.why


@node
async def other(ctx: WorkflowCtx[OtherContext], receipt: Receipt) -> int:
    return 1


K = TypeVar("K")


class Tag(Node[K, str], Generic[K]):
    def __init__(self, value: K) -> None:
        self.value = value

    async def process(self, ctx: WorkflowCtx[Any], input: K, /) -> str:
        return f"{self.value}: {input}"


@dataclass(frozen=True, slots=True)
class Scale(Node[float, float], queue="fast"):
    factor: float

    async def process(self, ctx: WorkflowCtx[Any], input: float, /) -> float:
        return input * self.factor


@dataclass(frozen=True, slots=True)
class Pair(Node[K, tuple[K, K]], Generic[K]):
    second: K

    def process(self, ctx: WorkflowCtx[Any], input: K, /) -> Next[tuple[K, K]]:
        return Next((input, self.second))


def is_big(receipt: Receipt) -> bool:
    return len(receipt.id) > 3


def is_approved(answer: Approved | Rejected) -> TypeIs[Approved]:
    return isinstance(answer, Approved)


def halves(order: Order) -> list[str]:
    return order.items
