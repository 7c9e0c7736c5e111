"""The `dead-letters` commands: look at messages that wait for somebody to decide, and decide."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.cli.acting import STEER_SECONDS
from floxide_amqp.apps.cli.failures import ExitCode, UsageError
from floxide_amqp.apps.cli.looking import look_at
from floxide_amqp.apps.cli.options import Frame, JsonOption, LimitOption, command
from floxide_amqp.apps.cli.orchestrating import for_each, with_orchestrator
from floxide_amqp.apps.cli.printing import as_json, hex_dump, print_facts, print_table, print_text, shown
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.views import DeadLetterInfo, DeadLetterKind

app = typer.Typer(
    name="dead-letters",
    help="Messages nobody could deliver or read.\n\nLook at them, requeue or drop them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="The letter's id.", show_default=False)]
LetterIds = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of letters.", show_default=False)]


@app.command("list")
@command()
def list_letters(
    frame: Frame,
    *,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after this letter.")] = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""

    async def look(orchestrator: Orchestrator) -> Sequence[DeadLetterInfo]:
        return await orchestrator.dead_letters(after=after, limit=limit)

    found = look_at(frame.app(), look)
    if json:
        print_text(as_json([_facts(each) for each in found]))
        return
    print_table(
        ("ID", "KIND", "LAST", "TIMES", "QUEUE", "RUN", "NODE", "REASON", "THEN"),
        [
            (
                each.letter_id, each.kind.value, each.last_at, each.count, each.queue, each.run_id, each.node,
                each.reason, _then(each),
            )
            for each in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        print_text(f"There may be more: --after '{found[-1].letter_id}'")


@app.command("show")
@command()
def show(frame: Frame, *, letter_id: LetterId, json: JsonOption = False) -> None:
    """Show a dead letter: whose it is, why it lies here, its bytes."""

    async def look(orchestrator: Orchestrator) -> DeadLetterInfo:
        return await orchestrator.dead_letter(letter_id)

    letter = look_at(frame.app(), look)
    if json:
        print_text(as_json({**_facts(letter), "body": b64encode(letter.body).decode()}))
        return
    print_facts([
        ("letter", letter.letter_id), ("kind", letter.kind.value), ("queue", letter.queue),
        ("reason", letter.reason), ("times in a row", letter.count), ("run", letter.run_id),
        ("item", letter.item_id), ("node", letter.node), ("first", letter.first_at), ("last", letter.last_at),
        ("then", _then(letter)),
    ])  # fmt: skip
    print_text(hex_dump(letter.body))


@app.command("requeue")
@command()
def requeue(frame: Frame, *, letter_ids: LetterIds) -> ExitCode:
    """Put the items of letters on their way again.

    An unreadable message goes back to its queue as it is, for workers that can read it. Of one that came from a source
    a run is made.
    """

    async def one(orchestrator: Orchestrator, letter_id: str) -> str:
        await orchestrator.requeue_dead_letter(letter_id)
        return f"Letter {letter_id}: on its way again."

    return _for_each(frame, letter_ids, one)


@app.command("drop")
@command()
def drop(
    frame: Frame,
    *,
    letter_ids: LetterIds,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> ExitCode:
    """Give the items of letters up.

    Each fails with DeadLetterError: its on_failure edge takes over, or its run fails. An unreadable message is deleted.
    """
    if not yes and not is_terminal():
        raise UsageError("Dropping asks before it does anything, and there is no terminal to ask on: give --yes.")

    async def one(orchestrator: Orchestrator, letter_id: str) -> str:
        letter = await orchestrator.dead_letter(letter_id)
        if not yes and not typer.confirm(f"{_consequence(letter)} Go on?", err=True):
            return f"Letter {letter_id}: left as it is."
        await orchestrator.drop_dead_letter(letter_id)
        return f"Letter {letter_id}: dropped. {_consequence(letter)}"

    return _for_each(frame, letter_ids, one)


def is_terminal() -> bool:
    """Whether somebody sits there to be asked."""
    return sys.stdin.isatty()


def _for_each(frame: Frame, letter_ids: Sequence[str], one: Callable[[Orchestrator, str], Awaitable[str]]) -> ExitCode:
    """Do something about each letter, whatever becomes of the others; return the first failure's exit code."""
    app = frame.app(patience=STEER_SECONDS)
    return with_orchestrator(app, for_each(letter_ids, one), broker=BrokerUse.IF_REACHABLE)


def _consequence(letter: DeadLetterInfo) -> str:
    if letter.kind is DeadLetterKind.UNREADABLE:
        return "The message is deleted; no item is known to wait for it."
    return (
        f"Item {letter.item_id} (node {letter.node!r}) of run {letter.run_id!r} fails with DeadLetterError: "
        "its on_failure edge takes over, or the run fails."
    )


def _then(letter: DeadLetterInfo) -> str:
    """What happens next without anybody doing anything."""
    if letter.again_at is None:
        return "waits for you"
    return f"published again at {shown(letter.again_at)}"


def _facts(letter: DeadLetterInfo) -> dict[str, object]:
    """Return what is said of a letter besides its bytes."""
    return {
        "letter_id": letter.letter_id, "kind": letter.kind.value, "queue": letter.queue, "reason": letter.reason,
        "count": letter.count, "run_id": letter.run_id or None, "item_id": letter.item_id or None,
        "node": letter.node or None, "first_at": letter.first_at, "last_at": letter.last_at,
        "again_at": letter.again_at, "bytes": len(letter.body),
    }  # fmt: skip
