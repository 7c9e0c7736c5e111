from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.drivers.amqp.health import ConnectionState, RoleHealth, health_of
from floxide_amqp.drivers.amqp.settings import AmqpSettings


@dataclass
class Connection:
    is_ready: bool = True
    problem: str = ""

    def health(self) -> RoleHealth:
        return RoleHealth(
            role="consume",
            state=ConnectionState.READY if self.is_ready else ConnectionState.CONNECTING,
            is_ready=self.is_ready,
            generation=1,
            round_trip_age_seconds=0.5,
            blocked_seconds=None,
            problem=self.problem,
        )


@dataclass(frozen=True)
class Subscribed:
    problem: str = ""


def test_a_role_is_ready_when_its_connection_is_and_all_its_subscriptions_stand() -> None:
    health = health_of(Connection(), [Subscribed(), Subscribed()])
    assert (health.is_ready, health.problem) == (True, "")


def test_a_subscription_that_does_not_stand_makes_a_role_unready_on_a_healthy_connection() -> None:
    health = health_of(
        Connection(), [Subscribed(), Subscribed("consumer of b: gone"), Subscribed("consumer of a: gone")]
    )
    assert (health.is_ready, health.state) == (False, ConnectionState.READY)
    assert health.problem == "consumer of a: gone; consumer of b: gone"


def test_the_loss_of_the_connection_is_the_problem_and_not_what_follows_from_it() -> None:
    health = health_of(Connection(is_ready=False, problem="refused"), [Subscribed("consumer of a: gone")])
    assert (health.is_ready, health.problem) == (False, "refused")


def test_a_round_trip_may_be_as_old_as_one_missed_probe_makes_it() -> None:
    assert AmqpSettings().round_trip_limit == 45.0
    assert AmqpSettings(probe_interval=1.0, rpc_deadline=2.0).round_trip_limit == 4.0
