"""The command that tells what happens to a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.options import Frame, JsonOption, RunIdArgument, command
from floxide_amqp.apps.cli.orchestrating import with_orchestrator
from floxide_amqp.apps.cli.printing import as_json_line, print_text, shown
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_events import (
    AttemptFailed,
    ItemCancelled,
    ItemEnded,
    ItemFailed,
    ItemHeld,
    RunEnded,
    RunEvent,
    RunSignalled,
    RunStarted,
    RunSteered,
)


@command()
def events(
    frame: Frame,
    *,
    run_id: RunIdArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for what is yet to happen, to its end.")] = False,
    after: Annotated[str, typer.Option(metavar="POSITION", help="Go on behind the event of this position.")] = "",
    json: JsonOption = False,
) -> None:
    """Tell what happened to a run, a line per event, and with --follow what happens to it until it ends.

    With --json each line is an object; its `position`, given to --after, goes on behind it.
    """

    async def tell(orchestrator: Orchestrator) -> None:
        async for event in orchestrator.events(run_id, after=after, follow=follow):
            print_text(as_json_line(_members(event)) if json else f"{shown(event.at)}  {in_words(event)}")

    with_orchestrator(frame.app(), tell, broker=BrokerUse.IF_REACHABLE if follow else BrokerUse.NONE)


def _members(event: RunEvent) -> dict[str, Any]:
    return {"event": type(event).__name__} | {name: getattr(event, name) for name in event.__dataclass_fields__}


def in_words(event: RunEvent) -> str:
    """Return what happened, in one line."""
    match event:
        case RunStarted():
            return f"started: {event.workflow} (version {event.version})"
        case RunEnded():
            return " ".join(filter(None, (f"{event.status.value}", event.failure or event.reason)))
        case RunSteered():
            why = f" ({event.reason})" if event.reason else ""
            return " ".join(filter(None, (event.action, event.detail, f"by {event.by}{why}")))
        case RunSignalled():
            return f"signal {event.signal}"
        case ItemHeld():
            signals = f" for {' or '.join(event.signals)}" if event.signals else ""
            until = f" until {shown(event.until)}" if event.until else ""
            return f"{event.node} waits{signals}{until}"
        case AttemptFailed():
            then = "retried" if event.will_retry else "failed"
            return f"{event.node} try {event.attempt}: {event.error_type}: {event.message} ({then})"
        case ItemEnded():
            how = "failed" if isinstance(event, ItemFailed) else "done"
            how = "cancelled" if isinstance(event, ItemCancelled) else how
            took = "" if event.duration == timedelta() else f" in {shown(event.duration)}"
            return f"{event.node} {how}{took}"
        case _:
            return type(event).__name__
