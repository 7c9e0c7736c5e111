"""What an admission reads: the run, the item and what the run's context has come to, as one snapshot."""

from __future__ import annotations

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import slot_of
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.records import RunHeader, RunState
from floxide_amqp.exceptions import CodecError, MissingKeyError, NewerFormatError, StoreError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import IndexRange, Key, LogPage, LogRange, Read
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.items import StoredItem, item_cells, stored_item
from floxide_amqp.stores.mailbox import Unread
from floxide_amqp.stores.runs import read_header
from floxide_amqp.stores.sealed import Layer

_log = get_logger("floxide_amqp.admission")

TAIL = 1_000
"""Deltas read along with an admission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a message leads to.

    Attributes:
        run: The run as this process keeps it; None where it does not know the workflow.
        epoch: The version of `state`.
        stored: The item; None where the run has none of this id.
        broken: Why the context cannot be put together, which sets every item of the run aside.
        lacked: The layer of the context that nobody here has the key of.
        unread: The run's mailbox, where the node may hold; None where it was not read.
    """

    run: CachedRun | None
    header: RunHeader
    state: RunState
    epoch: int
    stored: StoredItem | None
    broken: CodecError | None
    lacked: Layer | None
    unread: Unread | None = None


class AdmissionReads:
    """Reads what admissions are decided on.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def read(self, envelope: Envelope) -> Found | None:
        """Return run, item and the context's tail, or None where there is no such run; the tail goes to the cache.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        services, run_id = self._services, envelope.run_id
        cached = services.cache.find(run_id)
        cells: list[Key] = [keys.state(run_id), *item_cells(run_id, envelope.item_id)]
        if cached is None:
            cells.append(keys.header(run_id))
        logs: tuple[LogRange, ...] = ()
        if cached is not None and cached.has_context and cached.is_loaded:
            logs = (LogRange(keys.context_log(run_id), cached.position, TAIL),)
        indexes: tuple[IndexRange, ...] = ()
        if self._may_hold(envelope):
            mailbox, mail = services.mailbox.asked(run_id)
            cells.append(mailbox)
            indexes = (mail,)
        snapshot = await services.session.read(
            Read(slot=slot_of(run_id), cells=tuple(cells), logs=logs, indexes=indexes)
        )
        state = snapshot.cells[0]
        if state.version == 0:
            _log.warning("run.unknown", run_id=run_id, item_id=envelope.item_id)
            services.cache.forget(run_id)
            return None
        read_state = read_record(codec.decode_state, state.value, keys.state(run_id))
        if cached is not None and read_state.version and read_state.version != cached.header.version:
            services.cache.forget(run_id)  # it was raised to another version meanwhile
            return await self.read(envelope)
        if cached is not None:
            header = cached.header
        else:
            header = read_header(run_id, snapshot.cells[3].value)
            cached = self._remember(header, is_raised=bool(read_state.version))
        broken: CodecError | None = None
        lacked: Layer | None = None
        if cached is not None and cached.has_context:
            try:
                broken = await bring_up(services, cached, snapshot.logs[0] if logs else None)
            except MissingKeyError as error:
                lacked = Layer(error.codec, error.key_id, b"")
        return Found(
            run=cached, header=header, epoch=state.version,
            state=read_state,
            stored=stored_item(cells[1], snapshot.cells[1], snapshot.cells[2], services.sealing),
            broken=broken, lacked=lacked,
            unread=services.mailbox.told(run_id, snapshot.cells[-1].version, snapshot.indexes[0]) if indexes else None,
        )  # fmt: skip

    def _may_hold(self, envelope: Envelope) -> bool:
        graph = self._services.registry.find(envelope.workflow, envelope.version)
        node = None if graph is None else graph.nodes.get(envelope.node)
        return node is not None and node.node.may_hold

    def _remember(self, header: RunHeader, *, is_raised: bool) -> CachedRun | None:
        graph = self._services.registry.find(header.workflow, header.version)
        if graph is None:
            return None
        return self._services.cache.add(CachedRun(header, graph, self._services.sealing, is_raised=is_raised))


async def bring_up(services: Services, run: CachedRun, tail: LogPage | None = None) -> CodecError | None:
    """Bring a run's context up to date; return why it cannot be put together, which sets its items aside.

    Args:
        services: The process's parts.
        run: The run.
        tail: What its log has from where it stands, if that was read.

    Raises:
        MissingKeyError: This process lacks a key or a codec for some of it.
        UnreadableRecordError: What the store has of it is damaged, or a newer release wrote it.
        StoreError: It cannot be read now.
    """
    try:
        if tail is None or not run.absorb(tail):
            await run.refresh(services.contexts)
    except UnreadableRecordError:
        services.cache.forget(run.header.run_id)  # it may be its header; once repaired it is read again
        raise
    except StoreError:
        raise
    except NewerFormatError as error:
        place = "/".join(keys.context_log(run.header.run_id))
        raise UnreadableRecordError(place=place, problem=str(error), is_newer=True) from error
    except Exception as error:  # noqa: BLE001 - the user's types decode and the user's reducers merge here
        broken = CodecError(
            f"The context of run {run.header.run_id!r} cannot be put together: {type(error).__name__}: {error} "
            "Deploy code that reads it, or give a context whose fields or reducers changed a new workflow version; "
            "then requeue its items."
        )
        broken.__cause__ = error
        return broken
    return None
