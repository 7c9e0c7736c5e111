"""Loggers: structlog's key-value calls over the standard library's logging.

A program that configures nothing sees warnings on standard error and nothing else; one that configures `logging`
decides as for any library. The key-value pairs are the record's extra attributes, and part of its message.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import structlog
from structlog.typing import EventDict, WrappedLogger


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a part, such as ``floxide_amqp.worker``."""
    return cast(
        "structlog.stdlib.BoundLogger",
        structlog.wrap_logger(
            logging.getLogger(name),
            processors=[structlog.stdlib.filter_by_level, structlog.contextvars.merge_contextvars, _as_record],
            wrapper_class=_QuickLogger,
        ).bind(),
    )


class _QuickLogger(structlog.stdlib.BoundLogger):
    """Asks whether anybody listens before the pairs are processed: what nobody reads is logged with each step."""

    def debug(self, event: str | None = None, *args: Any, **pairs: Any) -> Any:
        """Log for whoever looks for a fault."""
        return super().debug(event, *args, **pairs) if self._logger.isEnabledFor(logging.DEBUG) else None

    def info(self, event: str | None = None, *args: Any, **pairs: Any) -> Any:
        """Log what is as it should be."""
        return super().info(event, *args, **pairs) if self._logger.isEnabledFor(logging.INFO) else None


def _as_record(logger: WrappedLogger, method: str, event: EventDict) -> tuple[tuple[str], dict[str, object]]:
    """Turn an event into a record: a readable message, and the pairs under ``floxide`` for structured output."""
    del logger, method
    exc_info = event.pop("exc_info", None)
    name = str(event.pop("event", ""))
    pairs = " ".join(f"{key}={value!r}" if " " in str(value) else f"{key}={value}" for key, value in event.items())
    facts: dict[str, object] = {"extra": {"floxide_event": name, "floxide": dict(event)}}
    if exc_info:
        facts["exc_info"] = exc_info
    return (f"{name} {pairs}".strip(),), facts
