"""What `migrate` may do to a context: change its fields, take them out, add others, give them other names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from floxide_amqp import Context, EventLog, LastWrite, Sum
from floxide_amqp.core.context import ContextState, context_to_plain
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.exceptions import CodecError


@dataclass
class Approved:
    note: str


@dataclass
class Rejected:
    note: str


class Bill(Context):
    total: Annotated[int, Sum()] = 0
    answer: Approved | Rejected | None = None


class ShortBill(Context):
    total: Annotated[int, Sum()] = 0


class Old(Context):
    bill: Bill = Bill()
    log: EventLog[str] = EventLog()
    spent: Annotated[int, Sum()] = 0
    answer: Approved | Rejected | None = None


class New(Context):
    invoice: Bill = Bill()
    journal: EventLog[str] = EventLog()
    spent: Annotated[int, Sum()] = 0
    decision: Approved | Rejected | None = None


class Shorter(Context):
    bill: ShortBill = ShortBill()
    spent: Annotated[int, Sum()] = 0


class Flat(Context):
    bill: Annotated[dict[str, int], LastWrite()] = {}
    spent: Annotated[int, Sum()] = 0


def paper() -> RunToMigrate:
    view = Old(bill=Bill(total=3, answer=Rejected("no")), spent=4, answer=Rejected("never"))
    view.log.append("first")
    view.log.append("second")
    return RunToMigrate("run", "1", (), ContextState.load(Old, context_to_plain(view)).to_plain())


def read(run: RunToMigrate, kind: Any) -> Any:
    return ContextState.load(kind, run.context_for(kind)).view("x")


def test_what_is_left_alone_is_as_it_was() -> None:
    found = read(paper(), Old)
    assert (found.bill.total, found.bill.answer, found.spent) == (3, Rejected("no"), 4)
    assert (list(found.log), found.answer) == (["first", "second"], Rejected("never"))


def test_a_value_and_one_in_a_nested_context_are_shown_as_they_are_and_may_be_changed() -> None:
    run = paper()
    assert (run.context["spent"], run.context["bill"]["total"]) == (4, 3)
    run.context["spent"], run.context["bill"]["total"] = 40, 30
    found = read(run, Old)
    assert (found.spent, found.bill.total, found.bill.answer) == (40, 30, Rejected("no"))
    assert run.is_context_changed


def test_an_event_log_may_be_cut_and_its_events_changed() -> None:
    run = paper()
    run.context["log"] = run.context["log"][1:]
    run.context["log"][0][2] = "the second"
    assert list(read(run, Old).log) == ["the second"]


def test_fields_of_any_kind_may_get_another_name_and_keep_what_they_were() -> None:
    run = paper()
    for was, becomes in (("bill", "invoice"), ("log", "journal"), ("answer", "decision")):
        run.context[becomes] = run.context.pop(was)
    found = read(run, New)
    assert (found.invoice.total, found.invoice.answer) == (3, Rejected("no"))
    assert (list(found.journal), found.decision) == (["first", "second"], Rejected("never"))


class Two(Context):
    first: Approved | Rejected | None = None
    second: Approved | Rejected | None = None


def two(first: str, second: str) -> RunToMigrate:
    view = Two(first=Approved(first), second=Rejected(second))
    return RunToMigrate("run", "1", (), ContextState.load(Two, context_to_plain(view)).to_plain())


def test_values_that_look_alike_stay_what_they_are_under_other_names() -> None:
    class Others(Context):
        one: Approved | Rejected | None = None
        two: Approved | Rejected | None = None

    run = two("same", "same")
    run.context = {"one": run.context["first"], "two": run.context["second"]}
    run.context["one"]["note"] = "changed"
    found = read(run, Others)
    assert (found.one, found.two) == (Approved("changed"), Rejected("same"))


def test_values_of_two_fields_may_change_places() -> None:
    run = two("yes", "no")
    run.context["first"], run.context["second"] = run.context["second"], run.context["first"]
    found = read(run, Two)
    assert (found.first, found.second) == (Rejected("no"), Approved("yes"))


def test_a_nested_context_may_become_a_value() -> None:
    run = paper()
    run.context = {"bill": {"total": run.context["bill"]["total"]}, "spent": 4}
    assert read(run, Flat).bill == {"total": 3}


def test_a_field_of_a_nested_context_that_is_gone_is_to_be_taken_out() -> None:
    run = paper()
    del run.context["log"], run.context["answer"]
    with pytest.raises(CodecError, match=r"ShortBill has no 'bill\.answer': let migrate take that out"):
        run.context_for(Shorter)
    del run.context["bill"]["answer"]
    assert read(run, Shorter).bill.total == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda context: context.update(bill=3), "The context's field 'bill' is a Bill: give a dict of its fields"),
        (lambda context: context["bill"].update(total="much"), "int"),
        (lambda context: context.update(log=[["id", "str", 7]]), "str"),
    ],
)
def test_what_does_not_fit_is_refused_however_deep_it_lies(change: Any, problem: str) -> None:
    run = paper()
    change(run.context)
    with pytest.raises(CodecError, match=problem):
        run.context_for(Old)


def test_a_context_may_be_read_as_its_old_class_and_written_as_the_new_one() -> None:
    run = paper()
    old = run.read_context(Old)
    run.write_context(New(invoice=Bill(total=old.bill.total), spent=old.spent + 1, decision=old.answer))
    assert run.is_context_changed
    found = read(run, New)
    assert (found.invoice.total, found.spent, found.decision) == (3, 5, Rejected("never"))


def test_a_context_that_is_written_has_to_be_of_the_new_class() -> None:
    run = paper()
    run.write_context(Shorter(spent=4))
    with pytest.raises(CodecError, match="migrate wrote a Shorter, and the context is New"):
        run.context_for(New)
