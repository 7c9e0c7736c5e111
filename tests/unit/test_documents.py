"""What the documents show is true: their Python runs, their links lead somewhere, and so do docstring examples.

A fenced block that opens with ``python`` is run, those of one page in one namespace, top to bottom, ``await`` allowed.
A block that opens with ``python notest`` is only compiled.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import floxide_amqp

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")])
FENCE = re.compile(r"^```python(?P<notest> notest)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
EVERY_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

with_python = pytest.mark.parametrize(
    "page", [page for page in PAGES if FENCE.search(page.read_text(encoding="utf-8"))], ids=lambda page: page.name
)


def compiled_blocks(page: Path) -> list[tuple[bool, object]]:
    """Compile the blocks of a page; line numbers are those of the page."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(text):
        padded = "\n" * text.count("\n", 0, found.start("code")) + found["code"]
        code = compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        blocks.append((found["notest"] is None, code))
    return blocks


@with_python
async def test_python_in_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"page_{page.stem}")  # dataclasses and pydantic look their module up by name
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for is_run, code in compiled_blocks(page):
        if is_run:
            result = eval(code, module.__dict__)  # type: ignore[arg-type]
            if inspect.isawaitable(result):
                await result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files_that_exist(page: Path) -> None:
    text = EVERY_BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = [found["target"] for found in LINK.finditer(text) if "://" not in found["target"]]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    "name", [found.name for found in pkgutil.walk_packages(floxide_amqp.__path__, "floxide_amqp.")]
)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
