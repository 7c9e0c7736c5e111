from __future__ import annotations

from floxide_amqp.drivers.amqp.refusals import Refusals


def blamed_at(refusals: Refusals, queue: str, seconds: range) -> list[int]:
    return [second for second in seconds if refusals.note_refused(queue, float(second))]


def test_the_channel_is_blamed_for_refusals_that_go_on_and_ever_less_often() -> None:
    assert blamed_at(Refusals(), "a", range(300)) == [2, 7, 16, 33, 66, 127, 188, 249]


def test_a_message_that_the_queue_took_makes_the_patience_new() -> None:
    refusals = Refusals()
    assert blamed_at(refusals, "a", range(8)) == [2, 7]
    refusals.note_confirmed("a")
    assert blamed_at(refusals, "a", range(8, 12)) == [10]


def test_what_one_queue_takes_does_not_clear_another() -> None:
    refusals = Refusals()
    assert not refusals.note_refused("a", 0.0)
    refusals.note_confirmed("b")
    assert refusals.note_refused("a", 2.0)
