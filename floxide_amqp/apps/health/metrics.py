"""The metrics of a worker: their names, what they mean, and where their values come from.

``docs/operations.md`` lists them all; a test holds it to this table. Values are read when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from floxide_amqp.core.distribution import Distribution
from floxide_amqp.runtime.figures import Figures
from floxide_amqp.runtime.worker import Worker
from floxide_amqp.stores.figures import StoreFigures

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = tuple[Labels, float | Distribution]

WORKER_STATUSES = ("starting", "running", "draining", "stopped")
CONNECTION_STATES = ("connecting", "ready", "blocked", "draining", "dead")


class MetricKind(StrEnum):
    """What a metric's values do."""

    COUNTER = "counter"
    """Only rise, from zero at the worker's start."""
    GAUGE = "gauge"
    """Rise and fall."""
    HISTOGRAM = "histogram"
    """Are counted by class."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As Prometheus shows it, without ``_bucket``, ``_sum`` and ``_count`` of a histogram.
        read: Returns its values now, by labels.
    """

    name: str
    kind: MetricKind
    labels: Labels
    meaning: str
    read: Callable[[Worker], Iterator[Sample]]


def _one(value: Callable[[Worker], float | None]) -> Callable[[Worker], Iterator[Sample]]:
    """A metric without labels; it is left out while there is no value."""

    def read(worker: Worker) -> Iterator[Sample]:
        found = value(worker)
        if found is not None:
            yield (), float(found)

    return read


def _figure(value: Callable[[Figures], int]) -> Callable[[Worker], Iterator[Sample]]:
    return _one(lambda worker: value(worker.services.figures))


def _by_name(values: Callable[[Worker], Mapping[str, int]]) -> Callable[[Worker], Iterator[Sample]]:
    return lambda worker: (((name,), float(count)) for name, count in values(worker).items())


def _store(values: Callable[[StoreFigures], Mapping[str, Distribution]]) -> Callable[[Worker], Iterator[Sample]]:
    return lambda worker: (
        ((kind,), distribution) for kind, distribution in values(worker.services.session.figures).items()
    )


def _steps(worker: Worker) -> Iterator[Sample]:
    for (workflow, node), figures in worker.services.figures.nodes.items():
        outcomes = {
            "committed": figures.committed,
            "retried": figures.retried,
            "failed": figures.failed - figures.retried,
            "discarded": figures.discarded,
        }
        yield from (((workflow, node, outcome), float(count)) for outcome, count in outcomes.items())


def _source_items(worker: Worker) -> Iterator[Sample]:
    return ((labels, float(count)) for labels, count in worker.services.figures.sources.items())


def _durations(worker: Worker) -> Iterator[Sample]:
    for labels, figures in worker.services.figures.nodes.items():
        yield labels, figures.durations


def _status(worker: Worker) -> Iterator[Sample]:
    now = worker.health().status
    yield from (((status,), float(status == now)) for status in WORKER_STATUSES)


def _connection_states(worker: Worker) -> Iterator[Sample]:
    for connection in worker.services.connections():
        yield from (((connection.role, state), float(state == connection.state.value)) for state in CONNECTION_STATES)


def _ready(worker: Worker) -> Iterator[Sample]:
    return (((each.role,), float(each.is_ready)) for each in worker.services.connections())


def _round_trip_ages(worker: Worker) -> Iterator[Sample]:
    for connection in worker.services.connections():
        if connection.round_trip_age_seconds is not None:
            yield (connection.role,), connection.round_trip_age_seconds


def _generations(worker: Worker) -> Iterator[Sample]:
    return (((each.role,), float(each.generation)) for each in worker.services.connections())


def _info(worker: Worker) -> Iterator[Sample]:
    yield (worker.services.name, ",".join(worker.queues)), 1.0


def _unserved(worker: Worker) -> Iterator[Sample]:
    now_ms = worker.services.now_ms()
    for queue, since_ms in worker.maintenance.unserved_since_ms.items():
        yield (queue,), max(0.0, (now_ms - since_ms) / 1000)


_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

METRICS = (
    # the worker
    Metric("floxide_worker_info", _GAUGE, ("worker", "queues"), "Always 1; says which worker this is.", _info),
    Metric("floxide_worker_status", _GAUGE, ("status",), "1 for the status the worker has, 0 for the others.", _status),
    Metric("floxide_slots", _GAUGE, (), "Steps the worker takes on at a time.",
           _one(lambda worker: worker.services.limits.concurrency)),
    Metric("floxide_steps_in_flight", _GAUGE, (), "Steps at work now.", _one(lambda worker: worker.health().in_flight)),
    Metric("floxide_maintenance_leader", _GAUGE, (), "1 while this worker leads maintenance, else 0.",
           _one(lambda worker: worker.maintenance.is_leader)),
    Metric("floxide_heartbeat_age_seconds", _GAUGE, (), "Since the last heartbeat reached the store.",
           _one(lambda worker: worker.health().heartbeat_age_seconds)),
    Metric("floxide_event_loop_lag_seconds", _GAUGE, (), "How late the event loop is.",
           _one(lambda worker: worker.health().loop_lag_seconds)),
    Metric("floxide_stuck_bodies", _GAUGE, (), "Node bodies that did not end in time and still run.",
           _one(lambda worker: len(worker.health().stuck))),
    Metric("floxide_threads_lost", _GAUGE, (), "Threads held by bodies of sync nodes that nobody waits for any more.",
           _one(lambda worker: worker.health().threads_lost)),
    Metric("floxide_node_processes", _GAUGE, (), 'Processes of nodes with executor="process" that this worker has.',
           _one(lambda worker: len(worker.services.processes))),
    Metric("floxide_node_processes_died_total", _COUNTER, (), "Of these, those that died under a body.",
           _one(lambda worker: worker.services.processes.died)),
    # its work
    Metric("floxide_steps_total", _COUNTER, ("workflow", "node", "outcome"),
           "Steps by what became of them: committed, retried, failed for good, discarded.", _steps),
    Metric("floxide_step_duration_seconds", _HISTOGRAM, ("workflow", "node"), "Time node bodies took.", _durations),
    Metric("floxide_runs_finished_total", _COUNTER, ("status",), "Runs that this worker brought to an end.",
           _by_name(lambda worker: worker.services.figures.runs_finished)),
    Metric("floxide_late_commits_total", _COUNTER, (),
           "Results refused because others had been given their items meanwhile.",
           _one(lambda worker: worker.health().late_commits)),
    Metric("floxide_commit_conflicts_total", _COUNTER, (), "Commits refused because somebody else was faster.",
           _figure(lambda figures: figures.conflicts)),
    Metric("floxide_items_given_back_total", _COUNTER, (), "Items made pending again because their owner was gone.",
           _figure(lambda figures: figures.given_back)),
    Metric("floxide_items_parked_total", _COUNTER, (), "Items that this worker lacked the workflow, node or key for.",
           _figure(lambda figures: figures.parked)),
    Metric("floxide_timers_fired_total", _COUNTER, (), "Due timers dealt with.",
           _figure(lambda figures: figures.timers_fired)),
    Metric("floxide_timers_set_aside_total", _COUNTER, (), "Due timers that could not be fired; they are tried again.",
           _figure(lambda figures: figures.timers_set_aside)),
    Metric("floxide_letters_delivered_total", _COUNTER, (), "Letters from one run to another delivered.",
           _figure(lambda figures: figures.letters_delivered)),
    Metric("floxide_letters_put_off_total", _COUNTER, (), "Letters that could not be delivered; they are tried again.",
           _figure(lambda figures: figures.letters_put_off)),
    Metric("floxide_runs_deleted_total", _COUNTER, (), "Ended runs deleted.",
           _figure(lambda figures: figures.runs_deleted)),
    # messages
    Metric("floxide_deliveries_total", _COUNTER, (), "Messages received from task queues.",
           _figure(lambda figures: figures.deliveries)),
    Metric("floxide_redeliveries_total", _COUNTER, (), "Of these, messages that had been delivered before.",
           _figure(lambda figures: figures.redeliveries)),
    Metric("floxide_deliveries_dismissed_total", _COUNTER, (),
           "Messages that needed no work: old, repeated, of runs that are paused or over.",
           _figure(lambda figures: figures.dismissed)),
    Metric("floxide_delivery_errors_total", _COUNTER, (), "Messages given back because of an error.",
           _one(lambda worker: worker.health().error_count)),
    Metric("floxide_publishes_total", _COUNTER, ("outcome",),
           "Messages published: confirmed, returned, refused, unknown.",
           _by_name(lambda worker: worker.services.figures.publishes)),
    Metric("floxide_messages_republished_total", _COUNTER, (), "Messages sent again because they were lost.",
           _figure(lambda figures: figures.republished)),
    Metric("floxide_dead_letters_total", _COUNTER, ("outcome",),
           "Messages the broker gave up on: published again, kept, settled, quarantined.",
           _by_name(lambda worker: worker.services.figures.dead_letters)),
    Metric("floxide_messages_quarantined_total", _COUNTER, (), "Messages nobody could read.",
           _figure(lambda figures: figures.quarantined)),
    Metric("floxide_messages_left_to_probes_total", _COUNTER, ("shard",),
           "Messages let go because their run's server was down while others were up; probes find them again.",
           _by_name(lambda worker: worker.services.figures.left_to_probes)),
    Metric("floxide_source_items_total", _COUNTER, ("source", "outcome"),
           "Messages and items of sources: started, duplicates, quarantined, rejected.", _source_items),
    Metric("floxide_unserved_task_queue_age_seconds", _GAUGE, ("queue",),
           "Age of the oldest message in a task queue that no living worker serves.", _unserved),
    # the broker
    Metric("floxide_broker_connection_state", _GAUGE, ("role", "state"),
           "1 for the state of the role's connection, 0 for the others.", _connection_states),
    Metric("floxide_broker_connection_ready", _GAUGE, ("role",), "1 if the role can do its work now, else 0.", _ready),
    Metric("floxide_broker_round_trip_age_seconds", _GAUGE, ("role",), "Since the broker last answered.",
           _round_trip_ages),
    Metric("floxide_broker_connections_total", _COUNTER, ("role",), "Connections made; more than 1: it reconnected.",
           _generations),
    # the store
    Metric("floxide_store_age_seconds", _GAUGE, (), "Since the store last answered.",
           _one(lambda worker: worker.health().store_age_seconds)),
    Metric("floxide_store_round_trip_seconds", _HISTOGRAM, ("kind",), "Time the store took: commit, read, scan.",
           _store(lambda figures: figures.round_trips)),
    Metric("floxide_store_group_size", _HISTOGRAM, ("kind",), "Batches or reads that went together.",
           _store(lambda figures: figures.groups)),
    Metric("floxide_store_failures_total", _COUNTER, ("kind",), "Calls that the store could not take.",
           _by_name(lambda worker: worker.services.session.figures.failures)),
)  # fmt: skip
"""All metrics, in the order they are shown."""
