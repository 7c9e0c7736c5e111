"""Letters between a run and its children: one is started, has ended, is to be cancelled, paused, or to go on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from floxide_amqp.core.child_moves import child_ended, close_children, tell_to_follow
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import ChildRecord, OnClose
from floxide_amqp.core.kin_letters import CANCEL, CLOSE, ENDED, FOLLOW, FOLLOW_ALL, OF_BRANCH, START, ends_children
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import (
    CodecError,
    InvalidRunStateError,
    RunDeletedError,
    RunNotFoundError,
    RunOutputError,
    UnreadableRecordError,
)
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime import starting
from floxide_amqp.runtime.children import start_letter_id, unpack_start
from floxide_amqp.runtime.control_actions import cancel_run, pause_run
from floxide_amqp.runtime.letters import payload_of
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.results import outputs_of
from floxide_amqp.runtime.resuming import resume_run
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import child_keys
from floxide_amqp.stores.runs import StoredRun

PAGE: Final = 100
"""Children looked at in one round trip."""

MAX_TRIES: Final = 20
"""Conflicts in a row before a letter is left for later: somebody else is at the same records all the time."""


class StartChild:
    """Starts the run. It exists already, or did, where that was done before."""

    name: str = START

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Store the child and send its first message.

        Raises:
            UnreadableRecordError: What it says of the child cannot be decoded.
        """
        try:
            request = unpack_start(payload_of(services, letter))
        except CodecError as error:
            raise UnreadableRecordError(place=f"letter {letter.letter_id}", problem=str(error)) from error
        header = request.header
        try:
            first = await starting.store(services, request)
        except RunDeletedError:
            return True
        await self._follow(services, letter)
        if first is not None:
            services.news.tell_started(header.workflow, header.version, (header.run_id,))
            await publish(services, header, (first,), position=0)
        return True

    async def _follow(self, services: Services, letter: Letter) -> None:
        """Pause a child whose parent was paused before it was there to be told."""
        parent = await services.runs.find(letter.from_run)
        if parent is None or parent.state.status is not RunStatus.PAUSED:
            return
        child, _ = await services.children.find(letter.from_run, letter.to_run)
        if child is not None and child.on_close is OnClose.CANCEL:
            await follow(services, letter.to_run, letter.from_run)


class ChildEnded:
    """Tells the parent. What it knows of the child says whether that was done before."""

    name: str = ENDED

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Note beside the parent's item how its child has ended, and make the item pending if it waits for that."""
        for _ in range(MAX_TRIES):
            child = await services.runs.find(letter.from_run)
            if child is None or not child.state.status.is_terminal or child.header.parent is None:
                return True  # it goes on: when it ends again, there will be another letter
            settled = await self._try(services, child, letter.to_run)
            if settled:
                return True
        return False

    async def _try(self, services: Services, child: StoredRun, parent: RunId) -> bool:
        link = child.header.parent
        known, version = await services.children.find(parent, child.header.run_id)
        at_ms = child.state.finished_at_ms or child.state.updated_at_ms
        if link is None or known is None or known.ended_at_ms >= at_ms:
            return True
        run, stored = await services.runs.find_with_item(parent, link.item_id)
        if run is None:
            return True
        ended = await self._ended(services, child, known, at_ms)
        waiting = None if stored is None else (stored.item, stored.turn)
        decision = child_ended(
            ended, known, version, waiting, run.state, run.epoch, now_ms=services.now_ms(parent),
            publisher=services.name,
        )  # fmt: skip
        if isinstance(await services.commit(run.writer, decision), Conflict):
            return False
        await publish(services, run.header, decision.effects.publish)
        return True

    async def _ended(self, services: Services, child: StoredRun, known: ChildRecord, at_ms: int) -> ChildRecord:
        state = child.state
        ended = replace(
            known, status=state.status, ended_at_ms=at_ms, reason=state.reason, output=b"", error=None, failed_node=""
        )
        if state.status is RunStatus.COMPLETED:
            payloads, header = await outputs_of(services, child.header.run_id, child.state), child.header
            if len(payloads) == 1:
                return replace(ended, output=payloads[0])
            error = RunOutputError(run_id=header.run_id, workflow=header.workflow, outputs=len(payloads))
            return replace(ended, error=replace(describe_error(error), traceback=""))
        if state.failure is not None:
            return replace(ended, error=state.failure.error, failed_node=state.failure.node)
        return ended


class CloseChildren:
    """A letter of a run that has ended to itself: each of its children that is not abandoned gets one of its own.

    It comes too late for a run that somebody lets go on again: its children go on with it.
    """

    name: str = CLOSE

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Write a letter to each child that was started until the run ended, and goes on; page by page."""
        run_id, after = letter.from_run, ""
        before = child_keys.children_until(int(letter.body))
        while True:
            page, following = await services.children.page(run_id, after=after, before=before, limit=PAGE)
            live = [(child, version) for child, version in page if _is_to_be_closed(child)]
            run = await services.runs.find(run_id)
            if run is None or not ends_children(run.state):
                return True
            decision = close_children(run_id, run.epoch, live, services.now_ms(run_id))
            if live and isinstance(await services.commit(run.writer, decision), Conflict):
                continue  # one of them has ended meanwhile, or the run has changed
            if not following:
                return True
            after = following


class CancelChild:
    """Cancels a child whose parent has ended, or has cancelled the item that called it.

    It is over where that was done before.
    """

    name: str = CANCEL

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Cancel the child; what starts it comes first, so that it is not started afterwards."""
        await ensure_started(services, letter)
        what = "closed the fan-out it was called in" if letter.body == OF_BRANCH else "has ended"
        try:
            await cancel_run(services, letter.to_run, reason=f"its parent run {letter.from_run} {what}")
        except RunNotFoundError:
            return True
        return True


class ChildrenFollow:
    """A letter of a run that is paused, or goes on, to itself: each child that ends with it gets one of its own."""

    name: str = FOLLOW_ALL

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Write a letter to each child that goes on, page by page; a second time that changes nothing."""
        run_id, after = letter.from_run, ""
        while True:
            page, following = await services.children.page(run_id, after=after, limit=PAGE)
            run = await services.runs.find(run_id)
            if run is None:
                return True
            live = [child for child, _ in page if _is_to_be_closed(child)]
            if live:
                await services.commit(run.writer, tell_to_follow(run_id, live, letter))
            if not following:
                return True
            after = following


class ChildFollows:
    """Pauses a child, or lets it go on: whatever its parent does by now."""

    name: str = FOLLOW

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Look at the parent and make the child follow it."""
        return await follow(services, letter.to_run, letter.from_run)


async def follow(services: Services, child_id: RunId, parent_id: RunId) -> bool:
    """Pause a child whose parent is paused; let it go on if it was paused so, and the parent is not.

    It is looked again afterwards: of two letters that are delivered at once none may have the last word about what
    was before.

    Returns:
        Whether the child does as its parent; False where the parent changes all the time.
    """
    mark = f"its parent run {parent_id} is paused"
    for _ in range(MAX_TRIES):
        parent, child = await services.runs.find(parent_id), await services.runs.find(child_id)
        if parent is None or child is None or parent.state.status.is_terminal or child.state.status.is_terminal:
            return True
        is_paused, status = parent.state.status is RunStatus.PAUSED, child.state.status
        with suppress(InvalidRunStateError, RunNotFoundError):
            if is_paused and status is not RunStatus.PAUSED:
                await pause_run(services, child_id, reason=mark)
            elif not is_paused and status is RunStatus.PAUSED and child.state.reason == mark:
                await resume_run(services, child_id)
            parent = await services.runs.find(parent_id)
        if parent is None or (parent.state.status is RunStatus.PAUSED) == is_paused:
            return True
    return False


async def ensure_started(services: Services, letter: Letter) -> bool:
    """Deliver what starts the receiver of a letter, if the same sender has called it; return whether there was that.

    Letters have no order among themselves. This one must come after the one that starts the run.
    """
    start = await services.letters.find(letter.from_run, start_letter_id(letter.from_run, letter.to_run))
    return start is not None and await StartChild().deliver(services, start)


def _is_to_be_closed(child: ChildRecord) -> bool:
    return child.status is None and child.on_close is OnClose.CANCEL and not child.is_closing
