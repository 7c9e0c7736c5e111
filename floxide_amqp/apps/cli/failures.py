"""What went wrong, for people: one paragraph on standard error and an exit code. `docs/cli.md` lists the codes."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

import typer

from floxide_amqp.exceptions import (
    AlreadyCompletedError,
    BrokerError,
    CodecError,
    ConfigurationError,
    DeadLetterIncompleteError,
    DeadLetterNotFoundError,
    DefinitionError,
    FloxideError,
    ForkError,
    InvalidRunIdError,
    InvalidRunStateError,
    MailboxFullError,
    NotStartedError,
    ResultTimeoutError,
    RunChangedError,
    RunConflictError,
    RunError,
    RunImportError,
    RunNotFoundError,
    ScheduleNotFoundError,
    SignalConflictError,
    SourceNotFoundError,
    StoreError,
    UnknownKeyError,
    UnknownSignalError,
    UnknownWorkflowError,
    WorkerStuckError,
    WorkItemNotFoundError,
)
from floxide_amqp.runtime.settings import EXIT_STUCK


class ExitCode(IntEnum):
    """What the process says at its end."""

    OK = 0
    RUN_FAILED = 1
    """The run failed, timed out by its own deadline or was cancelled; of `check`, something would break."""
    USAGE = 2
    """The command line, the application, a workflow's definition or an input is wrong."""
    CONFIGURATION = 3
    """The deployment is wrong, or the broker or the store cannot be used."""
    CONFLICT = 4
    """There is no such run, or it is not in the state, or not of the input, that the command needs."""
    TIMEOUT = 5
    """The time to wait is over; the run goes on."""
    STUCK = EXIT_STUCK
    """A worker ended itself because nodes block its event loop or hold its threads; start it again."""
    DEFECT = 70
    """An error that nobody foresaw, in this package or in the application's own code."""
    INTERRUPTED = 130
    """Ended by Ctrl-C; 143 where a SIGTERM ended it."""


class UsageError(FloxideError):
    """What was asked for on the command line cannot be done; the message says what can."""


class MissingError(FloxideError):
    """What was named on the command line is not there."""


EXIT_CODES: tuple[tuple[type[FloxideError], ExitCode], ...] = (
    (ResultTimeoutError, ExitCode.TIMEOUT),
    (RunNotFoundError, ExitCode.CONFLICT),
    (NotStartedError, ExitCode.CONFLICT),
    (DeadLetterNotFoundError, ExitCode.CONFLICT),
    (DeadLetterIncompleteError, ExitCode.CONFLICT),
    (AlreadyCompletedError, ExitCode.CONFLICT),
    (RunConflictError, ExitCode.CONFLICT),
    (RunChangedError, ExitCode.CONFLICT),
    (RunImportError, ExitCode.CONFLICT),
    (InvalidRunStateError, ExitCode.CONFLICT),
    (WorkItemNotFoundError, ExitCode.CONFLICT),
    (ForkError, ExitCode.CONFLICT),
    (ScheduleNotFoundError, ExitCode.CONFLICT),
    (SourceNotFoundError, ExitCode.CONFLICT),
    (SignalConflictError, ExitCode.CONFLICT),
    (MailboxFullError, ExitCode.CONFLICT),
    (UnknownSignalError, ExitCode.USAGE),
    (MissingError, ExitCode.CONFLICT),
    (InvalidRunIdError, ExitCode.USAGE),
    (UnknownWorkflowError, ExitCode.USAGE),
    (UsageError, ExitCode.USAGE),
    (DefinitionError, ExitCode.USAGE),
    (UnknownKeyError, ExitCode.CONFIGURATION),
    (CodecError, ExitCode.USAGE),
    (ConfigurationError, ExitCode.CONFIGURATION),
    (WorkerStuckError, ExitCode.STUCK),
    (BrokerError, ExitCode.CONFIGURATION),
    (StoreError, ExitCode.CONFIGURATION),
    (RunError, ExitCode.RUN_FAILED),
)
"""Error → exit code; the first that fits. Everything else is a defect."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code of an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), ExitCode.DEFECT)


@contextmanager
def explaining(*, debug: bool) -> Generator[None]:
    """Turn what escapes the block into a paragraph on standard error and an exit.

    Args:
        debug: Print the traceback as well.
    """
    try:
        yield
    except typer.Exit:
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:  # whoever read our output has gone, as in `floxide list … | head`
        raise typer.Exit(ExitCode.OK) from None
    except Exception as error:  # noqa: BLE001 - the supervisor of the process
        if debug:
            traceback.print_exc()
        code = exit_code_of(error)
        say(_sentence(error, code, debug=debug))
        raise typer.Exit(code) from None


def say(text: str) -> None:
    """Print a paragraph for the person at the terminal to standard error."""
    paragraph = f"floxide: {text}"
    print(textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False), file=sys.stderr, flush=True)


def _sentence(error: Exception, code: ExitCode, *, debug: bool) -> str:
    if code is not ExitCode.DEFECT:
        return str(error)
    described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "" if debug else " Run it again with --debug for the traceback."
    return f"An error that nobody foresaw ended this command: {described}.{hint}"
