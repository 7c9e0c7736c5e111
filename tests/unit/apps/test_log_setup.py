from __future__ import annotations

import io
import json
import logging
import warnings

import pytest
import structlog

from floxide_amqp.apps.log_setup import LogFormat, LogLevel, set_up_logging
from floxide_amqp.logs import get_logger


def test_a_json_line_has_the_event_and_its_facts_as_members() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.INFO, LogFormat.JSON, stream)
    get_logger("floxide_amqp.test").info("work_item.committed", run_id="r 1", node="pick", logger="twin")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info", "logger": "floxide_amqp.test", "event": "work_item.committed", "run_id": "r 1", "node": "pick",
    }  # fmt: skip


def test_a_traceback_stays_on_its_json_line() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.INFO, LogFormat.JSON, stream)
    try:
        raise ValueError("no")
    except ValueError:
        get_logger("floxide_amqp.test").exception("part.failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: no")


def test_records_of_other_libraries_and_warnings_are_events_too() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.INFO, LogFormat.JSON, stream)
    logging.getLogger("other").warning("%s is odd", 7)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        set_up_logging(LogLevel.INFO, LogFormat.JSON, stream)
        warnings.warn("old", stacklevel=1)
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events[0] == "7 is odd"
    assert "UserWarning: old" in events[1]


def test_a_console_line_is_for_reading() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.DEBUG, None if stream.isatty() else LogFormat.CONSOLE, stream)
    get_logger("floxide_amqp.test").debug("step.started", node="pick")
    line = stream.getvalue()
    assert "[debug" in line
    assert "step.started" in line
    assert "node=pick" in line
    assert "\x1b" not in line


def test_what_is_below_the_level_is_not_shown() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.WARNING, None, stream)
    get_logger("floxide_amqp.test").info("step.started")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "is_shown"), [(LogLevel.INFO, False), (LogLevel.DEBUG, True)])
def test_what_the_broker_libraries_say_is_for_debugging_only(level: LogLevel, *, is_shown: bool) -> None:
    stream = io.StringIO()
    set_up_logging(level, None, stream)
    logging.getLogger("aiormq.connection").error("Connection attempt failed")
    assert bool(stream.getvalue()) is is_shown
    set_up_logging(LogLevel.DEBUG, None, stream)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception", "critical"])
def test_a_record_names_the_line_that_logs(level: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="floxide_amqp.test")
    getattr(get_logger("floxide_amqp.test"), level)("step.started")
    (record,) = caplog.records
    assert record.pathname == __file__
    assert record.funcName == "test_a_record_names_the_line_that_logs"
    assert record.levelname == ("ERROR" if level == "exception" else level.upper())


def test_what_is_said_outweighs_what_is_bound_and_that_the_context(caplog: pytest.LogCaptureFixture) -> None:
    with structlog.contextvars.bound_contextvars(tenant="a", run_id="of the context", node="of the context"):
        get_logger("floxide_amqp.test").bind(run_id="bound", node="bound").warning("step.failed", node="said")
    (record,) = caplog.records
    assert record.__dict__["floxide"] == {"tenant": "a", "run_id": "bound", "node": "said"}
