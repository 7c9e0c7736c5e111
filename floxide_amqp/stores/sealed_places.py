"""Which parts of which records are sealed, and what each is bound to: payloads, contexts, notes, texts of errors.

Names and numbers are not. What is written here is part of what is authenticated: changed, nothing opens any more.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import ErrorRecord
from floxide_amqp.stores.sealed import Place

RUN_INPUT: Final = "input of the run"
RUN_CONTEXT: Final = "initial context"
RUN_FAILURE: Final = "failure of the run"
INPUT: Final = "input"
ITEM_FAILURE: Final = "failure"
NOTE: Final = "note"
OUTPUT: Final = "output"
ARRIVAL: Final = "arrival"
PAGE: Final = "page"
DELTA: Final = "context change"
SNAPSHOT: Final = "context snapshot"
ERROR: Final = "error"


def arrival_place(run_id: RunId, opener: str, entry: str) -> Place:
    """Return where a value belongs that reached a join, or with no opener an output of the run."""
    return Place(run_id, ARRIVAL, f"{opener} {entry}") if opener else Place(run_id, OUTPUT, entry)


def page_place(run_id: RunId, opener: str, number: int, place: int) -> Place:
    """Return where one of the outputs on a page of a large fan-out belongs."""
    return Place(run_id, PAGE, f"{opener} {number} {place}")


def text_places(run_id: RunId, kind: str, name: str) -> tuple[Place, Place]:
    """Return where an error's message and its traceback belong."""
    return Place(run_id, f"message of the {kind}", name), Place(run_id, f"traceback of the {kind}", name)


def name_of_error(record: ErrorRecord) -> str:
    """Return which of a run's errors one is."""
    return f"{record.item_id} {record.attempt}"
