"""The options that every command has, and the frame each command runs in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import ExitCode, explaining
from floxide_amqp.apps.cli.references import AnyWorkflow, load_app, load_workflow, workflow_of
from floxide_amqp.apps.cli.running import leave_if_nodes_hang
from floxide_amqp.apps.log_setup import LogFormat, LogLevel, set_up_logging
from floxide_amqp.apps.settings import BROKER_VARIABLE, STORE_VARIABLE, Settings, read_settings
from floxide_amqp.core.priorities import Priority
from floxide_amqp.exceptions import ConfigurationError

CONNECT_SECONDS = 10.0
"""Longest wait for the broker by default: somebody sits before the terminal. A worker waits as its application says."""

Reference = Annotated[
    str, typer.Argument(metavar="APP", help="module:attribute of the application, as in shop:app.", show_default=False)
]
WorkflowName = Annotated[
    str | None,
    typer.Argument(metavar="WORKFLOW", help="Its name; may be left out if there is one only.", show_default=False),
]
RunIdArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
InputOption = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="JSON|FILE|-", help="The input: JSON, a file with JSON, or - for stdin."),
]
DelayOption = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Let the run begin only after that time.")
]
StartAtOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="When the run begins, such as 2026-07-01T12:00:00+02:00.")
]
DedupeKeyOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="Start nothing where an earlier start had this key: print its run.")
]
DedupeForOption = Annotated[
    float | None, typer.Option(min=1, metavar="SECONDS", help="How long that key holds; a day, if not said.")
]
PriorityOption = Annotated[
    Priority, typer.Option(help="Level of the run's steps, of a workflow with priorities=True.", case_sensitive=False)
]
RunTimeoutOption = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="SECONDS", help="How long the run may take, instead of what its workflow says."),
]
ContextOption = Annotated[
    str | None,
    typer.Option("--context", "-c", metavar="JSON|FILE|-", help="The initial context: a JSON object with its fields."),
]
RunIdOption = Annotated[
    str | None,
    typer.Option("--run-id", metavar="ID", help="The run's id; given again, with the same input, it is the same run."),
]
TimeoutOption = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Longest wait for the result.")]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Show progress until it ends, then its result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most rows to show.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every command is given: the application's reference, where it runs, and how to report."""

    reference: str
    settings: Settings
    store_option: str | None
    connect_timeout: float | None
    debug: bool

    def app(self, *, patience: float | None = CONNECT_SECONDS) -> Floxide:
        """Return the application, where options and environment say.

        Args:
            patience: Longest wait for the broker unless the command line says, seconds; None for what the application
                says, as for a program that nobody watches.

        Raises:
            ConfigurationError: Nobody else could see its runs: they are in memory.
        """
        return self._seen_by_others(load_app(self.reference), patience)

    def workflow(self, name: str | None) -> tuple[Floxide, AnyWorkflow]:
        """Return the application and one of its workflows; raises as `app`."""
        app = load_app(self.reference)
        return self._seen_by_others(app, CONNECT_SECONDS), workflow_of(app, self.reference, name)

    def local(self, name: str | None) -> tuple[Floxide, AnyWorkflow]:
        """Return a workflow and an application to run it in this process, without a broker.

        An application with a broker runs in memory, so that no run of a deployment is touched by accident; one without
        runs on its own store. ``--store`` decides for both.
        """
        app, workflow = load_workflow(self.reference, name)
        app = self._with_keys(app)
        if app.is_embedded:
            return app.elsewhere(store=self.settings.store), workflow
        return app.embedded(self.store_option), workflow

    def _with_keys(self, app: Floxide) -> Floxide:
        keys = self.settings.encryption_keys
        return app if keys is None else app.with_keys(keys)

    def _seen_by_others(self, app: Floxide, patience: float | None) -> Floxide:
        app = self._with_keys(app).elsewhere(
            broker=self.settings.broker, store=self.settings.store, connect_timeout=self.connect_timeout or patience
        )
        if app.is_in_memory:
            raise ConfigurationError(
                f"{self.reference} keeps its runs in memory, where only its own process sees them. Give it a store: "
                f"Floxide(store='sqlite:///runs.db'), --store, or {STORE_VARIABLE}. `floxide run` needs none."
            )
        return app


Command = Callable[..., None]


def command(*, log_level: LogLevel = LogLevel.CRITICAL) -> Callable[[Callable[..., ExitCode | None]], Command]:
    """Give a command function the common options: its first parameter becomes a `Frame`, built from them.

    Args:
        log_level: The least level that it logs unless told otherwise.
    """

    def decorate(function: Callable[..., ExitCode | None]) -> Command:
        @functools.wraps(function)
        def run(**given: Any) -> None:
            debug = bool(given["debug"])
            code: int = ExitCode.OK
            try:
                with explaining(debug=debug):
                    set_up_logging(given.pop("log_level") or log_level, given.pop("log_format"))
                    code = function(_frame(given), **given) or ExitCode.OK
            except typer.Exit as error:
                code = error.exit_code
            leave_if_nodes_hang(code)
            raise typer.Exit(code)

        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint)
            for parameter, hint in _typed_parameters(function)[1:]
        ]
        common = [parameter.replace(annotation=hint) for parameter, hint in _typed_parameters(_common)]
        everything = [common[0], *own, *common[1:]]
        run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]  # how inspect is told
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
        return run

    return decorate


def _common(
    *,
    app: Reference,
    broker: Annotated[
        str | None, typer.Option(metavar="URL", help=f"The broker, instead of {BROKER_VARIABLE} and the application's.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help=f"The store, instead of {STORE_VARIABLE} and the application's.")
    ] = None,
    connect_timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for the broker.")
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="Log to standard error from this level on.")] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="How log lines look; by default text on a terminal, else JSON.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Nothing: its signature is what counts."""


def _frame(given: dict[str, Any]) -> Frame:
    """Take the common options out of what was given."""
    store: str | None = given.pop("store")
    return Frame(
        reference=given.pop("app"), settings=read_settings().under(broker=given.pop("broker"), store=store),
        store_option=store, connect_timeout=given.pop("connect_timeout"), debug=given.pop("debug"),
    )  # fmt: skip


def _typed_parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    hints = get_type_hints(function, include_extras=True)
    return [(parameter, hints[name]) for name, parameter in inspect.signature(function).parameters.items()]
