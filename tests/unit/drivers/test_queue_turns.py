"""A consumer takes from the higher levels first, from each lower one now and then, and from those of one in turn."""

from __future__ import annotations

from collections import Counter

from floxide_amqp.drivers.queue_turns import LOWER_FIRST_EVERY, QueueTurns


def taken(turns: QueueTurns, waiting: Counter[str], number: int) -> list[str | None]:
    order: list[str | None] = []
    for _ in range(number):
        name = turns.next(waiting.__getitem__)
        order.append(name)
        if name is not None:
            waiting[name] -= 1
    return order


def test_queues_of_one_level_are_taken_from_in_turn() -> None:
    waiting = Counter({"a": 3, "b": 1, "c": 9})
    assert taken(QueueTurns("abc"), waiting, 7) == ["a", "b", "c", "a", "c", "a", "c"]


def test_the_highest_level_comes_first_and_none_starves() -> None:
    waiting = Counter({"q": 1000, "q!high": 1000, "q!low": 1000})
    order = Counter(taken(QueueTurns(["q", "q!low", "q!high"]), waiting, 1000))
    lower = 1000 // LOWER_FIRST_EVERY // 2
    assert order == {"q!high": 1000 - 2 * lower, "q": lower, "q!low": lower}


def test_a_level_without_messages_gives_its_turn_to_the_other() -> None:
    waiting = Counter({"q!low": 1000, "q!high": 1000})
    order = Counter(taken(QueueTurns(["q", "q!low", "q!high"]), waiting, 1000))
    assert order == {"q!high": 900, "q!low": 100}


def test_what_is_alone_is_taken_at_once_whatever_its_level() -> None:
    assert taken(QueueTurns(["q", "q!low"]), Counter({"q!low": 2}), 3) == ["q!low", "q!low", None]


def test_all_names_are_there_once() -> None:
    assert sorted(QueueTurns(["q", "q!low", "q", "r!high/gpu"])) == ["q", "q!low", "r!high/gpu"]
