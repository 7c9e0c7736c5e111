"""I13, checked after every commit: who waits for a signal is listed, and nobody waits for what lies in the mailbox.

And no value is given to two items, taken twice, or lost with an item that is cancelled while its run goes on. What lies
in the mailbox of a run while an item waits for it has come back, and a letter is about to offer it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from floxide_amqp.core.records import Mail, WorkItem
from floxide_amqp.core.signal_moves import OFFER
from floxide_amqp.core.signal_waits import awaited
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.stores import keys, signal_keys
from floxide_amqp.testing.simulation.kin_watch import KinWatch
from floxide_amqp.testing.simulation.mirror import MirroredRun


class SignalWatch:
    """Follows the mailboxes of all runs.

    Args:
        runs: What the store holds of each run.
        kin: Knows which letters there are.
        violated: Told what does not hold.
    """

    def __init__(self, runs: Mapping[str, MirroredRun], kin: KinWatch, violated: Callable[[str], None]) -> None:
        self._runs = runs
        self._kin = kin
        self._violated = violated
        self.start_over()

    def start_over(self) -> None:
        """Forget everything: what the store holds is told anew, as if it were written now."""
        self._unread: dict[str, set[str]] = defaultdict(set)
        self._listed: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._waiting: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        self._owners: dict[tuple[str, str], str] = {}
        self._given: dict[tuple[str, str], Mail] = {}
        self._parted: dict[tuple[str, str], str] = {}
        self._returned: set[tuple[str, str]] = set()
        self._touched: dict[str, None] = {}
        self._gone: set[str] = set()

    def check_touched(self) -> None:
        """Check the runs about whose mailboxes something was told since the last call."""
        touched, self._touched = self._touched, {}
        for run_id in touched:
            self._check(run_id)
        parted, self._parted = self._parted, {}
        returned, self._returned = self._returned, set()
        for run_id, signal_id in returned:
            owner = self._owners.pop((run_id, signal_id), "")
            mail = self._given.get((run_id, owner))
            if mail is not None and mail.signal_id == signal_id:
                self._violated(f"I13: signal {signal_id} of run {run_id} came back and is still item {owner}'s")
        for (run_id, item_id), entry in parted.items():
            if entry not in self._unread[run_id]:
                self._violated(f"I13: the value {entry} of run {run_id} was lost with item {item_id}")

    def is_listed(self, run_id: str, item: WorkItem) -> bool:
        """Whether a signal that an item waits for would find it."""
        names = awaited(item.waits_for)
        return bool(names) and all((name, item.item_id) in self._listed[run_id] for name in names)

    def _check(self, run_id: str) -> None:
        waiting = {(name, item_id) for item_id, names in self._waiting[run_id].items() for name in names}
        if waiting != self._listed[run_id]:
            self._violated(
                f"I13: of run {run_id} wait {sorted(waiting)}, and listed are {sorted(self._listed[run_id])}"
            )
        there = {entry.partition("/")[0] for entry in self._unread[run_id]}
        passed_over = there & {name for name, item_id in waiting if self._is_open(run_id, item_id)}
        if passed_over and not self._kin.is_on_its_way(OFFER, run_id, run_id):
            self._violated(f"I13: items of run {run_id} wait for {sorted(passed_over)}, which lies in its mailbox")

    def _is_open(self, run_id: str, item_id: str) -> bool:
        """Whether no fan-out around an item was closed."""
        run = self._runs.get(run_id)
        item = None if run is None else run.items.get(item_id)
        return run is None or item is None or run.sweeps.isdisjoint(item.scope)

    def entered(self, index: str, entry: str) -> None:
        """An index got an entry."""
        found = _run_of(index)
        if found is None:
            return
        run_id, what = found
        self._gone.discard(run_id)
        self._touched[run_id] = None
        if what == keys.MAIL:
            self._unread[run_id].add(entry)
            self._returned.add((run_id, entry.partition(":")[2]))
        else:
            self._listed[run_id].add((entry.partition("/")[0], signal_keys.waiter_of(entry)))

    def left(self, index: str, entry: str) -> None:
        """An index lost an entry, if it had it."""
        found = _run_of(index)
        if found is None or found[0] in self._gone:
            return
        run_id, what = found
        self._touched[run_id] = None
        if what == keys.MAIL:
            if entry not in self._unread[run_id]:
                self._violated(f"I13: {entry} of run {run_id} was taken, and was not there")
            self._unread[run_id].discard(entry)
        else:
            self._listed[run_id].discard((entry.partition("/")[0], signal_keys.waiter_of(entry)))

    def item_written(self, run_id: str, item: WorkItem) -> None:
        """An item was written."""
        names = awaited(item.waits_for) if item.status is WorkItemStatus.HELD else ()
        was = self._waiting[run_id].pop(item.item_id, ())
        if names:
            self._waiting[run_id][item.item_id] = names
        if names or was:
            self._touched[run_id] = None
        before = self._given.pop((run_id, item.item_id), None)
        if before is not None and item.status is WorkItemStatus.CANCELLED:
            self._parted[run_id, item.item_id] = signal_keys.mail_entry(before)
            self._owners.pop((run_id, before.signal_id), None)
            self._touched[run_id] = None
        if item.mail is not None:
            self._given[run_id, item.item_id] = item.mail
            if before is None and not self._is_open(run_id, item.item_id) and item.status is WorkItemStatus.PENDING:
                self._violated(f"I13: {item.mail.name} of run {run_id} was given to an item of a closed fan-out")
            owner = self._owners.setdefault((run_id, item.mail.signal_id), item.item_id)
            if owner != item.item_id:
                self._violated(f"I13: signal {item.mail.signal_id} of run {run_id} went to two items")

    def forget(self, run_id: str) -> None:
        """A run was deleted: what is left of it goes page by page."""
        for of_runs in (self._waiting, self._unread, self._listed, self._touched):
            of_runs.pop(run_id, None)
        self._gone.add(run_id)


def _run_of(index: str) -> tuple[str, str] | None:
    """Return the run whose mailbox or whose waiting items an index has, and which."""
    kind, _, rest = index.partition(":")
    run_id, _, opener = rest.rpartition(":")
    return (run_id, opener) if kind == "in" and opener in (keys.MAIL, keys.WAITS) else None
