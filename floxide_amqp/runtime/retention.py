"""Deleting runs: those whose time is over, by the leader; and those somebody asks to be deleted."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.instants import at
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import InvalidRunStateError, RunDeletedError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import deliver_letters_of
from floxide_amqp.runtime.runs_set_aside import RunsSetAside
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import ENDS
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.runtime.signal_letters import waits_until_ms
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.removal import EndedRun, NotedRun
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.maintenance")

RUNS_PER_ROUND = 100
"""Runs condemned and runs cleared per round at most, so that a round stays short."""

PAGES_PER_ROUND = 20
"""Pages of one run cleared per round at most; a larger run is gone after several."""

AT_ONCE = 10
"""Runs that are cleared side by side: a page is a large commit, and steps go first."""

MOST_NAMED = 3
"""Letters that an error names which keep a run from being deleted."""

ENTRIES_PER_ROUND = 1_000
"""Entries of ended runs read per round at most, of each end and time that such runs stay."""

LATE_MS = 60_000
"""A run may be noted so much later than it ended: clocks differ, and stores are slow."""

ANEW_AFTER_MS = 600_000
"""How often a round begins anew, with what those before it have passed over."""


class Pruning:
    """The leader's part in retention. Two leaders do no harm: every commit checks what it stands on.

    Attributes:
        has_more: Whether the last round was full, so that the next should come soon.
    """

    def __init__(self, services: Services) -> None:
        self.has_more = False
        self._services = services
        self._aside = RunsSetAside(services)
        self._after: dict[tuple[RunStatus, int], str] = {}
        self._anew_at_ms = 0

    async def prune(self) -> None:
        """Condemn runs whose time is over, go on clearing those condemned, and forget tombstones in time."""
        removal, now = self._services.removal, self._services.now_ms()
        if now >= self._anew_at_ms:
            self._anew_at_ms = now + ANEW_AFTER_MS
            self._after.clear()
        for status in ENDS:
            for kept_ms in self._services.retention.times_ms(status):
                await self._condemn_kept_for(kept_ms, status, now)
        condemned = await removal.condemned(limit=RUNS_PER_ROUND)
        self.has_more = len(condemned) == RUNS_PER_ROUND
        await work_off(self._clear, condemned, at_once=AT_ONCE)
        await work_off(self._forget, await removal.expired(until_ms=now))
        await self._aside.bring_back()

    async def _condemn_kept_for(self, kept_ms: int, status: RunStatus, now_ms: int) -> None:
        """Condemn runs that stay so long and are due, passing over those of workflows whose runs stay longer.

        Where there are such, a round goes on where the one before has stopped, so that it costs what is due and not
        what stays; now and then one begins anew, for what could not be condemned, and what was noted late.
        """
        retention, place = self._services.retention, (status, kept_ms)
        goes_on = bool(retention.per_workflow)
        after, until_ms = self._after.get(place, ""), now_ms - kept_ms
        ended = await self._services.removal.ended(status, until_ms=until_ms, after=after, limit=ENTRIES_PER_ROUND)
        due = [each for each in ended if not each.workflow or retention.keeps_ms(status, each.workflow) == kept_ms]
        due = due[:RUNS_PER_ROUND]
        await work_off(self._condemn, due)
        if goes_on and ended:
            seen = due[-1] if len(due) == RUNS_PER_ROUND else ended[-1]
            self._after[place] = min(seen.entry, keys.timers_until(until_ms - LATE_MS))

    async def _condemn(self, ended: EndedRun) -> None:
        noted = NotedRun(
            index=run_list_keys.ended_runs(ended.status),
            entry=ended.entry,
            run_id=ended.run_id,
            value=ended.workflow.encode(),
        )
        async with self._aside.unless_damaged(noted):
            await self._condemn_one(ended)

    async def _condemn_one(self, ended: EndedRun) -> None:
        services = self._services
        run = await services.runs.find(ended.run_id)
        is_it = run is not None and run.state.status is ended.status and run.state.finished_at_ms == ended.ended_at_ms
        if run is None or not is_it:
            await services.removal.forget_entry(ended)
            return
        kept_ms = services.retention.keeps_ms(ended.status, run.header.workflow)
        if kept_ms is None or ended.ended_at_ms + kept_ms > services.now_ms():
            return  # noted by a release that did not say whose it is
        if await services.letters.has_any(ended.run_id):
            return  # whoever they are for may look at the run: once they are delivered, its time comes again
        if await services.removal.condemn(run, services.now_ms()):
            _note_deletion(services, run)

    async def _clear(self, condemned: tuple[int, RunId]) -> None:
        _, run_id = condemned
        noted = NotedRun(index=keys.CONDEMNED, entry=run_list_keys.timed_run(*condemned), run_id=run_id)
        async with self._aside.unless_damaged(noted):
            tombstone, _ = await self._services.runs.tombstone(run_id)
            if tombstone is None or tombstone.is_cleared:  # by somebody else, while it was set aside here
                await self._services.removal.forget_condemned(*condemned)
            else:
                await clear_some(self._services, run_id, pages=PAGES_PER_ROUND)

    async def _forget(self, expired: tuple[int, RunId]) -> None:
        free_at_ms, run_id = expired
        noted = NotedRun(index=keys.TOMBSTONES, entry=run_list_keys.timed_run(*expired), run_id=run_id)
        async with self._aside.unless_damaged(noted):
            tombstone, version = await self._services.runs.tombstone(run_id)
            if tombstone is None or tombstone.is_cleared:
                await self._services.removal.forget(run_id, free_at_ms, version)


async def clear_some(services: Services, run_id: RunId, *, pages: int) -> bool:
    """Clear some pages of a condemned run; return whether nothing of it is left but its tombstone."""
    for _ in range(pages):
        tombstone, version = await services.runs.tombstone(run_id)
        if tombstone is None or tombstone.is_cleared:
            return True
        free_at_ms = tombstone.deleted_at_ms + services.retention.tombstone_ms
        if await services.removal.clear(tombstone, version, free_at_ms=free_at_ms):
            return True
    return False


async def delete_run(services: Services, run_id: RunId) -> bool:
    """Delete a run that has ended; return when nothing of it is left but its tombstone.

    Returns:
        Whether it was there; of one that was deleted before, what may be left is cleared.

    Raises:
        RunNotFoundError: There is no such run; one that was deleted before is not an error.
        InvalidRunStateError: It has not ended, or what it has to tell other runs cannot be delivered yet.
    """
    was_there = False
    while not was_there:
        try:
            run = await services.runs.load(run_id)
        except RunDeletedError:
            break
        if not run.state.status.is_terminal:
            is_ending = run.state.status is RunStatus.COMPENSATING
            raise InvalidRunStateError(
                run_id=run_id, action="delete", status=run.status.value,
                cure="Wait until what it did is undone." if is_ending
                else "Cancel it first (`floxide cancel`), or wait for its end.",
            )  # fmt: skip
        left = await deliver_letters_of(services, run_id, KINDS)
        if left:
            cure = await _cure_of_untold(services, left)
            raise InvalidRunStateError(run_id=run_id, action="delete", status=run.status.value, cure=cure)
        if await services.removal.condemn(run, services.now_ms(run_id)):
            _note_deletion(services, run)
            was_there = True
    while not await clear_some(services, run_id, pages=PAGES_PER_ROUND):
        pass
    return was_there


async def _cure_of_untold(services: Services, left: Sequence[Letter]) -> str:
    """Return what to do about letters that keep a run from being deleted."""
    for letter in left[:MOST_NAMED]:
        until_ms = await waits_until_ms(services, letter)
        if until_ms is not None:
            until = at(until_ms).isoformat(timespec="seconds")
            named = f"run {letter.to_run}, which is not there"
            return f"It has signalled {named}. It is waited for until {until}: repeat it then."
    told = ", ".join(f"{letter.kind!r} to run {letter.to_run}" for letter in left[:MOST_NAMED])
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    return f"What it has to tell cannot be delivered yet: {told}{more}. Repeat it when all servers are up."


def _note_deletion(services: Services, run: StoredRun) -> None:
    services.figures.runs_deleted += 1
    services.cache.forget(run.header.run_id)
    _log.info("run.deleted", run_id=run.header.run_id, status=run.state.status.value)
