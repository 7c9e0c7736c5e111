"""The rounds of a contest: everything is measured once in every round, on the same servers, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contest.chain_rounds import ChainRounds
from benchmarks.contest.part_rounds import PartRounds
from benchmarks.contest.plan import CHAINS, Measured, Plan, Servers
from benchmarks.contest.raw_limits import measure_limits
from benchmarks.contest.watching import describe_servers


def hold(plan: Plan, shared: Servers, tell: Callable[[str], None], keep: Callable[[Measured], None]) -> Measured:
    """Hold all rounds; who fails is told of. What there is is kept after each round."""
    version, postgresql = shared.broker.ctl("version").strip(), shared.postgresql.url
    measured = Measured(servers=describe_servers(version, postgresql, shared.redis.url))
    chains, parts = ChainRounds(plan, shared, measured, tell), PartRounds(plan, shared, measured, tell)
    for number in range(plan.rounds + 1):
        if number and CHAINS in plan.parts:
            with shared.database() as database:
                rates = measure_limits(shared.broker.url, database, shared.redis.url, plan.limit_messages)
            for name, rate in rates.items():
                measured.limits.setdefault(name, []).append(round(rate, 1))
        chains.hold(number)
        if number:
            parts.hold(number)
            measured.rounds = number
            keep(measured)
    return measured
