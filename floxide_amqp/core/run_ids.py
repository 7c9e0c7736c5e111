"""What can be the id of a run: whatever people can read, for it is in logs, lists and URLs."""

from __future__ import annotations

import unicodedata

from floxide_amqp.core.ids import MAX_RUN_ID_LENGTH
from floxide_amqp.exceptions import InvalidRunIdError


def check_run_id(run_id: str) -> None:
    """Refuse what cannot be a run's id.

    Raises:
        InvalidRunIdError: It cannot.
    """
    fits = 0 < len(run_id) <= MAX_RUN_ID_LENGTH and run_id == run_id.strip()
    if not fits or (not run_id.isprintable() and _has_control_characters(run_id)):
        raise InvalidRunIdError(run_id=run_id, limit=MAX_RUN_ID_LENGTH)


def _has_control_characters(text: str) -> bool:
    """Whether a text has characters of the category "Other"; what else cannot be printed is spaces of some kind."""
    return any(unicodedata.category(character).startswith("C") for character in text)
