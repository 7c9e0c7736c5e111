from __future__ import annotations

import inspect

import pytest

from floxide_amqp import exceptions
from floxide_amqp.exceptions import (
    BrokerAccessRefusedError,
    FloxideError,
    PayloadMismatchError,
    ResourceNotFoundError,
)

CLASSES = [each for _, each in inspect.getmembers(exceptions, inspect.isclass) if issubclass(each, FloxideError)]
NOT_FACTS = {"is_stored"}  # chooses a word of the sentence


@pytest.mark.parametrize("error_class", CLASSES)
def test_an_error_declares_its_facts_so_that_type_checkers_see_them(error_class: type[FloxideError]) -> None:
    parameters = inspect.signature(error_class).parameters.values()
    facts = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY} - NOT_FACTS
    declared = {name for each in error_class.__mro__ for name in inspect.get_annotations(each)}
    assert facts <= declared


@pytest.mark.parametrize("error_class", CLASSES)
def test_an_error_is_in_the_tree_that_the_module_shows(error_class: type[FloxideError]) -> None:
    assert error_class.__name__ in (exceptions.__doc__ or "")


def test_a_refused_login_ends_in_one_full_stop_and_its_own_cure() -> None:
    reason = "ACCESS_REFUSED - Login was refused. For details see the broker logfile."
    text = str(BrokerAccessRefusedError(url="amqp://b/", operation="Connecting", reason=reason, cure="Check it."))
    assert text.endswith("see the broker logfile. Check it.")


def test_a_missing_resource_is_cured_where_the_workflow_is_run_too() -> None:
    text = str(ResourceNotFoundError(node="n", resource="Clock", known=()))
    assert "Workflow.run(..., resources={Clock: ...})" in text


def test_a_mismatch_names_its_place() -> None:
    error = PayloadMismatchError(expected="str", got="int", problem="a.b: odd").at("The input of workflow 'W'")
    assert str(error) == "The input of workflow 'W' must be str, but it is int: a.b: odd."
    assert (error.where, error.expected) == ("The input of workflow 'W'", "str")
