"""9, Discriminator: what follows begins with the first branch that arrives; the others are waited for and ignored.

It is set anew for each round of a loop, also while branches of the last round are still on their way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import completed, opened, until
from floxide_amqp import (
    Context,
    Hold,
    ItemCompleted,
    ItemHeld,
    Orchestrator,
    Signal,
    Workflow,
    WorkflowCtx,
    any_of,
    node,
    repeat,
)

MAIL = Signal("mail", str)


@dataclass(frozen=True)
class Question:
    text: str


@dataclass(frozen=True)
class Answer:
    text: str


@node
async def ask(question: Question) -> Question:
    return question


@node
async def look_up(question: Question) -> Answer:
    return Answer(f"{question.text}: see the book")


@node
async def write_to_author(ctx: WorkflowCtx[Context], question: Question) -> Answer | Hold:
    reply = ctx.received(MAIL)
    return Hold(until=MAIL) if reply is None else Answer(f"{question.text}: {reply}")


@node
async def read(answer: Answer) -> Question | Answer:
    return Question("and why?") if answer.text.startswith("what?") else answer


class Research(Workflow[Question, Answer]):
    start = ask
    edges = (
        ask >> (look_up, write_to_author),
        any_of(look_up, write_to_author) >> read,
        read.when(Question) >> repeat(ask, max_iterations=5),
        read.when(Answer),
    )


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Research, Question("what?"))
    await until(run, ItemCompleted, "read", "read")  # the second round is over, and both letters are on their way
    await until(run, ItemHeld, "write_to_author", "write_to_author")
    for _ in range(2):
        await run.signal(MAIL, "ask my publisher")
    answer = await run.result(60)
    return [answer.text, f"read {(await completed(run)).count('read')} times"]


async def main() -> list[str]:
    async with opened(Research) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
