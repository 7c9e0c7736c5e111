from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import typer

from floxide_amqp import exceptions
from floxide_amqp.apps.cli.failures import ExitCode, exit_code_of, explaining
from floxide_amqp.exceptions import (
    BrokerUnavailableError,
    ConfigurationError,
    DefinitionError,
    ResultTimeoutError,
    RunCancelledError,
    RunNotFoundError,
    RunTimeoutError,
    StoreReadOnlyError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunTimeoutError(run_id="r", timeout_seconds=1), ExitCode.RUN_FAILED),
        (RunCancelledError(run_id="r"), ExitCode.RUN_FAILED),
        (DefinitionError("wrong"), ExitCode.USAGE),
        (ConfigurationError("wrong"), ExitCode.CONFIGURATION),
        (BrokerUnavailableError(url="amqp://a", operation="Connecting", reason="no"), ExitCode.CONFIGURATION),
        (StoreReadOnlyError(store="a", reason="no"), ExitCode.CONFIGURATION),
        (RunNotFoundError(run_id="r"), ExitCode.CONFLICT),
        (ResultTimeoutError(run_id="r", timeout_seconds=1, status="running"), ExitCode.TIMEOUT),
        (ValueError("a defect"), ExitCode.DEFECT),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_no_error_of_the_tree_but_those_of_a_step_counts_as_a_defect() -> None:
    in_steps = (exceptions.NodeError,)
    kinds = [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, exceptions.FloxideError) and not issubclass(kind, in_steps)
    ]
    unforeseen = [kind for kind in kinds if exit_code_of(kind.__new__(kind)) is ExitCode.DEFECT]
    assert unforeseen == [exceptions.FloxideError]


def raises(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (asyncio.CancelledError(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (typer.Exit(7), 7, ""),
        (RunNotFoundError(run_id="r"), 4, "floxide: There is no run 'r' in this store."),
        (ValueError("odd"), 70, "floxide: An error that nobody foresaw ended this command: ValueError: odd. Run it"),
        (ValueError(), 70, "floxide: An error that nobody foresaw ended this command: ValueError. Run it"),
    ],
)
def test_what_escapes_becomes_a_sentence_and_an_exit(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, explaining(debug=False):
        raises(error)()
    assert caught.value.exit_code == code
    assert " ".join(capsys.readouterr().err.split()).startswith(text)


def test_debug_prints_the_traceback_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), explaining(debug=True):
        raises(ValueError("odd"))()
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert "--debug" not in text
