from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples.census.cluster import embedded_report
from examples.census.listing import find_command, fingerprint, list_sources, package_of, printable, unprintable
from examples.census.measuring import PARSER_TRIES, count_lines, measure_source, module_name
from examples.census.model import Measure, Survey, Unreadable
from examples.census.output import DEFAULT, DEFAULT_CLUSTER, Note, Output
from examples.census.reporting import import_graph, make_report, to_json, to_text
from examples.census.runs import choose_run
from examples.census.workflow import CodeCensus
from floxide_amqp import Floxide

SOURCE = b"""\
import os.path
from . import sibling
from ..other import thing

class Some:
    def method(self, values):
        if values and self or None:
            return [v for v in values if v if v > 1]
        try:
            return 1 if values else 2
        except ValueError:
            pass
        match values:
            case []:
                pass

async def loop(x):
    while x:
        async for y in x: pass"""


def test_lines_functions_classes_branches_and_imports_are_counted() -> None:
    assert measure_source("top/sub/mod.py", SOURCE) == Measure(
        path="top/sub/mod.py",
        module="top.sub.mod",
        lines=19,
        functions=2,
        classes=1,
        branches=11,
        imports=("os.path", "top.other", "top.other.thing", "top.sub", "top.sub.sibling"),
    )


@pytest.mark.parametrize(("source", "lines"), [(b"", 0), (b"x", 1), (b"x\n", 1), (b"x\ny", 2), (b"\n\n", 2)])
def test_a_last_line_without_an_end_counts(source: bytes, lines: int) -> None:
    assert count_lines(source) == lines


@pytest.mark.parametrize(
    ("path", "package", "module"),
    [
        ("a.py", "", "a"),
        ("a/__init__.py", "", "a"),
        ("a/b.py", "x.y", "x.y.a.b"),
        ("__init__.py", "x.y", "x.y"),
        ("__init__.py", "", "__init__"),
        ("site-packages/pip/_internal/__init__.py", "", "pip._internal"),
    ],
)
def test_a_module_has_the_name_under_which_it_is_imported(path: str, package: str, module: str) -> None:
    assert module_name(path, package) == module


@pytest.mark.parametrize("name", ["plain.py", "a\\b.py", "line\nend\r.py", "caf\u00e9.py", "bad\udcff\\n.py"])
def test_a_printable_name_is_one_line_of_utf8_and_can_be_turned_back(name: str) -> None:
    shown = printable(name)
    assert len(shown.encode().splitlines()) == 1
    assert unprintable(shown) == name


def test_the_files_listed_are_those_that_find_finds(tmp_path: Path) -> None:
    for name in (
        ".hidden/x.py",
        "pkg/__init__.py",
        "site-packages/y.py",
        "pkg/site-packages/z.py",
        "w.txt",
        "d.py/v.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "broken.py").symlink_to("nowhere")
    (tmp_path / "to_folder.py").symlink_to("pkg")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe.py")
    for skip in ((), ("site-packages",)):
        survey = Survey(folder=str(tmp_path), skip=skip)
        found = subprocess.run(find_command(survey), shell=True, check=True, capture_output=True, text=True).stdout
        assert list_sources(survey) == sorted(os.path.relpath(line, tmp_path) for line in found.splitlines())


def test_a_changed_file_changes_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    survey = Survey(folder=str(tmp_path))
    before = fingerprint(survey)
    assert fingerprint(survey) == before
    os.utime(tmp_path / "a.py", (1, 1))
    assert fingerprint(survey) != before


def test_the_package_of_a_folder_is_found_by_climbing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "__init__.py").touch()
    (tmp_path / "a" / "b" / "__init__.py").touch()
    assert package_of(str(tmp_path / "a" / "b")) == "a.b"
    assert package_of(str(tmp_path)) == ""


def test_a_file_is_measured_although_the_interpreter_confuses_it_with_what_another_thread_parses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse = ast.parse
    errors = [SystemError("AST constructor recursion depth mismatch (before=42, after=63)")]

    def confused(*arguments: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return parse(*arguments, **options)

    monkeypatch.setattr(ast, "parse", confused)
    assert measure_source("a.py", b"import b\n").imports == ("b",)
    errors += [SystemError("again")] * PARSER_TRIES
    with pytest.raises(SystemError):
        measure_source("a.py", b"import b\n")


def test_a_report_does_not_depend_on_the_order_in_which_measures_arrive() -> None:
    found: list[Measure | Unreadable] = [
        measure_source("b.py", b"import a\n"),
        measure_source("a.py", b"import b, os\n"),
        Unreadable(path="c.py", error="SyntaxError", reason="invalid syntax"),
    ]
    report = make_report(found)
    again = make_report(found[::-1])
    assert (to_json(report), to_text(report)) == (to_json(again), to_text(again))
    assert (report.totals.files, report.totals.parsed, report.totals.unreadable, report.totals.imports) == (3, 2, 1, 2)
    assert "c.py: SyntaxError: invalid syntax" in to_text(report)


def test_only_modules_of_the_folder_are_in_the_import_graph() -> None:
    measures = [measure_source("a.py", b"import b, os\nimport a\n"), measure_source("b.py", b"from a import x\n")]
    assert import_graph(measures) == {"a": {"b"}, "b": {"a"}}


def test_a_cluster_is_compared_with_the_embedded_census_of_the_same_folder_and_never_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    survey = Survey(folder="/here", skip=())
    embedded, cluster = Output(DEFAULT), Output(DEFAULT_CLUSTER)
    embedded.write_note(Note(run_id="r", folder="/here", skip=(), store=embedded.store_url))
    assert embedded_report(survey, cluster) is None
    embedded.report_json.write_text("{}")
    assert embedded_report(survey, cluster) == embedded.report_json
    assert embedded_report(survey, embedded) is None
    assert embedded_report(Survey(folder="/there", skip=()), cluster) is None


async def test_what_was_killed_while_another_store_had_the_run_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.py").write_text("x = 1\n")
    survey, output = Survey(folder=str(tmp_path / "files")), Output(tmp_path / "output")
    run_id = f"census-{fingerprint(survey)}"
    before = Note(run_id=run_id, folder=survey.folder, skip=survey.skip, store="redis://gone", killed={"anna": ["i1"]})
    output.write_note(before)

    async with Floxide(workflows=[CodeCensus]).orchestrator() as orchestrator:
        plan = await choose_run(orchestrator, survey, output, store="memory", fresh=False, is_alone=True)

    note = output.read_note()
    assert plan.run_id == run_id
    assert note is not None
    assert note.killed == {}
