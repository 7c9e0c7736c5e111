from __future__ import annotations

import inspect

import pytest

from floxide_amqp import exceptions
from floxide_amqp.exceptions import FloxideError

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
