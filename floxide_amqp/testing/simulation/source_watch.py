"""I20, checked whenever a message of a source leaves its queue: its run is in the store, or the message itself is.

Who sends the messages is no part of the engine: it sends each one once or more, and wants one run of each.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.sources import source_run_id
from floxide_amqp.ports.key_value import Key
from floxide_amqp.stores import keys
from floxide_amqp.stores.encoding import unpack
from floxide_amqp.stores.packing import unpack_record
from floxide_amqp.stores.quarantine import QUARANTINED
from floxide_amqp.stores.sealing import PLAIN
from floxide_amqp.stores.source_messages import open_message
from floxide_amqp.stores.sources import POSITION, cells_of

QUEUE = "upstream"
"""The queue that somebody else fills."""


class SourceWatch:
    """Follows the messages of a source.

    Args:
        violated: Told what does not hold.
        began: Told of each run of a source that begins.
        now: Tells the virtual time.
    """

    def __init__(self, violated: Callable[[str], None], began: Callable[[str], None], now: Callable[[], float]) -> None:
        self._violated = violated
        self._began = began
        self._now = now
        self._went_back_at = -math.inf
        self.name = ""
        self.sent: dict[bytes, RunId | None] = {}
        self.acknowledged: set[bytes] = set()
        self._recorded: set[str] = set()
        self._kept: defaultdict[bytes, set[str]] = defaultdict(set)
        self._left: Counter[bytes] = Counter()

    def start_over(self) -> None:
        """Forget what the store holds: it is told anew."""
        self._went_back_at = self._now()
        self._recorded.clear()
        self._kept.clear()
        self._left.clear()

    def send(self, body: bytes, key: str | None) -> None:
        """Somebody sends a message, of which a run is to be made unless it has no key."""
        self.sent[body] = None if key is None else source_run_id(self.name, key)

    def put(self, key: Key, value: bytes) -> None:
        """A cell was written."""
        if self.name and key == cells_of(self.name)[4]:
            self._check_position(value)
        kind, _, quarantine_id = key.name.partition(":")
        if key.partition != keys.SYSTEM or kind != "quarantine" or not self.name:
            return
        record = unpack_record(QUARANTINED, value)
        if len(record) > 6 and record[6] == self.name:
            self._kept[open_message(PLAIN, self.name, quarantine_id, record[2]).body].add(quarantine_id)

    def run_written(self, run_id: str, *, is_new: bool) -> None:
        """The state of a run was written."""
        self._recorded.add(run_id)
        if is_new and self.name and run_id.startswith(f"{self.name}:"):
            self._began(run_id)
            if run_id not in self.sent.values():
                self._violated(f"I20: run {run_id} begins, and nobody has sent its message")

    def acknowledged_by(self, who: str, body: bytes, sent_at: float) -> None:
        """A message leaves its queue, as somebody said at some time before."""
        if body not in self.sent:
            return
        self.acknowledged.add(body)
        if sent_at <= self._went_back_at:
            return
        self._left[body] += 1
        if not self.is_recorded(body):
            self._violated(f"I20: {who} acknowledged {body!r} before the store knew of it")

    def _check_position(self, value: bytes) -> None:
        """How far an iterator is, is written once the runs up to there stand; unless a store has gone back since."""
        (position, _) = unpack_record(POSITION, value)[:2]
        if not position or self._went_back_at > -math.inf:
            return
        until = unpack(position)
        for run_id in self.sent.values():
            is_before = run_id is not None and isinstance(until, int) and int(run_id.rpartition(":")[2]) <= until
            if is_before and run_id not in self._recorded:
                self._violated(f"I20: position {until} is recorded, and run {run_id} is not")

    def is_recorded(self, body: bytes) -> bool:
        """Whether the store has a message's run, or each message with this body where no run can be made of it."""
        run_id = self.sent[body]
        return len(self._kept[body]) >= max(1, self._left[body]) if run_id is None else run_id in self._recorded
