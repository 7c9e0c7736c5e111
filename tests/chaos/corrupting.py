"""Ways to corrupt a folder as the chaos leaves it, for the tests of the checker: each must change something."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgpack

from tests.chaos.finished import LEFT_ENTRY, RUN
from tests.chaos.ledger import FOLDER

Corruption = Callable[[Path], None]


def sql(statement: str, *parameters: object) -> Corruption:
    """Change the store's file; the statement must change something."""

    def corrupt(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            assert connection.execute(statement, parameters).rowcount > 0
            connection.commit()

    return corrupt


def record(where: str, parameters: tuple[object, ...], table: str, *changes: tuple[int, object]) -> Corruption:
    """Change fields of the first record that is found."""

    def corrupt(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            condition = f"FROM {table} WHERE {where}"
            (value,) = connection.execute(f"SELECT value {condition} LIMIT 1", parameters).fetchone()
            fields = msgpack.unpackb(value, strict_map_key=False)
            for number, field in changes:
                fields[number] = field
            key = (*parameters, value)
            connection.execute(f"UPDATE {table} SET value=? WHERE {where} AND value=?", (msgpack.packb(fields), *key))
            connection.commit()

    return corrupt


def entry(index: str, name: str = LEFT_ENTRY) -> Corruption:
    return sql("INSERT INTO index_entries VALUES (?,?,0,?)", index, name, msgpack.packb([1, RUN, "x", 1, "w9"]))


def evidence(**changes: object) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / "evidence.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return corrupt


def ledger(change: Callable[[list[str]], list[str]], process: str = "w0") -> Corruption:
    def corrupt(folder: Path) -> None:
        (path,) = (folder / FOLDER).glob(f"{process}-*.log")
        before = path.read_text().splitlines(keepends=True)
        after = change(before)
        assert after != before
        path.write_text("".join(after))

    return corrupt


def told(line: str) -> Corruption:
    def corrupt(folder: Path) -> None:
        with (folder / "clients" / "client.log").open("a") as file:
            file.write(f"{line}\n")

    return corrupt


def late_body(lines: list[str]) -> list[str]:
    *facts, at_ms = lines[0].rstrip("\n").split("\t")
    return [*lines, "\t".join([*facts, str(int(at_ms) + 3_600_000)]) + "\n"]


def other_key(lines: list[str]) -> list[str]:
    facts = lines[0].split("\t")
    facts[4] = "another key"
    return [*lines, "\t".join(facts)]
