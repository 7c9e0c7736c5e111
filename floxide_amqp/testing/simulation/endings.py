"""How simulated runs of one's own workflow ended, and what a check that failed says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import FloxideError

OutT = TypeVar("OutT")
T = TypeVar("T")

SHOWN_LINES = 40
"""Lines that a failure tells of what happened, the last ones."""


class SimulationFailedError(AssertionError):
    """A seed shows a bug. Everything in it follows from the seed, so it can be played again and again.

    Attributes:
        seed: The seed.
        violations: What does not hold.
        tale: What happened, a line each: who ran what, what befell whom, what was committed.
    """

    def __init__(
        self, *, seed: int, workflow: str, violations: Sequence[str], faults: str, tale: Sequence[str], again: str
    ) -> None:
        shown = "\n".join(f"  {violation}" for violation in violations)
        left_out = f"  … {len(tale) - SHOWN_LINES} lines before …\n" if len(tale) > SHOWN_LINES else ""
        happened = left_out + "\n".join(f"  {line}" for line in tale[-SHOWN_LINES:])
        super().__init__(
            f"Workflow {workflow!r} fails on seed {seed}:\n{shown}\nWhat befell it: {faults}.\nWhat happened:\n"
            f"{happened}\nPlay it again: {again}"
        )
        self.seed = seed
        self.violations = tuple(violations)
        self.tale = tuple(tale)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun(Generic[OutT]):
    """How one run of a simulation ended.

    Attributes:
        status: ``COMPLETED``, ``FAILED`` or ``CANCELLED``.
        error: Why it has no result; None if it has one.
        context: Its context, merged to the end.
    """

    run_id: str
    input: Any
    status: RunStatus
    output: OutT | None
    error: FloxideError | None
    context: Any

    def result(self) -> OutT:
        """Return its output.

        Raises:
            RunError: It has none.
        """
        if self.error is not None:
            raise self.error
        return cast("OutT", self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(Generic[OutT]):
    """What is there to be checked when a simulation is over.

    Attributes:
        seed: The seed it was drawn from.
        runs: The runs, in the order of their inputs.
        resources: The fakes its nodes worked with.
    """

    seed: int
    runs: Sequence[EndedRun[OutT]]
    resources: Mapping[type, object]

    @property
    def results(self) -> list[OutT]:
        """The outputs of all runs; raises the error of the first that has none."""
        return [run.result() for run in self.runs]

    def resource(self, kind: type[T]) -> T:
        """Return a fake by its type, as ``ctx.resource`` does."""
        return cast("T", self.resources[kind])
