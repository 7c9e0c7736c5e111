from __future__ import annotations

import sys
from pathlib import Path

import pytest

from floxide_amqp import DefinitionError, Floxide
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.apps.cli.references import load_app, load_workflow
from floxide_amqp.exceptions import UnknownWorkflowError

FILES = {
    "shop_a": """
from floxide_amqp import Floxide, Workflow, node

@node
async def double(n: int) -> int:
    return 2 * n

class Doubles(Workflow[int, int]):
    start = double

class Others(Workflow[int, int]):
    start = double

class Holder:
    app = Floxide(workflows=[Doubles])

app = Floxide(workflows=[Doubles, Others])
single = Floxide(workflows=[Doubles])
none = Floxide()
number = 7

def make():
    return app
""",
    "lacking_a": "import no_such_library",
    "broken_a": "def",
    "raising_a": "1 / 0",
    "leaving_a": "raise SystemExit(3)",
    "empty_a": "apps = 1",
    "mismatched_a": """
from floxide_amqp import Workflow, node

@node
async def a(x: int) -> int:
    return x

@node
async def b(x: str) -> str:
    return x

class Wrong(Workflow[int, str]):
    start = a
    edges = (a >> b,)
""",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("shop_a", "'shop_a' does not name an application. Write module:attribute, as in shop:app"),
        (":app", "':app' does not name an application."),
        ("shop_a:", "'shop_a:' does not name an application."),
        ("shop_a.py:app", "'shop_a.py' is a path; name the module as an import does: shop_a."),
        ("./shop/a.py:app", "'./shop/a.py' is a path; name the module as an import does: shop.a."),
        ("shopp_a:app", "There is no module 'shopp_a' in "),
        ("shop_a.sub:app", "There is no module 'shop_a.sub' in "),
        ("lacking_a:app", "Importing lacking_a failed: No module named 'no_such_library'. Is it installed in "),
        ("broken_a:app", "Importing broken_a failed with SyntaxError: "),
        ("raising_a:app", "Importing raising_a failed with ZeroDivisionError: division by zero. Use --debug"),
        ("leaving_a:app", "Importing leaving_a failed with SystemExit: 3."),
        ("shop_a:ap", "Module shop_a has no 'ap'. It has the applications app, none and single."),
        ("empty_a:app", "Module empty_a has no 'app', and no application at all. Did you mean 'apps'?"),
        ("shop_a:make", "shop_a:make is no application but a function. Name a Floxide object. If it makes the "),
        ("shop_a:number", "shop_a:number is no application but an int. Name a Floxide object."),
        ("shop_a:Doubles", "shop_a:Doubles is the workflow Doubles, and this command needs an application."),
    ],
)
def test_a_wrong_reference_says_what_is_there_instead(reference: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_app(reference)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("reference", "name", "sentence"),
    [
        ("shop_a:app", None, "Name the workflow after shop_a:app; it has: Doubles, Others."),
        ("shop_a:none", None, "Name the workflow after shop_a:none; it has: none."),
        ("shop_a:Doubles", "Doubles", "shop_a:Doubles is the workflow Doubles itself: leave 'Doubles' out."),
        ("shop_a:number", "Doubles", "shop_a:number is no application but an int."),
    ],
)
def test_a_workflow_that_stays_open_says_which_there_are(reference: str, name: str | None, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_workflow(reference, name)
    assert str(caught.value).startswith(sentence)


def test_an_unknown_workflow_is_told_apart() -> None:
    with pytest.raises(UnknownWorkflowError, match="There is no workflow 'Nope' here"):
        load_workflow("shop_a:app", "Nope")
    with pytest.raises(
        UnknownWorkflowError, match=r"There is no workflow 'Doubles@7' here\..* has: Doubles@1, Others@1"
    ):
        load_workflow("shop_a:app", "Doubles@7")


def test_a_workflow_that_is_defined_wrongly_says_what_its_class_says() -> None:
    with pytest.raises(DefinitionError, match="Wrong"):
        load_app("mismatched_a:app")


def test_an_application_is_found_by_name_and_inside_a_class() -> None:
    assert isinstance(load_app("shop_a:app"), Floxide)
    assert isinstance(load_app("shop_a:Holder.app"), Floxide)


def test_a_workflow_is_found_by_name_alone_or_by_its_class() -> None:
    for reference, name in (("shop_a:app", "Doubles"), ("shop_a:single", None), ("shop_a:Doubles", None)):
        app, workflow = load_workflow(reference, name)
        assert workflow.graph.workflow == "Doubles"
        assert app.registry.workflow("Doubles") is workflow
