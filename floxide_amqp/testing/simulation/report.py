"""What many seeds came to, added up and put into words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from floxide_amqp.testing.simulation.exercised import Exercised, never, table
from floxide_amqp.testing.simulation.seeds import Played

SECONDS_PER_HOUR = 3600


@dataclass
class Totals:
    """Figures of the seeds played so far.

    Attributes:
        nodes: The nodes of the workflow that was played, where it is one's own.
        disturbed: Those of them that ran under a fault: something befell their worker between the beginning of a body
            and its commit.
        exercised: What of each group of the language happened, and how often.
    """

    seeds: int = 0
    seconds: float = 0.0
    runs: int = 0
    completed: int = 0
    cancelled: int = 0
    commits: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    failures: list[Played] = field(default_factory=list[Played])
    nodes: set[str] = field(default_factory=set[str])
    disturbed: set[str] = field(default_factory=set[str])
    exercised: Exercised = field(default_factory=Exercised)

    def add(self, played: Played) -> None:
        """Count a seed."""
        self.seeds += 1
        self.seconds += played.seconds
        self.runs += played.runs
        self.completed += played.completed
        self.cancelled += played.cancelled
        self.commits += played.commits
        self.faults += played.faults
        self.nodes |= played.nodes
        self.disturbed |= played.disturbed
        self.exercised += played.exercised
        if played.violations:
            self.failures.append(played)

    @property
    def never_exercised(self) -> list[str]:
        """Groups of the language of which nothing happened, by name."""
        return never(self.exercised)

    @property
    def never_under_fault(self) -> list[str]:
        """Nodes that no seed has shown to bear a fault, by name: more seeds may, or a shorter way to them."""
        return sorted(self.nodes - self.disturbed)

    def summary(self, real_seconds: float) -> str:
        """Return the figures as text.

        Args:
            real_seconds: How long playing them took.
        """
        violations = sum(len(played.violations) for played in self.failures)
        lines = [
            f"seeds played        {self.seeds:>12,}   in {real_seconds:,.0f} s",
            f"simulated time      {self.seconds / SECONDS_PER_HOUR:>12,.1f}   hours",
            f"runs                {self.runs:>12,}   {self.completed:,} completed, {self.cancelled:,} cancelled",
            f"commits checked     {self.commits:>12,}",
            f"faults injected     {self.faults.total():>12,}   of {len(self.faults)} kinds:",
            *(f"    {kind:<24}{count:>10,}" for kind, count in sorted(self.faults.items())),
            f"violations          {violations:>12,}   in {len(self.failures)} seeds",
        ]
        if not self.nodes:
            lines += ["what happened of each group of the language of flows:", *table(self.exercised)]
        else:
            lines.append(f"never under a fault        {', '.join(self.never_under_fault) or 'no node'}")
        return "\n".join(lines)


def describe_failure(played: Played) -> str:
    """Return what a seed violated, and the one command that plays it again."""
    shown = "\n".join(f"    {violation}" for violation in played.violations)
    return f"seed {played.seed} violates:\n{shown}\n    play it again: {command_for(played.seed)} --trace"


def command_for(seed: int) -> str:
    """Return the command that plays a seed again."""
    return f"python -m floxide_amqp.testing.simulation --seed {seed}"
