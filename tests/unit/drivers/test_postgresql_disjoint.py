"""Which groups the PostgreSQL store commits without an interpreter, and how it reads the server's answer to one."""

from __future__ import annotations

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql.disjoint import LARGE, DisjointProgram, NotDisjointError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
    Clear,
    Committed,
    Delete,
    Enter,
    Key,
    Leave,
    Precondition,
    Put,
    Trim,
    When,
    Write,
)

SLOT = Slot(3)
A, B, N, LOG = Key("run", "a"), Key("run", "b"), Key("run", "n"), Key("run", "log")
OTHER = Key("other", "n")
ENDS = When(N, 0, (Put(A, b"1"), Leave("i", "x"), Enter("j", "x")), (Leave("i", "x"),))


def batch(*writes: Write, checks: tuple[Precondition, ...] = (), slot: Slot = SLOT) -> Batch:
    return Batch(slot=slot, checks=checks, writes=writes)


def numbers(parameter: object) -> list[int]:
    assert isinstance(parameter, str)
    return [int(number) for number in parameter.strip("{}").split(",") if number]


@pytest.mark.parametrize(
    "group",
    [
        [batch(Put(A, b""), Put(A, b""))],
        [batch(Add(N, 1), Add(N, 1))],
        [batch(Append(LOG, (b"",)), Append(LOG, (b"",)))],
        [batch(Append(LOG, ()))],
        [batch(Enter("i", "x"), Leave("i", "x"))],
        [batch(Enter("i", "x")), batch(Enter("i", "x"))],
        [batch(Put(A, b"")), batch(Put(A, b""))],
        [batch(Put(A, b"")), batch(Put(B, b""), slot=Slot(4))],
        [batch(Add(N, 1)), batch(Add(N, 1), slot=Slot(4))],
        [batch(Append(LOG, (b"",))), batch(Append(LOG, (b"",)), slot=Slot(4))],
        [batch(Add(N, 1)), batch(Add(OTHER, 1), When(OTHER, 0, (Add(N, 1),)), slot=Slot(4))],
        [batch(checks=(Check(A, 1),)), batch(checks=(Check(A, 1),), slot=Slot(4))],
        [batch(Delete(A)), batch(Delete(B), slot=Slot(4))],
        [batch(Put(A, b"")), batch(checks=(Check(A, ABSENT),))],
        [batch(Add(N, -1), ENDS), batch(checks=(Check(A, ABSENT),))],
        [batch(Delete(A)), batch(checks=(Check(A, ABSENT),))],
        [batch(Delete(A)), batch(Put(A, b""))],
        [batch(Delete(A)), batch(Delete(A))],
        [batch(Delete(N)), batch(Add(N, 1))],
        [batch(Append(LOG, (b"",))), batch(Delete(LOG))],
        [batch(Add(N, -1), ENDS), batch(Add(N, 0), When(N, 0, (Put(A, b"1"),)))],
        [batch(Add(N, -1), ENDS), batch(Add(B, 1), When(B, 0, (Put(A, b"1"),)))],
        [batch(Add(N, -1), ENDS), batch(Put(A, b"1"))],
        [batch(Put(A, b"1")), batch(Add(N, -1), ENDS)],
        [batch(Add(N, 1), Add(B, 1), When(N, 0, (Add(B, 1),)), When(B, 0, ()))],
        [batch(Add(N, 1), Add(B, 1), When(N, 0, (Add(B, 1),))), batch(Add(B, 1), When(B, 0, ()))],
        [batch(Add(N, 1), Add(B, 1), When(N, 0, (Add(B, 1), Add(B, 1))))],
        [batch(Add(N, 1), When(N, 0, (Add(B, 1),)))],
        [batch(Add(N, 1), When(N, 0, (Append(LOG, (b"",)),)))],
        [batch(Add(N, 1), When(N, 0, (Delete(A),)))],
        [batch(Add(N, 1), ENDS), batch(Enter("i", "x"))],
        [batch(Enter("i", "x")), batch(Add(N, 1), ENDS)],
        [batch(Put(A, b""), Add(N, 1), ENDS)],
        [batch(Add(N, 1), ENDS, When(N, 1, (), (Enter("j", "x"),)))],
        [batch(Add(N, 1), When(N, 0, (Put(A, b""), Put(A, b""))))],
        [batch(Add(N, 1), When(N, 0, (), (Add(N, 1),)))],
        [batch(Add(N, 1), When(N, 0, (When(N, 0, ()),)))],
        [batch(ENDS)],
        [batch(Add(N, LARGE))],
        [batch(Add(N, -LARGE))],
        [batch(Add(N, 1), When(N, LARGE, ()))],
        [batch(Add(N, 1), Add(B, 1), When(N, 0, (Add(B, LARGE),)))],
        [batch(checks=(CheckLength(LOG, 0),))],
        [batch(Trim(LOG, 1))],
        [batch(Clear("run", 1))],
    ],
    ids=str,
)
def test_a_group_in_which_one_thing_may_depend_on_another_is_not_taken(group: list[Batch]) -> None:
    with pytest.raises(NotDisjointError):
        DisjointProgram(group, space=b"s")


def test_batches_may_share_what_they_only_add_to() -> None:
    group = [batch(Add(N, 1), Append(LOG, (b"1",)), Put(A, b"a")), batch(Add(N, 2), Append(LOG, (b"2", b"3")))]
    checked = [batch(checks=(Check(A, 1), Check(B, 2))), batch(*group[0].writes, checks=(Check(A, 1),)), group[1]]
    program = DisjointProgram(checked, space=b"s")
    _, given, homes, checks, counters, whens, adds, puts, logs, appends, deletes, leaves, enters = program.arguments()
    assert isinstance(given, list)
    assert given == [b"run", b"a", b"b", b"a", b"n", b"log", b"1", b"2", b"3"]
    assert (numbers(homes), numbers(checks)) == ([3, 1], [1, 2, 1, 1, 3, 2])
    assert (numbers(counters), numbers(logs)) == ([1, 5, 3], [1, 6])
    assert numbers(appends) == [1, 7, 0, 1, 8, 1, 1, 9, 2]
    assert numbers(puts) == [1, 2, 4, 1]
    assert [numbers(each) for each in (whens, adds, deletes, leaves, enters)] == [[], [], [], [], []]
    assert len(program.locks) == 1
    assert program.outcomes([13, 40, 41, 42]) == (
        Committed(),
        Committed(positions={LOG: 40}, counters={N: 11}),
        Committed(positions={LOG: 41}, counters={N: 13}),
    )


def test_each_batch_sees_its_own_zero_of_a_counter_that_they_share() -> None:
    ends = When(N, 0, (Put(A, b"join"), Enter("j", "x"), Add(B, 1)), (Leave("i", "x"),))
    group = [
        batch(Add(N, -1), Add(B, -1), ends),
        batch(Add(N, -1), Add(B, -1), When(N, 0, ends.then)),
        batch(Add(B, 5)),
    ]
    program = DisjointProgram(group, space=b"s")
    _, _, _, _, counters, whens, adds, puts, *_ = program.arguments()
    assert (numbers(counters)[2::3], numbers(whens)) == ([-2, 3], [1, -1, 1, 0])  # in the end -1: it was 1, and was 0
    assert (numbers(adds), numbers(puts)[3::4]) == ([2, 1, 2, 2, 1, 4], [2, 4])
    assert program.outcomes([-1, 13]) == (
        Committed(counters={N: 0, B: 10}),
        Committed(counters={N: -1, B: 9}),
        Committed(counters={B: 14}),
    )
    assert program.outcomes([0, 13]) == (
        Committed(counters={N: 1, B: 9}),
        Committed(counters={N: 0, B: 9}),
        Committed(counters={B: 14}),
    )
    assert program.outcomes([7, 13])[1:] == (Committed(counters={N: 7, B: 8}), Committed(counters={B: 13}))


def test_a_counter_that_only_a_branch_adds_to_is_told_where_it_is_taken() -> None:
    group = [batch(Add(B, 1)), batch(Add(N, 1), When(N, 1, (Add(B, 2),), ()))]
    program = DisjointProgram(group, space=b"s")
    assert program.outcomes([4, 1])[1] == Committed(counters={N: 1, B: 6})
    assert program.outcomes([4, 2])[1] == Committed(counters={N: 2})


def test_branches_of_which_one_is_taken_may_write_the_same() -> None:
    other = Key("other", "n")
    group = [batch(Add(N, 1), ENDS), batch(Add(other, 2), When(other, 7, (), (Enter("k", "x"),)), slot=Slot(4))]
    program = DisjointProgram(group, space=b"s")
    _, _, homes, _, counters, whens, _, puts, _, _, _, leaves, enters = program.arguments()
    assert (numbers(homes)[0::2], numbers(counters)[2::3]) == ([3, 4], [1, 2])
    assert numbers(whens) == [1, 0, 2, 7]
    assert numbers(puts)[3::4] == [2]
    assert numbers(leaves)[3::4] == [2, 3]
    assert numbers(enters)[3::5] == [2, 5]
    assert len(program.locks) == 2


def test_what_is_deleted_is_named_once() -> None:
    program = DisjointProgram([batch(Put(A, b""), Delete(B))], space=b"s")
    deletes = program.arguments()[10]
    assert numbers(deletes) == [1, 4]
    assert program.outcomes([]) == (Committed(),)


def test_a_text_is_given_once_and_every_value_for_itself() -> None:
    program = DisjointProgram([batch(Put(A, b"a"), Put(B, b"a"), Add(A, 1), Leave("b", "run"))], space=b"s")
    _, given, *_ = program.arguments()
    assert given == [b"run", b"a", b"a", b"b", b"a"]  # the partition, the name, its value, the other name, its value


def test_an_answer_is_told_to_each_batch_in_the_order_of_what_it_asked() -> None:
    log, n = Key("other", "log"), Key("other", "n")
    group = [
        batch(Add(N, 1), Append(LOG, (b"1", b"2")), Add(B, 1)),
        batch(),
        batch(Append(log, (b"3",)), Add(n, 1)),
    ]
    assert DisjointProgram(group, space=b"s").outcomes([10, 11, 12, 40, 41, 7]) == (
        Committed(positions={LOG: 40}, counters={N: 10, B: 11}),
        Committed(),
        Committed(positions={log: 7}, counters={n: 12}),
    )


def test_half_a_surrogate_pair_is_no_key() -> None:
    with pytest.raises(UnicodeEncodeError):
        DisjointProgram([batch(Put(Key("\ud800", "a"), b""))], space=b"s")
