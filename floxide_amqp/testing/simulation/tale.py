"""The story of one simulation as a person follows it: one line per thing that happened, in words.

What is told to the last message and commit is the story itself, which goes into the hash; this is what it comes to.
"""

from __future__ import annotations

from collections.abc import Callable

from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus

ABOUT_TO = "{who} is about to "

WORDS = {
    "starts": "{who} starts",
    "goes on": "{who} goes on",
    "given up by the broker": "the broker gives up on {who}: what it holds goes to others",
    "calm": "from here on nothing goes wrong",
    "pause": "{0} is paused",
    "cancel": "{0} is cancelled",
    "conflicting start": "{who} is started once more with another input, and refused",
    "run pruned": "{who} is deleted, its time is over",
    "run pruned beside others": "{who} is deleted, its time is over",
    "crash": "{who} crashes",
    "crash at commit": ABOUT_TO + "commit",
    "crash at committed": "{who} has just committed",
    "crash at read": ABOUT_TO + "read from the store",
    "crash at scan": ABOUT_TO + "look through the store",
    "crash at publish": ABOUT_TO + "publish",
    "crash at published": "{who} has just published",
    "crash at ack": ABOUT_TO + "acknowledge a message",
    "crash at release": ABOUT_TO + "give a message back",
    "crash at broadcast": ABOUT_TO + "tell the other workers",
    "crash at announce": ABOUT_TO + "tell whoever waits",
    "crash in body": "{who} does not live to see the end of this",
    "graceful stop": "{who} is asked to stop",
    "freeze": "{who} stands still for {0:g} s",
    "zombie": "{who} stands still for {0:g} s, so that others take it for dead",
    "hung loop": "{who}'s event loop hangs",
    "namesake": "another process starts under the name of {who}",
    "name refused": "{who} ends: another process has its name",
    "name lost": "{who} ends: another process has taken its name over",
    "worker's clock jumped": "{who}'s clock jumps by an hour",
    "store's clock jumped": "the store's clock jumps by an hour",
    "server away": "{who} is away, while the other servers are there",
    "store out of reach": "{who} does not reach the store",
    "store refused": "the store refuses a call of {who}",
    "slow store": "the store keeps {who} waiting",
    "full disk": "the store has no space for a commit of {who}",
    "lost reply": "{who} does not hear what became of a commit",
    "lost tail": "the store crashes, and has lost its last {0} writes; every process is killed",
    "cut from the store": "{who} is cut from the store",
    "cut from the broker": "{who} is cut from the broker",
    "broker restart": "the broker restarts",
    "broker wiped": "the broker comes back with nothing: {0} messages are lost",
    "purge": "queue {0} is emptied: {1} messages are lost",
    "disconnect": "connections to the broker break: {who}",
    "publisher waits": "{who} waits with a publish",
    "unroutable": "no queue takes a message of {who}",
    "returned": "no queue takes a message of {who}",
    "refused": "the broker refuses a message of {who}",
    "dropped": "a message of {who} is lost",
    "duplicated": "a message of {who} comes more than once",
    "delayed": "a message of {who} is late",
    "reordered": "a message overtakes others",
    "lost confirm": "{who} does not hear what became of a message",
    "given up": "the broker gives a message up",
    "came back too often": "the broker gives a message up that came back too often",
    "garbage": "somebody publishes what is no message",
}
"""What is told, by the words of the story. Of the rest (planned faults, hints, each message) nothing is."""


class Tale:
    """What happened, in words.

    Args:
        time: Tells the virtual time, in seconds, times that were skipped included.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._told: list[tuple[float, str, int]] = []

    def say(self, text: str) -> None:
        """Tell one thing; the same one again is counted, not told."""
        if self._told and self._told[-1][1] == text:
            at, _, times = self._told[-1]
            self._told[-1] = (at, text, times + 1)
        else:
            self._told.append((self._time(), text, 1))

    def hear(self, who: str, what: str, facts: tuple[object, ...]) -> None:
        """Tell what was noted in the story, if there are words for it."""
        words = WORDS.get(what)
        if words is not None:
            self.say(words.format(*facts, who=who))

    def run_became(self, run_id: str, status: RunStatus) -> None:
        """Tell that a run has another status."""
        if status is not RunStatus.PENDING:
            self.say(f"{run_id} is {status.value.lower()}")

    def item_became(self, run_id: str, old: WorkItem | None, new: WorkItem, now_ms: int) -> None:
        """Tell how a step of a run ended, or what it waits for."""
        if old is not None and new.status is old.status:
            return
        who, wait = f"{new.node} of {run_id}", duration(max(0, new.due_ms - now_ms) / 1000)
        match new.status:
            case WorkItemStatus.COMPLETED:
                self.say(f"{who} is committed")
            case WorkItemStatus.FAILED:
                self.say(f"{who} has failed for good")
            case WorkItemStatus.WAITING_RETRY:
                self.say(f"{who} is tried again in {wait}")
            case WorkItemStatus.HELD:
                self.say(f"{who} waits for {wait}" if new.due_ms else f"{who} waits for others")
            case WorkItemStatus.PENDING if old is not None and old.status is WorkItemStatus.IN_PROGRESS:
                self.say(f"{who} is given back")
            case _:
                return

    def lines(self) -> list[str]:
        """Return what was told, a line each, with the time."""
        return [
            f"{_clock(at):>14}  {text}" + (f" ({times} times)" if times > 1 else "") for at, text, times in self._told
        ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:06.3f}" if hours or minutes else f"{rest:.3f} s"


def duration(seconds: float) -> str:
    """Return a time in the unit that a person would choose."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
