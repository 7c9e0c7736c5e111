"""Hands a worker's metrics to the Prometheus client, from a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from floxide_amqp.apps.health.metrics import METRICS, Metric, MetricKind, Sample
from floxide_amqp.core.distribution import Distribution
from floxide_amqp.runtime.worker import Worker

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class WorkerCollector(Collector):
    """Reads a worker's metrics when it is asked for them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Family]:
        """Return every metric with its values now."""
        for metric in METRICS:
            family = _family(metric)
            for sample in metric.read(self._worker):
                _add(family, sample)
            yield family


def new_registry(worker: Worker) -> CollectorRegistry:
    """Return a registry with a worker's metrics and its process's."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(worker))
    ProcessCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return all metrics as text, and the content type that an ``Accept`` header asks for."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(metric: Metric) -> Family:
    match metric.kind:
        case MetricKind.COUNTER:
            return CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case MetricKind.GAUGE:
            return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case MetricKind.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _add(family: Family, sample: Sample) -> None:
    labels, value = sample
    if isinstance(family, HistogramMetricFamily):
        if isinstance(value, Distribution):
            family.add_metric(labels, buckets=_buckets(value), sum_value=value.total)
    elif not isinstance(value, Distribution):
        family.add_metric(labels, value)


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Return how many values were at most each bound, as Prometheus wants them: each class with those below it."""
    bounds = [*(str(bound) for bound in distribution.bounds), "+Inf"]
    return list(zip(bounds, (float(count) for count in accumulate(distribution.counts)), strict=True))
