"""The business of the chaos runs: orders, and what must come of each, computed from its number alone.

Nothing here knows the engine, so that the checker may use it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

SKUS = 1_000
UNTOUCHED_PRICE = 10**9
SLOW_FROM = 5_000_000
"""Orders from this number on have lines whose price takes `SLOW_MS` each, so that a worker always has steps in hand."""

SLOW_MS = 600
LONG_MS = 1_500
"""Longer than a worker waits before it notes a step in the store and acknowledges its message."""


@dataclass(frozen=True)
class Line:
    """One line of an order.

    `fails` attempts at its price fail before one succeeds; a `sold_out` one never gets a price and is substituted.
    It is held for `hold_ms` before, and its price takes `slow_ms`.
    """

    sku: int
    quantity: int
    fails: int = 0
    sold_out: bool = False
    hold_ms: int = 0
    slow_ms: int = 0


@dataclass(frozen=True)
class Order:
    number: int
    lines: list[Line]


@dataclass(frozen=True)
class Priced:
    sku: int
    price: int
    note: str = ""


@dataclass(frozen=True)
class Parcel:
    number: int
    contents: list[Priced]
    weight: int = 0
    label: str = ""


@dataclass(frozen=True)
class Totals:
    """What the context must hold at the end."""

    customer: str
    quantity: int
    dearest: int
    cheapest: int
    skus: frozenset[int]
    held: frozenset[int]
    picked: tuple[int, ...]
    events: tuple[str, ...]
    stage: str


@dataclass(frozen=True)
class Expected:
    """What must come of an order.

    Attributes:
        result: The run's output, as plain data.
        totals: The context.
        ended: How many items of each node end, by node and status.
        failures: How many attempts fail, by node.
        arrivals: What the join must be given, in order.
    """

    result: dict[str, object]
    totals: Totals
    ended: Counter[tuple[str, str]]
    failures: Counter[str]
    arrivals: list[dict[str, object]]
    waits: int = field(default=0)


def order_of(seed: int, number: int) -> Order:
    """Return the order of this number: always the same one."""
    chance = random.Random(f"{seed}:{number}")
    count = chance.choice((0, 1, 2, 2, 3, 3, 3, 4))
    skus = chance.sample(range(SKUS), count)
    lines = [_line(chance, sku) for sku in skus]
    if number >= SLOW_FROM:
        lines = [replace(line, slow_ms=SLOW_MS) for line in lines]
    return Order(number, lines)


def _line(chance: random.Random, sku: int) -> Line:
    kind = chance.random()
    return Line(
        sku=sku,
        quantity=chance.randint(1, 9),
        fails=chance.choice((1, 1, 2)) if kind < 0.15 else 0,
        sold_out=0.15 <= kind < 0.22,
        hold_ms=chance.choice((100, 400, 900)) if 0.2 <= kind < 0.35 else 0,
        slow_ms=LONG_MS if kind > 0.99 else chance.randint(0, 50),
    )


def price_of(sku: int, quantity: int) -> int:
    return (sku * 7919 % 997 + 1) * quantity


def weight_of(contents: list[Priced]) -> int:
    return sum(each.sku % 13 + 1 for each in contents)


def label_of(number: int, weight: int) -> str:
    return f"parcel {number} of {weight}"


def customer_of(number: int) -> str:
    return f"customer {number % 97}"


def expected_of(order: Order) -> Expected:
    """Return what must come of an order."""
    contents = [
        Priced(line.sku, 0, "sold out") if line.sold_out else Priced(line.sku, price_of(line.sku, line.quantity))
        for line in order.lines
    ]
    weight = weight_of(contents)
    paid = [each.price for each in contents if not each.note]
    ended: Counter[tuple[str, str]] = Counter()
    failures: Counter[str] = Counter()
    for name in ("accept", "split", "pack", "finish/weigh", "finish/label", "ship"):
        ended[name, "completed"] += 1
    for line in order.lines:
        ended["reserve", "completed"] += 1
        ended["price", "failed" if line.sold_out else "completed"] += 1
        ended["pick", "completed"] += 1
        if line.sold_out:
            ended["substitute", "completed"] += 1
        failures["price"] += line.fails + line.sold_out
    plain = [{"sku": each.sku, "price": each.price, "note": each.note} for each in contents]
    return Expected(
        result={"number": order.number, "contents": plain, "weight": weight, "label": label_of(order.number, weight)},
        totals=Totals(
            customer=customer_of(order.number),
            quantity=sum(line.quantity for line in order.lines),
            dearest=max(paid, default=0),
            cheapest=min(paid, default=UNTOUCHED_PRICE),
            skus=frozenset(line.sku for line in order.lines),
            held=frozenset(line.sku for line in order.lines if line.hold_ms),
            picked=tuple(sorted(line.sku for line in order.lines)),
            events=tuple(sorted(f"priced {each.sku}" for each in contents if not each.note)),
            stage="shipped",
        ),
        ended=ended,
        failures=failures,
        arrivals=plain,
        waits=sum(line.fails for line in order.lines) + sum(1 for line in order.lines if line.hold_ms),
    )
