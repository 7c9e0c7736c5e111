"""``floxide quarantine``: messages that nobody could read."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from floxide_amqp.apps.cli.failures import MissingError
from floxide_amqp.apps.cli.looking import look_at, say_more
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.printing import as_json, hex_dump, print_facts, print_table, print_text
from floxide_amqp.core.instants import at
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.runtime.orchestrator import Orchestrator


@command()
def quarantine_list(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after this message.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List messages that nobody could read, oldest first."""

    async def look(orchestrator: Orchestrator) -> Any:
        return await orchestrator.quarantine(after=after, limit=limit + 1)

    read: Sequence[Quarantined] = look_at(frame.app(), look)
    found = read[:limit]
    if json:
        print_text(as_json([_quarantined(each) for each in found]))
        return
    print_table(
        ("ID", "QUEUE", "AT", "BYTES", "REASON"),
        [
            (each.quarantine_id, each.queue, at(each.at_ms), each.cut_from or len(each.body), each.reason)
            for each in found
        ],
    )
    say_more(f"--after '{found[-1].quarantine_id}'" if len(read) > limit else "")


def _quarantined(message: Quarantined) -> dict[str, object]:
    """Return what is said of a message besides its bytes."""
    return {
        "quarantine_id": message.quarantine_id, "queue": message.queue, "at": at(message.at_ms),
        "reason": message.reason, "bytes": message.cut_from or len(message.body),
    }  # fmt: skip


@command()
def quarantine_show(
    frame: Frame,
    *,
    quarantine_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Show a message that nobody could read: its reason and its bytes."""

    async def look(orchestrator: Orchestrator) -> Quarantined:
        found = await orchestrator.quarantined(quarantine_id)
        if found is not None:
            return found
        raise MissingError(f"There is no message {quarantine_id!r} in the quarantine; `quarantine list` shows what is.")

    found: Quarantined = look_at(frame.app(), look)
    if json:
        print_text(as_json(_quarantined(found) | {"body": b64encode(found.body).decode()}))
        return
    print_facts(
        [
            ("id", found.quarantine_id),
            ("queue", found.queue),
            ("at", at(found.at_ms)),
            ("reason", found.reason),
            ("bytes", found.cut_from or len(found.body)),
        ]
    )
    print_text(hex_dump(found.body))
