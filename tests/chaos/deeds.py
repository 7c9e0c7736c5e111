"""The deeds of clients, as their journals tell: which are under way, and having enough of them under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

OPEN_PER_GROUP = 4
"""Deeds under way in each group at a time, once each of its kinds has had its turn."""


class Doer(Protocol):
    """A client that can be told; of each generation another process."""

    @property
    def generation(self) -> int: ...

    def tell(self, line: str) -> bool: ...


def deeds(folder: Path) -> tuple[list[tuple[str, int]], set[tuple[str, int]]]:
    """What was begun, each once and in order, and what was done."""
    begun: dict[tuple[str, int], None] = {}
    done: set[tuple[str, int]] = set()
    for path in sorted((folder / "clients").glob("*.log")):
        for line in path.read_text().splitlines():
            match line.split(" "):
                case ["deed", group, number]:
                    begun[group, int(number)] = None
                case ["done", group, number]:
                    done.add((group, int(number)))
    return list(begun), done


def open_deeds(folder: Path) -> list[tuple[str, int]]:
    """Deeds that were begun and are not done, in order."""
    begun, done = deeds(folder)
    return [deed for deed in begun if deed not in done]


class Taskmaster:
    """Has deeds of each group done, so that there are always some under way."""

    def __init__(self, folder: Path, kinds: Mapping[str, Sequence[str]]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._told: dict[tuple[str, int], int] = {}
        self._next: Counter[str] = Counter()

    def tell(self, client: Doer) -> None:
        """Tell a client what to do next: each kind once, then more as the deeds before them are done."""
        begun, done = deeds(self._folder)
        for deed in begun:
            self._told.pop(deed, None)
        lost = {deed for deed, generation in self._told.items() if generation != client.generation}
        under_way = Counter(group for group, _ in {*begun, *self._told} - done)
        for group, number in lost:  # told to a client that died before it wrote that down
            self._tell(client, group, number)
        for group, kinds in self._kinds.items():
            while self._next[group] < len(kinds) or under_way[group] < OPEN_PER_GROUP:
                if not self._tell(client, group, self._next[group]):
                    return
                self._next[group] += 1
                under_way[group] += 1

    def _tell(self, client: Doer, group: str, number: int) -> bool:
        if not client.tell(f"do {group} {number}"):
            return False
        self._told[group, number] = client.generation
        return True
