"""I12, checked after every commit: a run is listed under the attributes its record has, and under no others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Clear, Delete, Enter, Key, Leave, Put, Write
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.attributes import attribute_index, decode_attributes

LISTS = run_list_keys.runs_with_attribute("", "").partition(":")[0] + ":"
"""What the names of the lists of runs with an attribute begin with."""

RECORD = keys.attributes(RunId("")).name


class AttributeWatch:
    """Follows the records of attributes and the lists that are made of them.

    Args:
        violated: Told what does not hold.
    """

    def __init__(self, violated: Callable[[str], None]) -> None:
        self._violated = violated
        self.start_over((), ())

    def start_over(self, cells: Iterable[tuple[Key, bytes]], entries: Iterable[tuple[str, str]]) -> None:
        """Take over what a store holds: cells, and entries of indexes with the names of these."""
        self._said: dict[str, set[str]] = {}
        self._listed: dict[str, set[str]] = defaultdict(set)
        for key, value in cells:
            self._write(Put(key, value))
        for index, entry in entries:
            self._write(Enter(index, entry))

    def batch_applied(self, applied: Iterable[Sequence[Write]]) -> None:
        """Take a batch's writes over, and check the runs that they are about."""
        touched = {run_id for writes in applied for write in writes if (run_id := self._write(write))}
        for run_id in touched:
            said, listed = self._said.get(run_id, set[str]()), self._listed[run_id]
            if said != listed:
                self._violated(f"I12: run {run_id} has {sorted(said)} and is listed under {sorted(listed)}")

    def _write(self, write: Write) -> str:
        """Take one write over; return the run that it is about, if it is about attributes."""
        match write:
            case Put(Key(run_id, name), value) if name == RECORD:
                found = {attribute_index(each, value) for each, value in decode_attributes(value).items()}
                self._said[run_id] = found
            case Enter(index, entry) if index.startswith(LISTS):
                run_id = run_list_keys.run_of(entry)
                self._listed[run_id].add(index)
            case Leave(index, entry) if index.startswith(LISTS):
                run_id = run_list_keys.run_of(entry)
                self._listed[run_id].discard(index)
            case Delete(Key(run_id, name)) if name == keys.header(RunId("")).name:
                self._said.pop(run_id, None)  # with the header the run is gone; its records follow
            case Clear(run_id):
                self._said.pop(run_id, None)
            case _:
                return ""
        return run_id
