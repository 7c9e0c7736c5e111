"""What leads to items that wait for a child: the letter that starts it, the child itself, the letter that it ended.

The letters of all runs are kept as the store has them, by their bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.kin_letters import ENDED, START
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.stores import keys
from floxide_amqp.stores.letters import decode_letter
from floxide_amqp.stores.record_codec import decode_header
from floxide_amqp.testing.simulation.mirror import MirroredRun, Place

LETTERS_OF_ANY: Final = keys.letters_of(RunId(""))
"""What is the same in the names of all runs' letters but for the run."""


class KinWatch:
    """Knows which letters there are.

    Args:
        runs: What the store holds of each run.
    """

    def __init__(self, runs: Mapping[str, MirroredRun]) -> None:
        self._runs = runs
        self._parents: dict[str, str] = {}
        self._letters: dict[Place, tuple[str, str, str]] = {}
        self._number: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def start_over(self, letters: Mapping[str, list[tuple[str, bytes]]]) -> None:
        """Look at all letters anew."""
        self._letters.clear()
        self._number.clear()
        for index, entries in letters.items():
            for entry, value in entries:
                self.entered(index, entry, value)

    def header_written(self, value: bytes) -> None:
        """Note the parent of a run, if it has one."""
        header = decode_header(value)
        if header.parent is not None:
            self._parents[header.run_id] = header.parent.run_id

    def parent_of(self, run_id: str) -> MirroredRun | None:
        """Return the run that started a run, if one did, to be looked at as a whole."""
        run = self._runs.get(self._parents.get(run_id, ""))
        if run is not None:
            run.is_touched = True
        return run

    def entered(self, index: str, entry: str, value: bytes) -> None:
        """An index got an entry; of any but letters nothing is noted."""
        if is_of_letters(index) and (index, entry) not in self._letters:
            letter = decode_letter(entry, value)
            self._letters[index, entry] = told = (letter.kind, letter.from_run, letter.to_run)
            self._number[told] += 1

    def left(self, index: str, entry: str) -> str | None:
        """An index lost an entry: return the run whose items are to be looked at, if one waits for that letter."""
        told = self._letters.pop((index, entry), None)
        if told is None:
            return None
        self._number[told] -= 1
        kind, sender, receiver = told
        waiting = self._runs.get({START: sender, ENDED: receiver}.get(kind, ""))
        if waiting is not None:
            waiting.is_touched = True
        return None if waiting is None else waiting.run_id

    def is_on_its_way(self, kind: str, sender: str, receiver: str) -> bool:
        """Whether there is a letter of a kind that nobody has delivered."""
        return self._number[kind, sender, receiver] > 0

    def is_called_back(self, run_id: str, item: WorkItem) -> bool:
        """Whether an item that waits for a child will hear of it."""
        child = waits_for_child(item.waits_for)
        if child is None or item.status is not WorkItemStatus.HELD:
            return False
        run = self._runs.get(child)
        goes_on = run is not None and run.status is not None and not run.status.is_terminal
        return goes_on or self._number[START, run_id, child] > 0 or self._number[ENDED, child, run_id] > 0


def is_of_letters(index: str) -> bool:
    """Whether an index has the letters of some run."""
    head, _, tail = LETTERS_OF_ANY.rpartition(":")
    return index.startswith(head.partition(":")[0] + ":") and index.endswith(f":{tail}")
