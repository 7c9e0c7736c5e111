"""What a worker counts of its own work: plain numbers, added up where things happen and read by whoever wants to.

Counting costs an addition, whether somebody looks or not; nothing here knows who does.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from floxide_amqp.core.distribution import Distribution
from floxide_amqp.core.sources import SourceCounts

DURATION_BOUNDS_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0)
"""Upper bounds of the classes into which durations of node bodies are sorted; one more class holds the rest."""


class NodeFigures:
    """What became of the steps of one node.

    Attributes:
        committed: Steps whose result stands: the node succeeded, or holds.
        failed: Attempts that failed, committed as such.
        retried: Of these, those that are tried again.
        discarded: Steps whose result is void: the run was over, or somebody else had the item.
        durations: Seconds that bodies took, of committed and failed steps.
    """

    __slots__ = ("committed", "discarded", "durations", "failed", "retried")

    def __init__(self) -> None:
        self.committed = 0
        self.failed = 0
        self.retried = 0
        self.discarded = 0
        self.durations = Distribution(DURATION_BOUNDS_SECONDS)


class Figures:
    """What one process has counted since it began.

    Attributes:
        nodes: By workflow and node.
        deliveries: Messages received from task queues, the engine's own probes included.
        redeliveries: Of these, those that had been delivered before.
        dismissed: Messages that needed no work.
        conflicts: Commits refused because somebody else was faster; most are tried again.
        late_commits: Results that came after others had been given their items; they were refused.
        publishes: Messages published, by what became of them.
        timers_fired: Due timers dealt with.
        timers_set_aside: Due timers that could not be fired, each time.
        letters_delivered: Letters between runs delivered.
        letters_put_off: Letters that could not be delivered, each time.
        runs_deleted: Ended runs deleted.
        republished: Messages sent again because they were lost.
        given_back: Items made pending again because their owner was gone.
        parked: Items that this worker lacked the node or the key for.
        dead_letters: Messages the broker gave up on, by what became of them.
        quarantined: Messages nobody could read.
        left_to_probes: Messages let go because the server that has their run was down, by shard.
        runs_finished: Runs that this process ended, by status.
        sources: Items of sources, by source and what became of them.
    """

    def __init__(self) -> None:
        self.nodes: defaultdict[tuple[str, str], NodeFigures] = defaultdict(NodeFigures)
        self.deliveries = 0
        self.redeliveries = 0
        self.dismissed = 0
        self.conflicts = 0
        self.late_commits = 0
        self.publishes: Counter[str] = Counter()
        self.timers_fired = 0
        self.timers_set_aside = 0
        self.letters_delivered = 0
        self.letters_put_off = 0
        self.runs_deleted = 0
        self.republished = 0
        self.given_back = 0
        self.parked = 0
        self.dead_letters: Counter[str] = Counter()
        self.quarantined = 0
        self.left_to_probes: Counter[str] = Counter()
        self.runs_finished: Counter[str] = Counter()
        self.sources: Counter[tuple[str, str]] = Counter()

    def count_source(self, source: str, counts: SourceCounts) -> None:
        """Add what became of some items of a source."""
        for outcome in ("started", "duplicates", "quarantined", "rejected"):
            if number := getattr(counts, outcome):
                self.sources[source, outcome] += number

    def node(self, workflow: str, node: str) -> NodeFigures:
        """Return the figures of a node."""
        return self.nodes[workflow, node]
