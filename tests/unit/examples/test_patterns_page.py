"""The page of workflow patterns shows what its programs do: each has its section, and its code is the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "patterns.md").read_text(encoding="utf-8")
PROGRAMS = sorted(path.name for path in (ROOT / "examples" / "patterns").glob("p[0-9]*.py"))
SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
BLOCK = re.compile(r"^```python notest\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\.\./examples/patterns/(p\d\d_\w+\.py)\)")


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_each_of_the_twenty_patterns_has_a_section_with_its_program() -> None:
    assert [int(section.split(".")[0]) for section in SECTIONS] == list(range(1, 21))
    assert [LINK.findall(section) for section in SECTIONS] == [[name] for name in PROGRAMS]


@pytest.mark.parametrize(("section", "name"), list(zip(SECTIONS, PROGRAMS, strict=True)), ids=PROGRAMS)
def test_the_code_of_a_section_is_in_its_program(section: str, name: str) -> None:
    blocks = BLOCK.findall(section)
    program = lines_of((ROOT / "examples" / "patterns" / name).read_text(encoding="utf-8"))
    assert blocks
    for block in map(lines_of, blocks):
        assert any(program[start : start + len(block)] == block for start in range(len(program))), block


def test_the_table_of_examples_names_the_page() -> None:
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert "(patterns)" in table
    assert "../docs/patterns.md" in table
