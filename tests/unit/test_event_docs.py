"""docs/events.md is true: every log event of the code is in it, with its level and its fields, and nothing else is."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "events.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")
ROW = re.compile(r"^\| `(?P<event>[a-z_.]+)` \| (?P<levels>[\w, ]+) \| (?P<fields>[^|]*) \|", re.MULTILINE)
NO_FIELDS = {"exc_info"}
"""What a call may be given that is no field of the event."""


@dataclass(frozen=True)
class Logged:
    """One call of a logger: where, the event, its level, and the fields it names itself."""

    where: str
    event: str
    level: str
    fields: frozenset[str]


@functools.cache
def logged_in_code() -> list[Logged]:
    found = []
    for path in sorted((ROOT / "floxide_amqp").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "_log" not in text:  # it has no logger; reading all the others is most of the time this takes
            continue
        tree = ast.parse(text)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                found += list(calls_in(function, path.relative_to(ROOT).as_posix()))
    return found


def calls_in(function: ast.AST, where: str) -> Iterator[Logged]:
    chosen = loggers_in_variables(function)
    for call in ast.walk(function):
        if not (isinstance(call, ast.Call) and call.args):
            continue
        levels = chosen.get(call.func.id, []) if isinstance(call.func, ast.Name) else levels_of(call.func)
        fields = frozenset(word.arg for word in call.keywords if word.arg is not None) - NO_FIELDS
        for level in levels:
            for event in names_of(call.args[0], function):
                yield Logged(f"{where}:{call.lineno}", event, level, fields)


def levels_of(expression: ast.AST) -> list[str]:
    """The level of ``_log.warning``, ``self._log.debug``, ...; none for what is no logger's method."""
    if not (isinstance(expression, ast.Attribute) and expression.attr in LEVELS):
        return []
    owner = expression.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return ["error" if expression.attr == "exception" else expression.attr] if name in {"_log", "_logger"} else []


def loggers_in_variables(function: ast.AST) -> dict[str, list[str]]:
    """Variables that hold a logger's method: ``log = _log.warning if failed else _log.info``."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            levels = [level for part in ast.walk(node.value) for level in levels_of(part)]
            called = any(isinstance(part, ast.Call) for part in ast.walk(node.value))
            if levels and not called:
                found[node.targets[0].id] = levels
    return found


def names_of(argument: ast.expr, function: ast.AST) -> list[str]:
    """The event's name, or every name that the variable it is in may have."""
    origin: ast.AST = argument if isinstance(argument, ast.Constant) else function
    constants = (node.value for node in ast.walk(origin) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str) and EVENT.fullmatch(value)]


def documented() -> dict[str, tuple[set[str], frozenset[str]]]:
    rows = ROW.finditer(PAGE.read_text(encoding="utf-8"))
    return {
        row["event"]: (set(row["levels"].split(", ")), frozenset(re.findall(r"`(\w+)`", row["fields"]))) for row in rows
    }


def test_every_event_of_the_code_is_documented_and_no_other() -> None:
    assert sorted({logged.event for logged in logged_in_code()} ^ set(documented())) == []


def test_every_event_is_documented_with_its_levels() -> None:
    in_code: dict[str, set[str]] = {}
    for logged in logged_in_code():
        in_code.setdefault(logged.event, set()).add(logged.level)
    assert in_code == {event: levels for event, (levels, _) in documented().items()}


def test_every_field_that_a_call_names_is_documented() -> None:
    pages = documented()
    missing = [
        (logged.where, logged.event, sorted(logged.fields - pages[logged.event][1]))
        for logged in logged_in_code()
        if logged.event in pages and not logged.fields <= pages[logged.event][1]
    ]
    assert missing == []


def test_the_calls_are_found_at_all() -> None:
    assert len(logged_in_code()) > 40
