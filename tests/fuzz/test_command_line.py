"""What people type and paste: JSON, references, URLs. Wrong ones are a sentence, and never tell a password."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp import Context, EventLog, Floxide, Sum, Union, Workflow, node
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.inputs import MAX_JSON_BYTES, parse_context, parse_input, read_json
from floxide_amqp.apps.cli.references import load_app, load_workflow
from floxide_amqp.apps.log_setup import ConsoleFormatter, JsonFormatter
from floxide_amqp.exceptions import FloxideError
from tests.fuzz.hostile import FEW, loose_texts, raises_nothing_but, values

SECRET = "s3cr3t-w0rd"


@dataclass
class Order:
    name: str
    lines: list[tuple[int, float]]
    at: datetime | timedelta | None = None


class Told(Context):
    total: Annotated[int, Sum()] = 0
    log: EventLog[Order] = EventLog()
    names: Annotated[set[str], Union()] = set()


@node
async def take(x: Order) -> int:
    return len(x.lines)


class Taking(Workflow[Order, int, Told]):
    start = take


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | loose_texts,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["name", "lines", "at", "total", "log", "names", "x"]), inner, max_size=5)
    ),
    max_leaves=20,
)
json_texts = st.one_of(
    json_values.map(json.dumps),
    json_values.map(lambda value: json.dumps(value)[:-1]),
    loose_texts,
    st.sampled_from(
        ["", " ", "NaN", "-", "[" * 5_000, '{"a":' * 5_000, "1e999", "9" * 5_000, '"\\ud800"', "\0", "{" * 300]
    ),
)


@pytest.mark.fault(35)
@FEW
@given(json_texts)
def test_an_input_on_the_command_line_is_taken_or_refused_with_a_sentence(text: str) -> None:
    with patch("sys.stdin", io.StringIO(text)):
        raises_nothing_but(FloxideError, lambda: parse_input(Taking.graph, text))


@FEW
@given(json_texts)
def test_a_context_on_the_command_line_is_taken_or_refused_with_a_sentence(text: str) -> None:
    with patch("sys.stdin", io.StringIO(text)):
        raises_nothing_but(FloxideError, lambda: parse_context(Told, text))


def test_an_input_longer_than_a_payload_can_be_is_refused_before_it_is_parsed(tmp_path: Any) -> None:
    long = tmp_path / "long.json"
    with long.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(UsageError, match="at most"):
        read_json(str(long), "--input")


@FEW
@given(st.one_of(loose_texts, st.lists(loose_texts, min_size=2, max_size=3).map(":".join),
                 st.sampled_from(["tests.fuzz.test_command_line:Taking", "json:", ":x", "json:a.b.c", "..:a", "json:.",
                                  "json:__class__", "a/b.py:x", "\0:x", "json:\ud800", ".x:y", "x..y:z"])))  # fmt: skip
def test_a_reference_leads_somewhere_or_is_refused_with_a_sentence(reference: str) -> None:
    for load in (load_app, lambda given: load_workflow(given, None)):
        raises_nothing_but(FloxideError, lambda load=load: load(reference))


hosts = st.sampled_from(
    ["host", "host:5672", "host:99999999", "[::1]", "[::1", "h o s t", "", "host/%2f?heartbeat=x", "é"]
)
schemes = st.sampled_from(
    ["amqp://", "amqps://", "http://", "sqlite://", "postgresql://", "", "amqp:/", "AMQP://", "//"]
)
users = st.one_of(st.sampled_from(["user", "us er", "a@b", "a:b", "%zz", "ü"]), loose_texts)
rests = st.one_of(st.sampled_from(["", "/", "/v?no_verify_ssl=1", "/v?a=%", "/\ud800", "#x"]), loose_texts)
broken_urls = st.builds(
    lambda scheme, user, host, rest: f"{scheme}{user}:{SECRET}@{host}{rest}", schemes, users, hosts, rests
)


def refusal(act: Callable[[], Any]) -> str:
    """Return all that an error says, or nothing where there is none."""
    try:
        act()
    except FloxideError as error:
        return f"{error} {error.__dict__}"
    return ""


@FEW
@given(broken_urls)
def test_a_url_that_cannot_be_understood_is_refused_without_its_password(url: str) -> None:
    for places in ({"broker": url, "store": "sqlite:///x.db"}, {"store": url}):
        refused = refusal(lambda places=places: Floxide(**places, workflows=[Taking]))
        assert SECRET not in refused


@FEW
@given(st.dictionaries(loose_texts, st.one_of(values, loose_texts), max_size=4), loose_texts)
def test_a_log_line_is_one_line_that_any_stream_takes_whatever_is_logged(facts: dict[str, Any], event: str) -> None:
    record = logging.LogRecord("floxide_amqp.x", logging.INFO, __file__, 1, "m", (), None)
    record.floxide_event, record.floxide = event, facts
    line = JsonFormatter().format(record)
    line.encode()
    assert "\n" not in line
    assert json.loads(line)["event"] is not None
    ConsoleFormatter(colors=False).format(record).encode()
