"""Writes docs/state-machine.md from the tables the engine uses: ``python -m floxide_amqp.apps.state_machine_docs``.

The page is never edited by hand; a test fails when it is stale.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from floxide_amqp.core import statuses
from floxide_amqp.core.statuses import ITEM_TRANSITIONS, RUN_TRANSITIONS, RunStatus, WorkItemStatus

S = TypeVar("S", bound=StrEnum)

HEADER = """\
# States of runs and work items

Written from `floxide_amqp/core/statuses.py` by `python -m floxide_amqp.apps.state_machine_docs`; do not edit.
"""


def render() -> str:
    """Return the page."""
    return "\n".join(
        [
            HEADER,
            *_section("Runs", RunStatus, RUN_TRANSITIONS, start=RunStatus.PENDING),
            *_section("Work items", WorkItemStatus, ITEM_TRANSITIONS, start=WorkItemStatus.PENDING),
        ]
    )


def _section(title: str, kind: type[S], table: Mapping[S, frozenset[S]], *, start: S) -> list[str]:
    meanings = _meanings(kind)
    states = list(kind)
    lines = [f"## {title}", "", "| state | means | may become |", "| --- | --- | --- |"]
    for state in states:
        followers = ", ".join(f"`{each}`" for each in states if each in table[state]) or "nothing: it is the end"
        lines.append(f"| `{state}` | {meanings[state.name]} | {followers} |")
    lines += ["", "```mermaid", "stateDiagram-v2"]
    lines += [f"  {_id(state)}: {state}" for state in states]
    lines.append(f"  [*] --> {_id(start)}")
    lines += [f"  {_id(state)} --> {_id(each)}" for state in states for each in states if each in table[state]]
    lines += [f"  {_id(state)} --> [*]" for state in states if not table[state]]
    return [*lines, "```", ""]


def _id(state: StrEnum) -> str:
    return state.replace(" ", "_")


def _meanings(kind: type[StrEnum]) -> dict[str, str]:
    """Return what stands below each member of an enumeration, by the member's name."""
    for node in ast.parse(inspect.getsource(statuses)).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return dict(_documented(node.body))
    raise LookupError(f"{kind.__name__} is not in {statuses.__name__}")


def _documented(body: list[ast.stmt]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for member, text in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            target = member.targets[0]
            if isinstance(target, ast.Name):
                found.append((target.id, " ".join(str(text.value.value).split()).rstrip(".")))
    return found


if __name__ == "__main__":
    sys.stdout.write(render())
