"""Split: one value becomes many, each a durable item of its own; a gather waits for all of them, in order."""

from __future__ import annotations

import asyncio

from floxide_amqp import NextAll, SplitNode, Workflow, gather, node


def lines_of(text: str) -> list[str]:
    return text.splitlines()


@node
async def words(line: str) -> NextAll[str]:
    return NextAll(line.split())  # a fan-out inside a fan-out


@node
async def shout(word: str) -> str:
    return word.upper()


@node
async def join_words(shouted: list[str]) -> str:
    return " ".join(shouted)


@node
async def join_lines(lines: list[str]) -> str:
    return " / ".join(lines)


split_lines = SplitNode(lines_of)


class Shouting(Workflow[str, str]):
    start = split_lines
    edges = (split_lines >> words >> shout >> gather(join_words) >> gather(join_lines),)


async def main() -> str:
    return await Shouting.run("the quick brown fox\n\njumps over")


if __name__ == "__main__":
    print(asyncio.run(main()))
