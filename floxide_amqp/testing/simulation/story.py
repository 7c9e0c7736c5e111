"""The story of one simulation: what happened, when, to whom. One seed tells the same story every time.

Everything goes into a hash, so that two plays are compared by one number; the lines are kept only where somebody
wants to read them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

from floxide_amqp.ports.key_value import Batch, Put, When, Write
from floxide_amqp.testing.simulation.tale import Tale, duration

FAULT = "FAULT "
"""What a line about a fault begins with."""


class Story:
    """What happens in one simulation.

    Args:
        time: Tells the virtual time, in seconds.
        is_told: Whether the lines are kept, or only their hash.

    Attributes:
        lines: What happened, in order; empty unless `is_told`.
        faults: How often each kind of fault happened: counted when it did, not when it was planned.
        violations: What must never happen and did.
        commits: Batches that reached the store.
        is_over: Whether nothing is noted any more.
        tale: What a person follows of it.
        on_fault: Told of each fault and whom it befell.
    """

    def __init__(self, time: Callable[[], float], *, is_told: bool = False) -> None:
        self._time = time
        self._hash = hashlib.blake2b(digest_size=16)
        self.is_told = is_told
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        self.commits = 0
        self.is_over = False
        self.skipped_ms = 0
        self.tale = Tale(lambda: time() + self.skipped_ms / 1000)
        self.on_fault: Callable[[str, str], None] = _ignore

    def now(self) -> float:
        """Return the virtual time, in seconds."""
        return self._time()

    def note(self, who: str, what: str, *facts: object) -> None:
        """Note what happened, until the story is over."""
        if self.is_over:
            return
        self.tale.hear(who, what.removeprefix(FAULT), facts)
        line = f"{self._time():12.6f} {who} {what} {facts!r}" if facts else f"{self._time():12.6f} {who} {what}"
        self._hash.update(line.encode())
        if self.is_told:
            self.lines.append(line)

    def fault(self, kind: str, who: str = "", *facts: object) -> None:
        """Note a fault that has just happened."""
        if self.is_over:
            return
        self.faults[kind] += 1
        self.on_fault(kind, who)
        self.note(who or "world", f"{FAULT}{kind}", *facts)

    def skip(self, milliseconds: int) -> None:
        """Note that time is let pass in which nothing happens."""
        self.note("world", "skips", milliseconds)
        self.skipped_ms += milliseconds
        self.tale.say(f"{duration(milliseconds / 1000)} pass")

    def violation(self, what: str) -> None:
        """Note that something happened that must never happen."""
        if self.is_over:
            return
        self.violations.append(f"at {self._time():.3f} s: {what}")
        self.note("checker", "VIOLATION", what)

    def batch(self, who: str, batch: Batch, outcome: str) -> None:
        """Note a batch that reached the store."""
        if self.is_over:
            return
        self.commits += 1
        self._hash.update(batch.token)
        for write in batch.writes:
            self._write(write)
        names = " ".join(_shown(write) for write in batch.writes) if self.is_told else ""
        self.note(who, outcome, names)

    def digest(self) -> str:
        """Return the hash of all that happened so far."""
        return self._hash.hexdigest()

    def _write(self, write: Write) -> None:
        if isinstance(write, Put):
            self._hash.update(write.key.name.encode())
            self._hash.update(write.value)
        elif isinstance(write, When):
            for each in (*write.then, *write.otherwise):
                self._write(each)
        else:
            self._hash.update(repr(write).encode())


def _shown(write: Write) -> str:
    text = repr(write)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


MAX_SHOWN = 160
"""Characters of one write in a told story."""


def _ignore(_kind: str, _who: str) -> None:
    """The default of `Story.on_fault`."""
