"""Which parts of which records are sealed, and what each is bound to: payloads, contexts, notes, texts of errors.

Names and numbers are not. What is written here is part of what is authenticated: changed, nothing opens any more.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.log_records import ErrorRecord
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
SEGMENT: Final = "context segment"
ERROR: Final = "error"
SIGNAL: Final = "signal"
GIVEN: Final = "given output"
LETTER: Final = "letter"
CHILD_OUTPUT: Final = "output of the child"
CHILD: Final = "child"
SCHEDULED_INPUT: Final = "input of the schedule"
SCHEDULED_CONTEXT: Final = "context of the schedule"
SOURCE_MESSAGE: Final = "message of the source"


def arrival_place(run_id: RunId, opener: str, entry: str) -> Place:
    """Return where a value belongs that reached a join, or with no opener an output of the run."""
    return Place(run_id, ARRIVAL, f"{opener} {entry}") if opener else Place(run_id, OUTPUT, entry)


def join_place(run_id: RunId, join_id: str, position: int, item_id: str) -> Place:
    """Return where a value belongs that reached a join of edges."""
    return Place(run_id, ARRIVAL, f"{join_id} at {position} from {item_id}")


def page_place(run_id: RunId, opener: str, number: int, place: int) -> Place:
    """Return where one of the outputs on a page of a large fan-out belongs."""
    return Place(run_id, PAGE, f"{opener} {number} {place}")


def snapshot_place(run_id: RunId, position: int, segments: int) -> Place:
    """Return where a snapshot of the context belongs."""
    return Place(run_id, SNAPSHOT, f"{position} {segments}")


def segment_place(run_id: RunId, number: int, path: str, first: int) -> Place:
    """Return where some elements of a long field of the context belong."""
    return Place(run_id, SEGMENT, f"{number} {first} {path}")


def mail_place(run_id: RunId, name: str, signal_id: str) -> Place:
    """Return where a value of a signal belongs."""
    return Place(run_id, SIGNAL, f"{name} {signal_id}")


def text_places(run_id: RunId, kind: str, name: str) -> tuple[Place, Place]:
    """Return where an error's message and its traceback belong."""
    return Place(run_id, f"message of the {kind}", name), Place(run_id, f"traceback of the {kind}", name)


def name_of_error(record: ErrorRecord) -> str:
    """Return which of a run's errors one is."""
    return f"{record.item_id} {record.attempt}"
