"""The parts of a contest besides chains, in its rounds: each case of each part is measured once in every round."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from benchmarks.contest.parts import EMBEDDED, PARTS, Part, measure_once
from benchmarks.contest.plan import Measured, Plan, Servers, shuffled
from floxide_amqp.testing.services import new_namespace


class PartRounds:
    """Measures what is planned, and writes down what comes of it; what fails is left out from then on."""

    def __init__(self, plan: Plan, shared: Servers, measured: Measured, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._shared = shared
        self._measured = measured
        self._tell = tell
        self._failed: set[tuple[str, str, str]] = set()

    def hold(self, number: int) -> None:
        """Measure everything once, in an order of this round's own."""
        for part in (each for each in PARTS if each.name in self._plan.parts):
            began = time.monotonic()
            for contestant in shuffled(self._contestants(part), number):
                self._measure(part, contestant, number)
            self._tell(f"  round {number} of {self._plan.rounds}: {part.name} in {time.monotonic() - began:.0f} s")

    def _contestants(self, part: Part) -> list[str]:
        able = [
            name
            for name in self._plan.part_contestants
            if part.is_embedded_too or name.partition("-")[2] not in EMBEDDED
        ]
        return able[:1] if self._plan.is_smoke else able

    def _measure(self, part: Part, contestant: str, number: int) -> None:
        for size, kind in self._cases(part, number):
            key = (part.name, contestant, part.named(size, kind))
            if key in self._failed:
                continue
            try:
                figures = self._once(part, contestant.partition("-")[2], size, kind)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are measured, and it is told
                self._failed.add(key)
                self._tell(f"  {', '.join(key)}: failed: {error!r}")
                failure = {"contestant": contestant, "workers": 1, "round": number, "case": f"{part.name}: {key[2]}"}
                self._measured.failures.append(failure | {"error": repr(error)})
            else:
                row = self._measured.parts.setdefault(key, _new_row(part, contestant, size, kind))
                for name, value in figures.items():
                    row["figures"].setdefault(name, []).append(round(value, 3))

    def _cases(self, part: Part, number: int) -> list[tuple[int, str]]:
        if self._plan.is_smoke:
            return [(part.smoke, part.kinds[0])]
        return part.cases(with_large=number <= self._plan.large_rounds)

    def _once(self, part: Part, store: str, size: int, kind: str) -> dict[str, float]:
        with self._location(store) as location:
            return measure_once(part, self._shared.broker.url, new_namespace("bench"), store, location, size, kind)

    def _location(self, store: str) -> AbstractContextManager[str]:
        """Return where an empty store is; nothing where one makes a file of its own."""
        if store == "postgresql":
            return self._shared.database()
        if store == "redis":
            self._shared.redis.command("FLUSHALL")
            return nullcontext(self._shared.redis.url)
        return nullcontext("")


def _new_row(part: Part, contestant: str, size: int, kind: str) -> dict[str, Any]:
    return {
        "part": part.name, "contestant": contestant, "case": part.named(size, kind), "size": size, "kind": kind,
        "figures": {},
    }  # fmt: skip
