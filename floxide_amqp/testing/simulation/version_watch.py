"""Checks that no worker commits a step of a run whose version it has not, nor what stands in for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Append, Key, Put, Write
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.testing.simulation.exercised import VERSIONS, ExerciseWatch


class VersionWatch:
    """Knows the version of each run, and what each worker has.

    Args:
        violated: Told what must not be, with the run.
        exercised: Counts.
    """

    def __init__(self, violated: Callable[[str], None], exercised: ExerciseWatch) -> None:
        self._violated = violated
        self._exercised = exercised
        self._versions: dict[str, tuple[str, str]] = {}
        self._registries: dict[str, list[Registry]] = {}

    def serves(self, worker: str, registry: Registry) -> None:
        """Note what a worker has; one of a name may follow another."""
        self._registries.setdefault(worker, []).append(registry)

    def start_over(self, cells: Iterable[tuple[Key, bytes, int]]) -> None:
        """Read the headers anew: the store's content has gone back."""
        self._versions.clear()
        for key, value, _ in cells:
            self._header(key, value)

    def batch_applied(self, applied: Iterable[Sequence[Write]]) -> None:
        """Look at what a batch says of runs' versions, and at the steps that it ends."""
        for writes in applied:
            for write in writes:
                match write:
                    case Put(key, value):
                        self._header(key, value)
                    case Append(Key(partition, "h"), entries):
                        for entry in entries:
                            self._ended(partition, entry)
                    case _:
                        pass

    def _header(self, key: Key, value: bytes) -> None:
        if key.name != "header":
            return
        header = codec.decode_header(value)
        before = self._versions.get(key.partition)
        self._versions[key.partition] = header.workflow, header.version
        if before is not None and before[1] != header.version:
            self._exercised.count(VERSIONS, "runs raised")

    def _ended(self, run_id: str, entry: bytes) -> None:
        ended, version = codec.decode_history(entry), self._versions.get(run_id)
        registries = self._registries.get(ended.worker, ())
        if version is None or not registries or ended.status is not WorkItemStatus.COMPLETED:
            return
        if not any(registry.find(*version) is not None for registry in registries):
            self._violated(
                f"worker {ended.worker} committed item {ended.item_id} of run {run_id}, which has version {version[1]}"
            )
        elif not any(registry.has(*version) for registry in registries):
            self._exercised.count(VERSIONS, "steps by a stand-in")
        elif len({version for registry in registries for _, version in registry.graphs}) > 1:
            self._exercised.count(VERSIONS, "steps beside another version")
