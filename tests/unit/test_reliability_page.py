"""docs/reliability.md is true: every fault has a test that injects it, and the page names them all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _tables() -> object:
    spec = importlib.util.spec_from_file_location("reliability_tables", ROOT / "scripts" / "reliability_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tables = _tables()


def test_the_page_shows_the_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert page == tables.with_tables(page), "write it again: python scripts/reliability_tables.py"


def test_there_are_sixty_faults_and_at_most_five_that_nobody_could_inject() -> None:
    assert list(tables.FAULTS) == list(range(1, 61))
    assert len(tables.IMPOSSIBLE) <= 5
    assert set(tables.IMPOSSIBLE) <= set(tables.FAULTS)


def test_every_fault_that_can_be_injected_is_injected_by_a_test() -> None:
    injected = set(tables.marked_tests("fault"))
    assert injected <= set(tables.FAULTS)
    assert injected | set(tables.IMPOSSIBLE) == set(tables.FAULTS), sorted(
        set(tables.FAULTS) - injected - set(tables.IMPOSSIBLE)
    )


def test_every_pitfall_of_the_client_library_has_a_test_that_would_fall_into_it() -> None:
    assert set(tables.marked_tests("pitfall")) == set(tables.PITFALLS)
