"""Loggers: structlog's key-value calls over the standard library's logging.

A program that configures nothing sees warnings on standard error and nothing else; one that configures `logging`
decides as for any library. The key-value pairs are the record's extra attributes, and part of its message.
"""

from __future__ import annotations

import logging
from typing import Any, Final, cast

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a part, such as ``floxide_amqp.worker``."""
    logger = structlog.wrap_logger(logging.getLogger(name), processors=(), wrapper_class=_QuickLogger)
    return cast("structlog.stdlib.BoundLogger", logger.bind())


class _QuickLogger(structlog.stdlib.BoundLogger):
    """Asks whether anybody listens before anything is made of the pairs: what nobody reads is logged with each step.

    What is read becomes a record here, without structlog's chain of processors: one is logged for each run, and costs a
    seventh less so.
    """

    def debug(self, event: str | None = None, *args: Any, **pairs: Any) -> None:
        """Log for whoever looks for a fault."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._proxy_to_logger("debug", event, *args, **pairs)

    def info(self, event: str | None = None, *args: Any, **pairs: Any) -> None:
        """Log what is as it should be."""
        if self._logger.isEnabledFor(logging.INFO):
            self._proxy_to_logger("info", event, *args, **pairs)

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *event_args: Any, **event_kw: Any) -> None:
        """Make a record: a readable message, and the pairs under ``floxide`` for structured output."""
        level = _LEVELS[method_name]
        if not self._logger.isEnabledFor(level):
            return
        facts: dict[str, object] = {**structlog.contextvars.get_contextvars(), **self._context, **event_kw}
        if event_args:
            facts["positional_args"] = event_args
        exc_info: Any = facts.pop("exc_info", None)
        name = "" if event is None else str(event)
        pairs = " ".join(
            [f"{key}={value!r}" if " " in str(value) else f"{key}={value}" for key, value in facts.items()]
        )
        self._logger.log(
            level, f"{name} {pairs}".strip(), exc_info=exc_info, extra={"floxide_event": name, "floxide": facts},
            stacklevel=_CALLER,
        )  # fmt: skip


_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}

_CALLER: Final = 3
"""How many calls above the record's making the line is that logs."""
