"""What can be the id of a run."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import MAX_RUN_ID_LENGTH
from floxide_amqp.core.run_ids import check_run_id
from floxide_amqp.exceptions import InvalidRunIdError


def is_refused(run_id: str) -> bool:
    try:
        check_run_id(run_id)
    except InvalidRunIdError:
        return True
    return False


@given(st.text(min_size=1, max_size=20))
def test_a_text_is_refused_if_it_has_a_character_of_the_category_other_or_spaces_around_it(text: str) -> None:
    others = [character for character in text if unicodedata.category(character).startswith("C")]
    assert is_refused(text) == (bool(others) or text != text.strip())


def test_spaces_of_all_kinds_may_stand_within_an_id() -> None:
    check_run_id("a b\u00a0c\u2003d")


@pytest.mark.parametrize("text", ["", " ", "x" * (MAX_RUN_ID_LENGTH + 1), "a\nb", "a\u200bb", "\ud800", "\ue000"])
def test_what_is_empty_too_long_or_cannot_be_printed_is_refused(text: str) -> None:
    assert is_refused(text)
