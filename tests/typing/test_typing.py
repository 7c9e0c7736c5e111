"""Runs mypy and pyright over the files beside this one.

`ok_*.py` must pass. In `bad_*.py` exactly the lines that end in ``# expect: ...`` must be refused, by both.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("typing")  # one process starts the checkers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OK_FILES = sorted(path.name for path in HERE.glob("ok_*.py"))
BAD_FILES = sorted(path.name for path in HERE.glob("bad_*.py"))

Refused = dict[str, dict[int, str]]
"""For each file the refused lines, with what the checker said."""


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    cache = tmp_path_factory.mktemp("mypy")
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--no-error-summary",
        "--hide-error-context", "--no-pretty", *OK_FILES, *BAD_FILES,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, check=False, env={"MYPYPATH": str(ROOT), "PATH": ""}
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    refused: Refused = {}
    for line in done.stdout.splitlines():
        found = re.match(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)", line)
        if found:
            refused.setdefault(Path(found["file"]).name, {})[int(found["line"])] = found["text"]
    return refused


@pytest.fixture(scope="module")
def pyright(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    folder = tmp_path_factory.mktemp("pyright")
    config = folder / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": [os.path.relpath(HERE, folder)],  # absolute paths are ignored
                "extraPaths": [str(ROOT), str(HERE)],
                "pythonVersion": "3.11",
                "typeCheckingMode": "strict",
                # The files are expressions and star imports by their nature.
                "reportUnusedExpression": False,
                "reportUnusedCoroutine": False,
                "reportWildcardImportFromLibrary": False,
                "reportUnusedImport": False,
                "reportUnknownLambdaType": False,
                "reportUnknownMemberType": False,
                "reportUnknownVariableType": False,
                "reportUnknownArgumentType": False,
            }
        )
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(config), "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > len(OK_FILES) + len(BAD_FILES), report["summary"]
    refused: Refused = {}
    for finding in report["generalDiagnostics"]:
        if finding["severity"] == "error":
            line = finding["range"]["start"]["line"] + 1
            refused.setdefault(Path(finding["file"]).name, {})[line] = finding["message"]
    return refused


def expected(name: str) -> list[int]:
    lines = (HERE / name).read_text().splitlines()
    return [number for number, line in enumerate(lines, start=1) if "# expect: " in line]


@pytest.mark.parametrize("name", OK_FILES)
def test_mypy_accepts(name: str, mypy: Refused) -> None:
    assert mypy.get(name, {}) == {}


@pytest.mark.parametrize("name", OK_FILES)
def test_pyright_accepts(name: str, pyright: Refused) -> None:
    assert pyright.get(name, {}) == {}


@pytest.mark.parametrize("name", BAD_FILES)
def test_mypy_refuses_exactly_the_marked_lines(name: str, mypy: Refused) -> None:
    assert sorted(mypy.get(name, {})) == expected(name), mypy.get(name)


@pytest.mark.parametrize("name", BAD_FILES)
def test_pyright_refuses_exactly_the_marked_lines(name: str, pyright: Refused) -> None:
    assert sorted(pyright.get(name, {})) == expected(name), pyright.get(name)


def test_both_refuse_the_same_lines(mypy: Refused, pyright: Refused) -> None:
    for name in BAD_FILES:
        assert sorted(mypy.get(name, {})) == sorted(pyright.get(name, {}))


def test_every_mistake_has_a_reason_of_its_own() -> None:
    reasons = [
        line.partition("# expect: ")[2]
        for name in BAD_FILES
        for line in (HERE / name).read_text().splitlines()
        if "# expect: " in line
    ]
    assert len(reasons) >= 17
    assert len(set(reasons)) == len(reasons)
