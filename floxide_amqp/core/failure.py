"""What is remembered of an error: enough to route, to show and to tell classes apart, never a live object."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

MAX_MESSAGE_LENGTH = 2_000
"""Characters kept of an error's message, so that one error cannot fill a store."""

MAX_NAME_LENGTH = 500
"""Characters kept of a class's name."""

MAX_TRACEBACK_LENGTH = 8_000
"""Characters kept of a traceback: the end, where the cause is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An exception as data.

    Attributes:
        kinds: ``module.Class`` of the exception's class and its bases, most derived first.
        message: Its text, at most `MAX_MESSAGE_LENGTH` characters.
        traceback: Its traceback as text, at most `MAX_TRACEBACK_LENGTH` characters; may be empty.
    """

    kinds: tuple[str, ...]
    message: str
    traceback: str = ""

    @property
    def error_type(self) -> str:
        """The class name without its module."""
        return self.kinds[0].rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureInfo:
    """Why a fallback branch runs.

    Attributes:
        node: The node that failed.
        error_type: Class name of its last error.
        message: That error's text.
        attempts: How often the node was tried, 1 or more.
    """

    node: str
    error_type: str
    message: str
    attempts: int


def kind_of(error_class: type[BaseException]) -> str:
    """Return ``module.Class`` of an exception class, cut short where somebody made up an endless one."""
    return f"{error_class.__module__}.{error_class.__qualname__}"[:MAX_NAME_LENGTH]


def error_kinds(error: BaseException) -> tuple[str, ...]:
    """Return ``module.Class`` of an exception's class and its bases up to `BaseException`, most derived first."""
    return tuple(kind_of(c) for c in type(error).__mro__ if issubclass(c, BaseException))


def describe_error(error: BaseException) -> ErrorInfo:
    """Turn an exception into data; an exception whose own ``__str__`` or traceback fails is still described."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - user code: formatting calls it
        text = ""
    return _described(error, text)


def describe_unraised(error: BaseException) -> ErrorInfo:
    """Turn an exception that nobody raised into data: it has no traceback, and none is looked for."""
    return _described(error, "")


def _described(error: BaseException, text: str) -> ErrorInfo:
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - user code: a broken __str__ must not hide the first error
        message = f"<{type(error).__name__}.__str__ raised {type(broken).__name__}>"
    return ErrorInfo(
        kinds=error_kinds(error),
        message=storable(message[:MAX_MESSAGE_LENGTH]),
        traceback=storable(text[-MAX_TRACEBACK_LENGTH:]),
    )


def storable(text: str) -> str:
    """Return a text without lone surrogates, which names of files may contain and no encoding takes."""
    return text.encode("utf-8", "backslashreplace").decode()
