"""Log lines of a program: one line per event on standard error, as JSON for machines or as text for people.

Only programs call this (the `floxide` command does); the library leaves `logging` as it finds it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TextIO, cast

import structlog

from floxide_amqp.core.failure import storable

BROKER_LIBRARIES = ("aio_pika", "aiormq")
"""Loggers of libraries whose errors are reported here as events: their own lines are shown from level debug on."""


_ENCODER: Final = json.JSONEncoder(default=str, ensure_ascii=False)  # `json.dumps` makes one for each line


class LogFormat(StrEnum):
    """How a log line looks."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least level that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def set_up_logging(level: LogLevel, form: LogFormat | None = None, stream: TextIO | None = None) -> None:
    """Send every log record of this process to one stream; what was set up before is replaced.

    Args:
        level: The least level that is shown.
        form: How lines look; by default text on a terminal and JSON elsewhere.
        stream: Where they go; standard error if left out.
    """
    target = sys.stderr if stream is None else stream
    if form is None:
        form = LogFormat.CONSOLE if target.isatty() else LogFormat.JSON
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else ConsoleFormatter(colors=target.isatty()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for library in BROKER_LIBRARIES:
        logging.getLogger(library).setLevel(logging.NOTSET if level is LogLevel.DEBUG else logging.CRITICAL)


def event_of(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """Return a record's event and its facts; a record of another library has its message and none."""
    name = getattr(record, "floxide_event", None)
    if not isinstance(name, str):
        return record.getMessage(), {}
    return name, cast("Mapping[str, object]", getattr(record, "floxide", {}))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time``, ``level``, ``logger``, ``event``, then the event's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event, facts = event_of(record)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        line |= {name: value for name, value in facts.items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _as_one_line(line)


def _as_one_line(facts: Mapping[str, object]) -> str:
    """Return facts as one line of JSON, whatever they are: logging must not fail for what it is given."""
    try:
        text = _ENCODER.encode(facts)
    except (TypeError, ValueError, RecursionError):  # keys that JSON has not, or a value that holds itself
        text = json.dumps({name: repr(value) for name, value in facts.items()}, ensure_ascii=False)
    return storable(text)


class ConsoleFormatter(logging.Formatter):
    """Time, level, event and facts, aligned for reading."""

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=28, exception_formatter=structlog.dev.plain_traceback
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it where there is one."""
        event, facts = event_of(record)
        shown = {
            "timestamp": datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3],
            "level": record.levelname.lower(),
            "event": event,
            **facts,
        }
        if record.exc_info:
            shown["exc_info"] = record.exc_info
        text = str(self._renderer(None, record.levelname.lower(), shown))
        return storable(text)
