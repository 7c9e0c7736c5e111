"""Which groups the PostgreSQL store commits without an interpreter, and how it reads the server's answer to one."""

from __future__ import annotations

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql.disjoint import DisjointProgram, NotDisjointError
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
        [batch(Put(A, b"")), batch(Put(B, b""))],
        [batch(Put(A, b"")), batch(Put(B, b""), slot=Slot(4))],
        [batch(Put(A, b"")), batch(checks=(Check(B, ABSENT),))],
        [batch(Put(A, b"")), batch(Add(N, 1))],
        [batch(Put(A, b"")), batch(Append(LOG, (b"",)))],
        [batch(Add(N, 1), ENDS), batch(Enter("i", "x"))],
        [batch(Enter("i", "x")), batch(Add(N, 1), ENDS)],
        [batch(Put(A, b""), Add(N, 1), ENDS)],
        [batch(Add(N, 1), ENDS, When(N, 1, (), (Enter("j", "x"),)))],
        [batch(Add(N, 1), When(N, 0, (Put(A, b""), Put(A, b""))))],
        [batch(Add(N, 1), When(N, 0, (), (Add(N, 1),)))],
        [batch(Add(N, 1), When(N, 0, (When(N, 0, ()),)))],
        [batch(ENDS)],
        [batch(checks=(CheckLength(LOG, 0),))],
        [batch(Delete(A))],
        [batch(Trim(LOG, 1))],
        [batch(Clear("run", 1))],
    ],
    ids=str,
)
def test_a_group_in_which_one_thing_may_depend_on_another_is_not_taken(group: list[Batch]) -> None:
    with pytest.raises(NotDisjointError):
        DisjointProgram(group, space=b"s")


def test_many_entries_of_one_log_go_the_way_on_which_its_end_is_looked_for_once() -> None:
    DisjointProgram([batch(Append(LOG, (b"",) * 32), Append(A, (b"",) * 32))], space=b"s")
    with pytest.raises(NotDisjointError):
        DisjointProgram([batch(Append(LOG, (b"",) * 33))], space=b"s")


def test_branches_of_which_one_is_taken_may_write_the_same() -> None:
    other = Key("other", "n")
    group = [batch(Add(N, 1), ENDS), batch(Add(other, 2), When(other, 7, (), (Enter("k", "x"),)), slot=Slot(4))]
    program = DisjointProgram(group, space=b"s")
    _, _, homes, _, adds, whens, puts, _, leaves, enters = program.arguments()
    assert (numbers(homes)[0::2], numbers(adds)[2::3]) == ([3, 4], [1, 2])
    assert numbers(whens) == [1, 0, 2, 7]
    assert numbers(puts)[3::4] == [2]
    assert numbers(leaves)[3::4] == [2, 3]
    assert numbers(enters)[3::5] == [2, 5]
    assert len(program.locks) == 2


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
