"""Versions whose declared signals have other types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from floxide_amqp import Signal, Workflow, node
from floxide_amqp.core.agreement import agree
from floxide_amqp.core.descriptions import Description, decode_description, describe_graph, encode_description


@dataclass
class Answer:
    yes: bool


@dataclass
class LongerAnswer:
    yes: bool
    why: str = ""


@dataclass
class NeedyAnswer:
    yes: bool
    why: str


@node
async def ask(x: int) -> int:
    return x


def described(signal: Signal[Any], version: str = "1") -> Description:
    class Asks(Workflow[int, int], version=version):
        start = ask
        signals = (signal,)

    return describe_graph(Asks.graph)


@pytest.mark.parametrize("after", [Answer, LongerAnswer])
def test_versions_agree_where_each_reads_the_values_that_senders_with_the_other_send(after: type) -> None:
    agreement = agree(described(Signal("answer", Answer)), described(Signal("answer", after), version="2"))
    assert agreement.why_not("ask") is None


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (Answer, NeedyAnswer, "the values of signal 'answer' changed: "),
        (NeedyAnswer, Answer, "the values of signal 'answer' changed: "),
        (int, str, "the values of signal 'answer' changed: "),
    ],
)
def test_versions_do_not_agree_where_one_cannot_read_the_values_of_a_signal(
    before: type, after: type, problem: str
) -> None:
    agreement = agree(described(Signal("answer", before)), described(Signal("answer", after), version="2"))
    why = agreement.why_not("ask")
    assert why is not None
    assert why.startswith(problem)


def test_a_signal_that_one_version_alone_declares_does_no_harm() -> None:
    one, two = described(Signal("answer", Answer)), described(Signal("other", int), version="2")
    assert agree(one, two).why_not("ask") is None
    assert agree(two, one).why_not("ask") is None


def test_a_description_without_signals_is_read_as_one_of_a_version_that_declares_none() -> None:
    description = described(Signal("answer", Answer))
    assert decode_description(encode_description(description)) == description
    plain = json.loads(encode_description(description))
    del plain["signals"]
    assert decode_description(json.dumps(plain).encode()).signals == {}
