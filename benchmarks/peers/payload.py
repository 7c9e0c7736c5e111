"""What every contestant carries from step to step: a validated payload of about 300 bytes as JSON."""

from __future__ import annotations

import asyncio
import random
import time
from base64 import b64encode
from typing import Any

from pydantic import BaseModel, Field

from benchmarks.peers.tally import count_step


class Line(BaseModel):
    article: str = Field(min_length=3, max_length=40)
    quantity: int = Field(ge=1, le=1000)
    price: float = Field(ge=0)


class Order(BaseModel):
    """An order.

    Attributes:
        note: Makes it as large as it shall be.
        pause: Seconds that each step sleeps.
        advanced: How many steps it has been through.
    """

    number: int = Field(ge=0)
    customer: str = Field(min_length=3, max_length=80)
    email: str = Field(pattern=r"^\S+@\S+$")
    lines: list[Line] = Field(min_length=1)
    total: float = Field(ge=0)
    note: str = Field(max_length=1_000_000)
    pause: float = Field(ge=0, le=60)
    advanced: int = Field(ge=0)


def new_order(number: int, note_bytes: int = 0, pause: float = 0.0) -> Order:
    """Return an order that differs from every other: constant values would let a store skip its writes."""
    lines = [
        Line(article=f"article {number + line:06}", quantity=1 + (number + line) % 9, price=number % 97 + line / 4)
        for line in range(3)
    ]
    return Order(
        number=number, customer=f"customer {number:08}", email=f"customer.{number}@example.org", lines=lines,
        total=round(sum(line.quantity * line.price for line in lines), 2), note=_note(number, note_bytes),
        pause=pause, advanced=0,
    )  # fmt: skip


def _note(number: int, size: int) -> str:
    """Return a text that does not compress: base64 of random bytes, the same ones for the same number."""
    return b64encode(random.Random(number).randbytes(size)).decode()[:size]


def advance(order: Order) -> Order:
    """Be the body of a step: sleep if it shall, else do next to nothing, and be counted."""
    if order.pause:
        time.sleep(order.pause)
    return _advanced(order)


async def advance_awaiting(order: Order) -> Order:
    """The same where a body may wait with asyncio."""
    if order.pause:
        await asyncio.sleep(order.pause)
    return _advanced(order)


def _advanced(order: Order) -> Order:
    count_step()
    return order.model_copy(update={"advanced": order.advanced + 1})


def advance_plain(data: dict[str, Any]) -> dict[str, Any]:
    """The same for who carries plain data: validated where it comes in, dumped where it goes out."""
    return advance(Order.model_validate(data)).model_dump()


async def advance_plain_awaiting(data: dict[str, Any]) -> dict[str, Any]:
    """The same where a body may wait with asyncio."""
    return (await advance_awaiting(Order.model_validate(data))).model_dump()


def check(order: Order, steps: int, output: Order) -> None:
    """Raise unless this is the order after so many steps."""
    expected = order.model_copy(update={"advanced": steps})
    if output != expected:
        raise AssertionError(f"a run of {steps} steps gave {output!r:.500} instead of {expected!r:.500}")
