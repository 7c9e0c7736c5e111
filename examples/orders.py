"""Order processing: charge, reserve, ship. Two things may go wrong, and each has its own way out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from floxide_amqp import Context, EventLog, Fixed, Sum, Workflow, WorkflowCtx, node


@dataclass(frozen=True)
class Order:
    item: str
    quantity: int
    card: str = "valid"


class PaymentDeclinedError(Exception): ...


class OutOfStockError(Exception): ...


class Stock(dict[str, int]):
    """What the warehouse has; nodes get it by its type."""


class OrderContext(Context):
    customer: Fixed[str]
    paid: Annotated[int, Sum()] = 0
    log: EventLog[str] = EventLog()


@node
async def charge(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    if order.card != "valid":
        raise PaymentDeclinedError(f"the card is {order.card}")
    ctx.state.paid += 10 * order.quantity  # a real bank gets ctx.idempotency_key, the same on every attempt
    ctx.state.log.append(f"{ctx.state.customer} paid {10 * order.quantity}")
    return order


@node
async def reserve(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    stock = ctx.resource(Stock)
    if stock.get(order.item, 0) < order.quantity:
        raise OutOfStockError(f"{stock.get(order.item, 0)} left")
    stock[order.item] -= order.quantity
    return order


@node
async def ship(ctx: WorkflowCtx[OrderContext], order: Order) -> str:
    ctx.state.log.append(f"shipped {order.quantity} {order.item}")
    return "; ".join(ctx.state.log)


@node
async def ask_for_other_card(ctx: WorkflowCtx[OrderContext], order: Order) -> str:
    why = ctx.failure.message if ctx.failure else ""
    return f"{ctx.state.customer}, please use another card for {order.item}: {why}"


@node
async def refund(ctx: WorkflowCtx[OrderContext], order: Order) -> str:
    ctx.state.log.append(f"refunded {ctx.state.paid}, no {order.item}: {ctx.failure.message if ctx.failure else ''}")
    ctx.state.paid -= ctx.state.paid
    return "; ".join(ctx.state.log)


class OrderProcessing(Workflow[Order, str, OrderContext]):
    start = charge
    edges = (
        charge >> reserve >> ship,
        charge.on_failure(PaymentDeclinedError) >> ask_for_other_card,
        reserve.on_failure(OutOfStockError) >> refund,
    )


async def main() -> list[str]:
    stock = Stock(pen=5)
    orders = [Order("pen", 3), Order("pen", 1, card="expired"), Order("pen", 4)]
    return [
        await OrderProcessing.run(order, context=OrderContext(customer="Ada"), resources={Stock: stock})
        for order in orders
    ]


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
