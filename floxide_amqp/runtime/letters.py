"""Delivering letters: at once by whoever wrote them, and by the maintenance leader those that are left.

A kind of letter is a class of its own with a `LetterKind.deliver`, listed in `floxide_amqp.runtime.letter_kinds`. What
is common to all is here: a letter is delivered once or more often, it is taken away when its kind says that there is
nothing left to do, and one that cannot be delivered is tried ever more rarely and is in no other letter's way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.letters import Letter
from floxide_amqp.exceptions import FloxideError, NewerFormatError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Entry
from floxide_amqp.runtime.services import Services, leave_letters
from floxide_amqp.runtime.side_by_side import AT_ONCE, side_by_side
from floxide_amqp.runtime.unreadable import quarantine
from floxide_amqp.stores.letters import DueLetter, read_letter
from floxide_amqp.stores.sealed import Place, Unsealed
from floxide_amqp.stores.sealed_places import LETTER
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.letters")

PAGE = 500
"""Letters read at a time."""

PAGES_PER_ROUND = 10
"""Pages that a round of maintenance delivers at most: the lease must be renewed."""

MAX_LOCAL = 10_000
"""Letters kept in memory to be delivered at once; those beyond are left to maintenance."""

SOON_MS = 1_000
"""Before a letter is tried again with which nothing is wrong: somebody else was faster with something."""

FIRST_PAUSE_MS = 1_000
"""Before a letter is tried again that could not be delivered; doubles each time."""

LONGEST_PAUSE_MS = 3600 * 1000
"""Longest pause between two tries: an hour."""

AWAY_PAUSE_MS = 5_000
"""Before a letter is looked at again whose receiver lies on a server that is down."""

PATIENCE_SECONDS = 5.0
"""How long one delivery may take where the receiver lies on another server: that one's trouble must not hold up the
letters to others."""


AGAIN_SECONDS = 0.1
"""Between two tries of whoever waits until a run's letters are delivered."""


class LetterKind(Protocol):
    """One kind of letter.

    Attributes:
        name: What `Letter.kind` says; part of what is stored.
    """

    @property
    def name(self) -> str:
        """The kind's name."""
        ...

    async def deliver(self, services: Services, letter: Letter) -> bool:
        """Do in the receiver's slot what a letter asks for, with one commit that does nothing if it was done before.

        The payload is still sealed: `payload_of` opens it.

        Returns:
            Whether the letter may be taken away: it was applied, now or before, or there is nothing any more that it
            could be applied to. False where somebody else was faster with something and it is to be tried again.

        Raises:
            Exception: It cannot be delivered now; it is tried again, ever more rarely.
        """
        ...


class Postman:
    """Delivers single letters.

    Args:
        services: The process's parts, with the whole store.
        kinds: The kinds of letters there are.
    """

    def __init__(self, services: Services, kinds: Iterable[LetterKind]) -> None:
        self._services = services
        self._kinds = {kind.name: kind for kind in kinds}

    async def deliver(self, letter: Letter, due: DueLetter | None = None) -> bool:
        """Deliver a letter and take it away; return whether that is done.

        Raises:
            NewerFormatError: It is of a kind that this release does not know.
            TimeoutError: Its receiver's server takes too long.
            Exception: Whatever keeps it from being delivered.
        """
        kind = self._kinds.get(letter.kind)
        if kind is None:
            raise NewerFormatError(what="letter", found=f"the kind {letter.kind!r:.40}")
        services = self._services
        is_far = services.session.beside(letter.to_run) is not services.session.beside(letter.from_run)
        async with asyncio.timeout(PATIENCE_SECONDS if is_far else None):
            if not await kind.deliver(services, letter):
                return False
        await services.letters.take_away(letter, due)
        services.figures.letters_delivered += 1
        return True


class LetterQueue:
    """The letters this process has just written, delivered at once, the oldest first.

    Args:
        services: The process's parts.
        kinds: The kinds of letters there are.
    """

    def __init__(self, services: Services, kinds: Iterable[LetterKind]) -> None:
        self._services = services
        self._postman = Postman(services, kinds)
        self._waiting: deque[Letter] = deque()
        self._changed = asyncio.Event()

    def add(self, letters: Sequence[Letter]) -> None:
        """Deliver letters that stand in the store; where there are too many, they are left to maintenance."""
        if len(self._waiting) + len(letters) <= MAX_LOCAL:
            self._waiting.extend(letters)
            self._changed.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._changed.clear()
            while self._waiting:
                page = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                await side_by_side(self._deliver, page)
            await self._changed.wait()

    async def _deliver(self, letter: Letter) -> None:
        if self._services.is_out_of_reach(letter.to_run) or self._services.is_out_of_reach(letter.from_run):
            return  # maintenance waits for the server
        try:
            await self._postman.deliver(letter)
        except Exception as error:  # noqa: BLE001 - whatever a kind of letter may raise, user codecs too, must not
            # end the queue: the letter stays in the store, and maintenance delivers it
            _log.warning(
                "letter.failed", letter_id=letter.letter_id, kind=letter.kind, from_run=letter.from_run,
                to_run=letter.to_run, error=_text(error), exc_info=not isinstance(error, FloxideError | TimeoutError),
            )  # fmt: skip


@asynccontextmanager
async def delivering(services: Services, kinds: Iterable[LetterKind]) -> AsyncGenerator[None]:
    """Deliver what a process writes while the block is open, unless a worker in it does; what is left then stays."""
    if services.on_letters is not leave_letters:
        yield
        return
    queue = LetterQueue(services, kinds)
    services.on_letters = queue.add
    task = asyncio.create_task(queue.run(), name="floxide.client.letters")
    try:
        yield
    finally:
        services.on_letters = leave_letters
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class LeftLetters:
    """The leader's part: letters that those who wrote them have not delivered, of one server.

    Args:
        services: The process's parts, with the part of the store on that server.
        whole: The same with the whole store: the receivers may lie elsewhere.
        kinds: The kinds of letters there are.
    """

    def __init__(self, services: Services, whole: Services, kinds: Iterable[LetterKind]) -> None:
        self._services = services
        self._whole = whole
        self._postman = Postman(whole, kinds)

    async def deliver(self) -> None:
        """Deliver what has been left for some time, a bounded number per round."""
        now, after = self._services.now_ms(), ""
        for _ in range(PAGES_PER_ROUND):
            page = await self._services.letters.due(now, after=after, limit=PAGE)
            await side_by_side(self._deliver, page)
            if len(page) < PAGE:
                return
            after = page[-1][0].entry

    async def _deliver(self, found: tuple[Entry, DueLetter]) -> None:
        entry, due = found
        try:
            await self._try(entry, due)
        except WAITED_FOR as error:
            if self._whole is self._services:
                raise
            await self._put_off_for_server(entry, due, error)
        except TimeoutError as error:
            await self._put_off_for_server(entry, due, error)
        except Exception as error:  # noqa: BLE001 - nor keep other letters back: it is tried again, ever more rarely
            await self._put_off(entry, due, error)

    async def _try(self, entry: Entry, due: DueLetter) -> None:
        store = self._services.letters
        if due.damaged:
            raise NewerFormatError(what="entry of a letter", found=due.reason)
        stored = await store.stored(due.from_run, due.letter_id)
        if stored is None:
            await store.forget(entry)
            return
        try:
            letter = read_letter(due.from_run, stored)
        except UnreadableRecordError as error:
            if error.is_newer:
                raise
            await quarantine(self._services, "", stored.value, f"A letter of run {due.from_run!r}: {error}")
            await store.remove(due.from_run, due.letter_id, entry.entry)
            return
        if self._whole.is_out_of_reach(letter.to_run):
            await self._put_off_for_server(entry, due, None)
        elif not await self._postman.deliver(letter, due):
            again = self._services.now_ms() + SOON_MS
            await store.put_off(entry, due, again, reason=due.reason, failures=due.failures)

    async def _put_off_for_server(self, entry: Entry, due: DueLetter, error: BaseException | None) -> None:
        """Nothing is wrong with a letter whose receiver's server is down: it is looked at again soon."""
        reason = "the receiver's server is out of reach" if error is None else _text(error)
        again = self._services.now_ms() + AWAY_PAUSE_MS
        await self._services.letters.put_off(entry, due, again, reason=reason, failures=due.failures)
        _log.debug("letter.waits_for_server", letter_id=due.letter_id, from_run=due.from_run, reason=reason)

    async def _put_off(self, entry: Entry, due: DueLetter, error: Exception) -> None:
        pause_ms = LONGEST_PAUSE_MS if due.damaged else min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(due.failures, 32))
        again, reason = self._services.now_ms() + pause_ms, _text(error)
        await self._services.letters.put_off(entry, due, again, reason=reason, failures=due.failures + 1)
        self._services.figures.letters_put_off += 1
        _log.warning(
            "letter.put_off", letter_id=due.letter_id, from_run=due.from_run, failures=due.failures + 1,
            retry_in_seconds=pause_ms // 1000, error=reason, exc_info=not isinstance(error, FloxideError),
        )  # fmt: skip


async def deliver_letters_of(services: Services, run_id: RunId, kinds: Iterable[LetterKind]) -> list[Letter]:
    """Deliver what a run has written, and what it writes because of that.

    Somebody else may be at the same letters, or one may have to wait for something: what is left is tried again as long
    as there is progress, and for a short while without.

    Returns:
        What could not be delivered, some of it where it is much; nothing where all is.

    Raises:
        Exception: Whatever keeps one from being delivered; the others are.
    """
    postman, loop = Postman(services, kinds), asyncio.get_running_loop()
    until, before = loop.time() + PATIENCE_SECONDS, set[str]()
    while True:
        after = ""
        with suppress(TimeoutError):  # of a receiver whose server is down
            while page := await services.letters.of_run(run_id, after=after, limit=PAGE):
                await side_by_side(postman.deliver, page)
                after = page[-1].letter_id
        left = await services.letters.of_run(run_id, limit=PAGE)
        if not left or (before == {each.letter_id for each in left} and loop.time() >= until):
            return left
        if before == {each.letter_id for each in left}:
            await asyncio.sleep(AGAIN_SECONDS)
        before = {each.letter_id for each in left}


def payload_of(services: Services, letter: Letter) -> bytes:
    """Return what users carry in a letter, opened.

    Raises:
        MissingKeyError: This process lacks the key; the letter is tried again, perhaps by one that has it.
        UnreadableRecordError: It was changed, or it belongs elsewhere.
    """
    if isinstance(letter.payload, Unsealed):  # written by this process
        return letter.payload
    return services.sealing.open(letter.payload, Place(letter.from_run, LETTER, letter.letter_id))


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"it was not delivered within {PATIENCE_SECONDS:g} s"
    return f"{type(error).__name__}: {error}"
