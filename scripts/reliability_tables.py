"""Writes the tables of docs/reliability.md from the tests' own marks: ``python scripts/reliability_tables.py``.

Faults and pitfalls are named here; which test injects which is read from ``pytest.mark.fault(n)`` and
``pytest.mark.pitfall(n)`` in the tests' source. A test of the project compares the page with what this writes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"

FAULTS: dict[int, tuple[str, str]] = {
    1: ("a worker is killed before it claims an item", "I1, I2"),
    2: ("a worker is killed while a node runs", "I1, I2, I8"),
    3: ("a worker is killed between commit and publish", "I1, I5"),
    4: ("a worker is killed between publish and acknowledgement", "I2"),
    5: ("the maintenance leader is killed in the middle of a round", "I1, I2"),
    6: ("a worker is frozen for longer than its heartbeat may stand still, and goes on (a zombie)", "I6"),
    7: ("the broker is restarted in mid-run, in order or by kill -9", "I1, I9"),
    8: ("the broker's data directory is deleted", "I1"),
    9: ("a queue is purged", "I1"),
    10: ("a queue is deleted under its consumers", "I1"),
    11: ("all connections are closed, again and again", "I1 to I5, I9"),
    12: ("the publisher's link is half open: sent bytes vanish", "I1, I9"),
    13: ("connections are reset or cut in the middle of a frame", "I1 to I5, I9"),
    14: ("the broker raises a memory or disk alarm and blocks publishers", "I1, I2"),
    15: ("a message finds no queue: its binding is gone", "I1, I10"),
    16: ("publishes are cancelled while others are returned", "I1, I10"),
    17: ("every message is delivered three times", "I2, I4"),
    18: ("messages come in another order", "I4, I5"),
    19: ("a message comes after its run is over", "I7"),
    20: ("the broker's acknowledgement timeout is shorter than a node", "I2"),
    21: ("the broker's delivery limit is reached in a crash loop, with innocent messages prefetched", "I8, I10"),
    22: ("the dead-letter target is missing or full", "I10"),
    23: ("a queue or an exchange exists with other arguments (406)", "I1"),
    24: ("an exchange changed its type while a channel failed", "I1"),
    25: ("the store is away for 30 s, at every point of the protocol", "I1, I2, I6"),
    26: ("the store is slow: 5 s a commit", "I1, I6"),
    27: ("a commit's reply is lost", "I2, I5"),
    28: ("a worker is cut off from the store, the broker is fine", "I6"),
    29: ("a worker is cut off from the broker, the store is fine", "I1"),
    30: ("the store's disk is full", "I1, I10"),
    31: ("the store restarts without its last commits", "I2, I5"),
    32: ("the store is locked, or fails a transaction for another's sake", "I1"),
    33: ("a worker's clock is off by an hour, or jumps", "I6"),
    34: ("the store's clock jumps", "I1, I6"),
    35: ("a message is truncated, garbage, of the wrong type, too long", "I10"),
    36: ("a message is nested 100,000 deep, or 10 MB of empty lists", "I10"),
    37: ("a message is larger than the broker takes", "I10"),
    38: ("a worker lacks the workflow, the version or the node", "I1"),
    39: ("a node blocks the event loop", "I1, I6"),
    40: ("a node raises what is no ordinary exception, or one that cannot be printed", "I1"),
    41: ("a node raises KeyboardInterrupt or SystemExit", "I1"),
    42: ("a node swallows its cancellation, or never ends", "I1, I6"),
    43: ("a node leaks tasks and threads", "I9"),
    44: ("a worker gets SIGTERM under load, once, twice, with SIGKILL at the deadline", "I1, I2"),
    45: ("one item kills whichever process runs it", "I8"),
    46: ("a fan-out of 100,000 crashes in the middle", "I5"),
    47: ("a join of 100,000 with duplicated messages", "I4"),
    48: ("a run is cancelled with 1,000 steps in flight, at its last step, twice; pause and resume in a storm", "I7"),
    49: ("a control message is lost", "I7"),
    50: ("two clients start one run id, with the same and with another input", "I2"),
    51: ("a client is killed between the commit and the publish of a start", "I1"),
    52: ("two maintenance leaders at once", "I2"),
    53: ("10,000 items fail at the same moment and retry", "I1"),
    54: ("workers of two versions serve one queue", "I1"),
    55: ("credentials change, permissions are revoked, a certificate expires", "I1"),
    56: ("the broker's name changes its address, or one of its addresses answers nothing", "I1"),
    57: ("a node of a broker cluster fails, and with it a queue's leader", "I1"),
    58: ("messages pile up: consumers are slower than publishers", "I9"),
    59: ("a node's output is too large, or cannot be stored", "I1"),
    60: ("somebody looks at everything all the time", "I1"),
}

PITFALLS: dict[int, str] = {
    1: "A mandatory message that finds no queue counts as confirmed unless the channel is told to raise.",
    2: "Returned messages are told apart by `message_id`: equal ids lose returns.",
    3: "A cancelled publish and a return in the same moment kill the channel's reader; it stays deaf, and open.",
    4: "A publish pending on a half-open link raises `CancelledError` in a task that nobody cancelled.",
    5: "A consumer's callback is a task of its channel: losing the connection cancels the work in it.",
    6: "Acknowledging after a reconnect fails at once, and the message comes again meanwhile.",
    7: "A publish that fails with its connection may have been stored all the same.",
    8: "A channel whose restoring fails once stays dead although its connection is open.",
    9: "Cancelling a declaration or a subscription closes the whole channel.",
    10: "A message processed in aio-pika's own context is rejected, and lost, when its task is cancelled.",
    11: "A connection the broker has blocked takes publishes and never answers.",
    12: "Acknowledging returns when the bytes are written, not when the broker has them.",
    13: "One channel that cannot be restored makes a robust connection reconnect for ever, all its channels with it.",
    14: "A robust connection keeps its channels by weak references only.",
    15: "Without a prefetch count the broker sends everything it has.",
    16: "Tasks and callbacks outlive the closing of a connection.",
}

IMPOSSIBLE: dict[int, str] = {}
"""Faults that cannot be injected, each with the attempt that was made; five at most."""


@dataclass(frozen=True, order=True)
class MarkedTest:
    """A test, and where it is."""

    path: str
    name: str


def marked_tests(mark: str) -> dict[int, list[MarkedTest]]:
    """Return the tests that carry each number of a mark."""
    found: dict[int, list[MarkedTest]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found_there = _tests_in(tree.body, mark, _module_marks(tree, mark), _module_values(tree))
        for name, numbers in found_there:
            for number in sorted(set(numbers)):
                found.setdefault(number, []).append(MarkedTest(path.relative_to(ROOT).as_posix(), name))
    return found


def _tests_in(
    body: list[ast.stmt], mark: str, outer: list[int], values: dict[str, ast.expr]
) -> Iterator[tuple[str, list[int]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests_in(node.body, mark, outer + _marks(node.decorator_list, mark), values)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            named = [values[name] for name in _names(node.decorator_list) if name in values]  # cases listed elsewhere
            yield node.name, outer + _marks([*node.decorator_list, *named], mark)


def _module_values(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _names(expressions: list[ast.expr]) -> set[str]:
    return {part.id for each in expressions for part in ast.walk(each) if isinstance(part, ast.Name)}


def _module_marks(tree: ast.Module, mark: str) -> list[int]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            return _marks(node.value.elts if isinstance(node.value, ast.List) else [node.value], mark)
    return []


def _marks(expressions: list[ast.expr], mark: str) -> list[int]:
    numbers: list[int] = []
    for call in expressions:
        for part in ast.walk(call):  # also the marks of single cases: pytest.param(…, marks=…)
            if isinstance(part, ast.Call) and mark in (getattr(part.func, "attr", ""), getattr(part.func, "id", "")):
                numbers += [a.value for a in part.args if isinstance(a, ast.Constant) and isinstance(a.value, int)]
    return numbers


def faults_table() -> str:
    """Return the table of faults."""
    tests = marked_tests("fault")
    lines = ["| # | fault | must hold | injected by |", "| --- | --- | --- | --- |"]
    for number, (fault, invariants) in FAULTS.items():
        shown = f"cannot be injected here: {IMPOSSIBLE[number]}" if number in IMPOSSIBLE else _links(tests.get(number))
        lines.append(f"| {number} | {fault} | {invariants} | {shown} |")
    return "\n".join(lines)


def pitfalls_table() -> str:
    """Return the table of pitfalls."""
    tests = marked_tests("pitfall")
    lines = ["| # | what the client library or the broker does | held by |", "| --- | --- | --- |"]
    lines += [f"| P{number} | {text} | {_links(tests.get(number))} |" for number, text in PITFALLS.items()]
    return "\n".join(lines)


def _links(tests: list[MarkedTest] | None) -> str:
    return "<br>".join(f"[{t.name.removeprefix('test_').replace('_', ' ')}](../{t.path})" for t in sorted(tests or []))


def with_tables(page: str) -> str:
    """Return the page with its tables written anew."""
    for name, table in (("faults", faults_table()), ("pitfalls", pitfalls_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n{table}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
