"""The workflows whose stored runs are measured: parcels, of which some fail, a long book of events, a carried text."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.workflows import MOST_EVENTS
from floxide_amqp import Context, EventLog, Next, Workflow, WorkflowCtx, node, repeat

FAILING = 10
"""One parcel of so many fails, in the last step."""

STEPS_PER_PARCEL = 3


@dataclass(frozen=True, slots=True)
class Parcel:
    number: int
    customer: str
    street: str
    goods: list[str]


@dataclass(frozen=True, slots=True)
class Bill:
    number: int
    customer: str
    street: str
    cents: int


@dataclass(frozen=True, slots=True)
class Receipt:
    number: int
    cents: int


class AddressUnknownError(Exception):
    """Nobody lives there."""


@node
async def pack(parcel: Parcel) -> Parcel:
    return parcel


@node
async def price(parcel: Parcel) -> Bill:
    return Bill(parcel.number, parcel.customer, parcel.street, 100 * len(parcel.goods))


@node
async def ship(bill: Bill) -> Receipt:
    if fails(bill.number):
        raise AddressUnknownError(f"parcel {bill.number}: nobody of that name lives in {bill.street}")
    return Receipt(bill.number, bill.cents)


class Parcels(Workflow[Parcel, Receipt]):
    """Three steps with payloads of about a hundred bytes; every tenth fails in the third."""

    start = pack
    edges = (pack >> price >> ship,)


def parcel(number: int) -> Parcel:
    goods = [f"article {number % 977:03}", f"article {number % 991:03}"]
    return Parcel(number, f"customer {number:07}", f"{number % 211} Long Street", goods)


def fails(number: int) -> bool:
    return number % FAILING == 0


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    who: str
    text: str


class Book(Context):
    events: EventLog[Event] = EventLog()


@dataclass(frozen=True, slots=True)
class Pages:
    """So many pages with so many events each, and then so many with one event."""

    left: int
    events_each: int
    singles: int = 0


@dataclass(frozen=True, slots=True)
class Full:
    events: int


@node
async def note(ctx: WorkflowCtx[Book], pages: Pages) -> Next[Pages | Full]:
    first = len(ctx.state.events)
    for number in range(first, first + pages.events_each):
        ctx.state.events.append(event(number))
    if pages.left == 1 and pages.singles:
        return Next(Pages(pages.singles, 1))
    more = Pages(pages.left - 1, pages.events_each, pages.singles)
    return Next(more if more.left else Full(first + pages.events_each))


@node
async def shut(ctx: WorkflowCtx[Book], full: Full) -> list[int]:
    return [full.events, sum(each.number for each in ctx.state.events)]


class Chronicle(Workflow[Pages, list[int], Book]):
    """As many steps as pages, each of which notes some events; how many there are, and the sum of their numbers."""

    start = note
    edges = (note.when(Pages) >> repeat(note, max_iterations=MOST_EVENTS), note.when(Full) >> shut)


def event(number: int) -> Event:
    return Event(number, f"station {number % 97:02}", f"reading {number:08} is within the bounds that were agreed on")


@dataclass(frozen=True, slots=True)
class Carried:
    left: int
    text: str


@dataclass(frozen=True, slots=True)
class Arrived:
    text: str


@node
async def carry(carried: Carried) -> Next[Carried | Arrived]:
    left = carried.left - 1
    return Next(Carried(left, carried.text) if left else Arrived(carried.text))


@node
async def hand_over(arrived: Arrived) -> str:
    return arrived.text


class Courier(Workflow[Carried, str]):
    """One text, handed from step to step."""

    start = carry
    edges = (carry.when(Carried) >> repeat(carry, max_iterations=MOST_EVENTS), carry.when(Arrived) >> hand_over)


STORED_WORKFLOWS = (Parcels, Chronicle, Courier)
