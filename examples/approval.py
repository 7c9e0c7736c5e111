"""Human approval: a run holds until somebody decides, for days if need be; where nobody does, another is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from floxide_amqp import Context, Floxide, Hold, Orchestrator, Signal, Workflow, WorkflowCtx, node


@dataclass
class Expense:
    who: str
    euros: int


@dataclass
class Decision:
    by: str
    is_approved: bool
    note: str = ""


DECISION = Signal("decision", Decision)  # the same object where it is sent and where it is received


@node
async def ask_manager(ctx: WorkflowCtx[Context], expense: Expense) -> str | Hold:
    decision = ctx.received(DECISION)  # also one that came before anybody waited
    if decision is None:
        return Hold(until=DECISION, timeout=timedelta(seconds=1))  # days, outside of an example
    return told(expense, decision)


@node
async def ask_director(ctx: WorkflowCtx[Context], expense: Expense) -> str | Hold:
    decision = ctx.received(DECISION)
    return Hold(until=DECISION) if decision is None else told(expense, decision)


def told(expense: Expense, decision: Decision) -> str:
    verdict = "approved" if decision.is_approved else f"refused ({decision.note})"
    return f"{expense.who}'s {expense.euros} euros: {verdict} by {decision.by}"


class Approval(Workflow[Expense, str]):
    start = ask_manager
    signals = (DECISION,)  # so that any other is refused, and `floxide signal` knows the type
    edges = (ask_manager.on_timeout >> ask_director,)  # with the same input


async def decide(desk: Orchestrator, run_id: str, decision: Decision) -> None:
    """What the page behind the approver's button does; pressed twice it is one decision, thanks to the id."""
    await desk.signal(run_id, DECISION, decision, signal_id=f"{decision.by}'s decision")


async def main() -> list[str]:
    async with Floxide(workflows=[Approval]).orchestrator() as orchestrator:
        lunch = await orchestrator.start(Approval, Expense("Ada", 30), run_id="lunch")
        yacht = await orchestrator.start(Approval, Expense("Bob", 900_000), run_id="yacht")
        for _ in range(2):
            await decide(orchestrator, "lunch", Decision("Grace", is_approved=True))
        while not any(wait.node == "ask_director" for wait in (await orchestrator.run_info("yacht")).waits):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # Grace is on holiday: after a second it lies on the director's desk
        await decide(orchestrator, "yacht", Decision("Edsger", is_approved=False, note="a boat will do"))
        return [await lunch.result(), await yacht.result()]


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
