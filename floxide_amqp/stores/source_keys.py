"""Where sources lie: each in a partition of its own, which has its place among the slots as a run has."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId
from floxide_amqp.stores.keys import arrivals

SOURCES = "sources"

SOURCE_PREFIX = " source:"
"""What the partitions of sources begin with."""


def source_partition(name: str) -> RunId:
    """The partition of a source's records, which has its place among the slots as a run has."""
    return RunId(f"{SOURCE_PREFIX}{name}")


def source_of(partition: str) -> str | None:
    """The name of the source whose partition this is; None where it is none."""
    return partition.removeprefix(SOURCE_PREFIX) if partition.startswith(SOURCE_PREFIX) else None


def open_runs_of_source(name: str) -> str:
    """The index of a source's runs that were not over when it last looked."""
    return arrivals(source_partition(name), "open")
