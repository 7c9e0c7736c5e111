"""Descriptions of the versions of workflows: written once by workers that have them, on each server of the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from floxide_amqp.core.descriptions import Description, decode_description
from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Conflict, Delete, Enter, IndexRange, Leave, Put, Read
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
        """Keep the description of a version; return whether another one was there before.

        It is written also where it is there: who is about to forget it sees that it is needed.
        """
        key = keys.version(workflow, version)
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
        writes = (Put(key, description), Enter(keys.VERSIONS, keys.version_entry(workflow, version)))
        await self._session.commit(Batch(slot=SYSTEM_SLOT, writes=writes))
        return bool(cell.version) and cell.value != description

    async def offer(self, workflow: str, version: str, description: bytes) -> None:
        """Keep a description where there is none; write the one that is there once more, as `put` does."""
        key = keys.version(workflow, version)
        while True:
            cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
            kept = cell.value if cell.version else description
            writes = (Put(key, kept), Enter(keys.VERSIONS, keys.version_entry(workflow, version)))
            batch = Batch(slot=SYSTEM_SLOT, checks=(Check(key, cell.version),), writes=writes)
            if not isinstance(await self._session.commit(batch), Conflict):
                return

    async def find(self, workflow: str, version: str) -> Description | None:
        """Return the description of a version; None where there is none that can be read.

        Each server has it from the first worker that had the version, so one that is away is asked last.
        """
        async for value in self._stored(workflow, version):
            with suppress(CodecError):
                return decode_description(value)
        return None

    async def read(self, workflow: str, version: str) -> bytes | None:
        """Return the description of a version as it is stored; None where there is none."""
        async for value in self._stored(workflow, version):
            return value
        return None

    async def _stored(self, workflow: str, version: str) -> AsyncGenerator[bytes]:
        key = keys.version(workflow, version)
        for part in sorted(self._session.parts, key=lambda part: part.failing_seconds()):
            cell = (await part.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0]
            if cell.version:
                yield cell.value

    async def stamps(self) -> dict[tuple[str, str], int]:
        """Return, by workflow and version, what changes whenever a description is written, on a single server."""
        found: dict[tuple[str, str], int] = {}
        for workflow, version in await self.all():
            key = keys.version(workflow, version)
            found[workflow, version] = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(key,)))).cells[0].version
        return found

    async def all(self) -> list[tuple[str, str]]:
        """Return workflow and version of each description, sorted."""
        found: set[tuple[str, str]] = set()
        for part in self._session.parts:
            entries = await part.scan(IndexRange(keys.VERSIONS, limit=MAX_VERSIONS))
            found |= {keys.version_of(entry.entry) for entry in entries}
        return sorted(found)

    async def remove(self, workflow: str, version: str, *, stamp: int) -> bool:
        """Forget a description, unless it was written since it had that stamp; return whether it is forgotten."""
        key, leave = keys.version(workflow, version), Leave(keys.VERSIONS, keys.version_entry(workflow, version))
        batch = Batch(slot=SYSTEM_SLOT, checks=(Check(key, stamp),), writes=(Delete(key), leave))
        return not isinstance(await self._session.commit(batch), Conflict)


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
