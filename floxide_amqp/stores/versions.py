"""Descriptions of the versions of workflows: written once by workers that have them, on each server of the store."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.descriptions import Description, decode_description
from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Delete, Enter, IndexRange, Leave, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session

MAX_VERSIONS = 10_000
"""Descriptions that are listed: a deployment has a few."""

COPIED_AT_ONCE: Final = 100
"""Entries read in one round trip while descriptions are copied."""


class VersionStore:
    """Reads and writes descriptions of versions.

    Args:
        session: The store; where it has several servers, any of them may be asked, and each part is written by itself.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def put(self, workflow: str, version: str, description: bytes) -> bool:
        """Keep the description of a version, unless it is there; return whether another one was there before."""
        key = keys.version(workflow, version)
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
        if cell.version and cell.value == description:
            return False
        writes = (Put(key, description), Enter(keys.VERSIONS, keys.version_entry(workflow, version)))
        await self._session.commit(Batch(slot=SYSTEM_SLOT, writes=writes))
        return bool(cell.version)

    async def find(self, workflow: str, version: str) -> Description | None:
        """Return the description of a version; None where there is none that can be read.

        Each server has it from the first worker that had the version, so one that is away is asked last.
        """
        key = keys.version(workflow, version)
        for part in sorted(self._session.parts, key=lambda part: part.failing_seconds()):
            cell = (await part.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
            if cell.version:
                try:
                    return decode_description(cell.value)
                except CodecError:
                    continue
        return None

    async def all(self) -> list[tuple[str, str]]:
        """Return workflow and version of each description, sorted."""
        found: set[tuple[str, str]] = set()
        for part in self._session.parts:
            entries = await part.scan(IndexRange(keys.VERSIONS, limit=MAX_VERSIONS))
            found |= {keys.version_of(entry.entry) for entry in entries}
        return sorted(found)

    async def remove(self, workflow: str, version: str) -> None:
        """Forget a description."""
        leave = Leave(keys.VERSIONS, keys.version_entry(workflow, version))
        for part in self._session.parts:
            await part.commit(Batch(slot=SYSTEM_SLOT, writes=(Delete(keys.version(workflow, version)), leave)))


async def copy_versions(source: Session, target: Session) -> None:
    """Copy descriptions from one server to another: one that this has already stays as it is."""
    after = ""
    while entries := await source.scan(IndexRange(keys.VERSIONS, after, limit=COPIED_AT_ONCE)):
        for entry in entries:
            key = keys.version(*keys.version_of(entry.entry))
            cell = (await source.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
            if cell.version:
                writes = (Put(key, cell.value), Enter(keys.VERSIONS, entry.entry))
                batch = Batch(slot=SYSTEM_SLOT, checks=(Check(key, ABSENT),), writes=writes)
                await target.commit(batch)  # a conflict tells that it is there
        after = entries[-1].entry
