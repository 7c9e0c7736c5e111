"""Calls of scripts on one server, in one round trip where nothing is new, each performed at most once.

A call is repeated only where its reply says that it was not performed: the server does not know the script, or the tag
was told of another server last. What was sent and got no reply is the caller's to settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from redis import exceptions as redis_errors

from floxide_amqp.drivers.redis.errors import code_of, store_error
from floxide_amqp.drivers.redis.links import Command, Node, Peer, ReplyLostError
from floxide_amqp.drivers.redis.lives import Lives
from floxide_amqp.drivers.redis.scripts import LIVE, Script
from floxide_amqp.exceptions import StoreError, StoreUnavailableError

Reply: TypeAlias = Any
"""What the script returned; a `StoreError` where it did nothing, a `ReplyLostError` where that is unknown."""

ROUNDS: Final = 4
"""Tries where a server's life changes while it is asked."""

_READS_APART: Final = 7
"""Since this release a script can be called so that it may only read, and nothing that stops writes stops it."""

_ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN"})


class Call(NamedTuple):
    """One call of a script.

    Attributes:
        tag: The name of the tag it is for.
        head: The key of the tag's head.
        arguments: What the script gets beyond incarnation and life.
    """

    tag: bytes
    head: str
    arguments: tuple[bytes | str | int, ...]


class ElsewhereError(Exception):
    """A call was not performed, for another node has the tag.

    Attributes:
        error: What to raise where nobody is found who has it.
        asks: The node to ask this once, if the answer named one.
    """

    def __init__(self, error: StoreError, asks: tuple[str, int] | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.asks = asks


class _NewLifeError(Exception):
    """The server that answers is not the one that was last asked for these tags."""


async def call_on(
    node: Node, script: Script, calls: Sequence[Call], lives: Lives | None, *, store: str, asking: bool = False
) -> list[Reply]:
    """Return the replies to calls of a script on one server; raises nothing but when cancelled.

    Args:
        node: The server.
        script: What to run.
        calls: For which tags, with which arguments.
        lives: What was seen of the store; None before it was opened, and the script then gets the arguments alone.
        store: What errors call the store.
        asking: Whether the node is just being given the tags.
    """
    replies: list[Reply] = [None] * len(calls)
    waiting = list(range(len(calls)))
    for _ in range(ROUNDS):
        try:
            found = await _perform(node, script, [calls[n] for n in waiting], lives, asking=asking)
        except _NewLifeError:
            found = None
        except (StoreError, ReplyLostError) as error:
            found = [error] * len(waiting)
        again: list[int] = waiting if found is None else []
        for number, reply in zip(waiting, found or (), strict=False):
            replies[number] = judged(reply, calls[number], lives, store=store)
            if replies[number] is None:
                again.append(number)
        if not again:
            return replies
        waiting = await _introduce(node, calls, again, lives, replies, store=store, asking=asking)
        if not waiting:
            return replies
    for number in waiting:
        replies[number] = StoreUnavailableError(store=store, reason=f"{node.name} keeps changing who it is")
    return replies


async def _send(
    node: Node, script: Script, calls: Sequence[Call], lives: Lives | None, *, asking: bool, load: bool = False
) -> list[Any]:
    """Return the replies as they come.

    Raises:
        _NewLifeError: The server must be introduced to the tags first; nothing was sent.
        StoreError: It cannot be reached; nothing was sent.
        ReplyLostError: What became of the calls is unknown.
    """
    before: list[Command] = [("SCRIPT", "LOAD", script.source)] if load else []

    def commands(peer: Peer) -> list[Command]:
        if lives is not None and script is not LIVE and not all(lives.knows(call.tag, peer.life) for call in calls):
            raise _NewLifeError
        return before + [part for call in calls for part in _commands(script, call, lives, peer, asking=asking)]

    replies = await node.exchange(commands)
    if load and isinstance(replies[0], redis_errors.RedisError):
        return [replies[0]] * len(calls)
    return replies[len(before) + int(asking) :: 1 + int(asking)]


async def _perform(
    node: Node, script: Script, calls: Sequence[Call], lives: Lives | None, *, asking: bool
) -> list[Any]:
    """Do the same; a second round trip brings the replies to a script that the server had not seen."""
    replies = await _send(node, script, calls, lives, asking=asking)
    unknown = [n for n, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)]
    if unknown:
        again: list[Any]
        try:
            again = await _send(node, script, [calls[n] for n in unknown], lives, asking=asking, load=True)
        except _NewLifeError:
            again = [[b"LIFE"]] * len(unknown)
        except (StoreError, ReplyLostError) as error:  # of these; the others have their replies
            again = [error] * len(unknown)
        for number, reply in zip(unknown, again, strict=True):
            replies[number] = reply
    return replies


def _commands(script: Script, call: Call, lives: Lives | None, peer: Peer, *, asking: bool) -> list[Command]:
    name = "EVALSHA_RO" if script.is_reading and peer.major >= _READS_APART else "EVALSHA"
    known = () if lives is None else (lives.incarnation, peer.life)
    command = (name, script.digest, 1, call.head, *known, *call.arguments)
    return [("ASKING",), command] if asking else [command]


async def _introduce(
    node: Node,
    calls: Sequence[Call],
    numbers: list[int],
    lives: Lives | None,
    replies: list[Reply],
    *,
    store: str,
    asking: bool,
) -> list[int]:
    """Note a server's life in tags; returns which calls may be sent now, the others have their error."""
    if lives is None:
        return []
    last = [Call(calls[n].tag, calls[n].head, lives.last(calls[n].tag)) for n in numbers]
    try:
        found = await _perform(node, LIVE, last, lives, asking=asking)
    except StoreError as error:
        found = [error] * len(numbers)
    except ReplyLostError as error:  # it may have noted its life, and the calls themselves were not sent
        found = [StoreUnavailableError(store=store, reason=str(error))] * len(numbers)
    ready: list[int] = []
    for number, said in zip(numbers, found, strict=True):
        reply = judged(said, calls[number], lives, store=store)
        if isinstance(reply, Exception):
            replies[number] = reply
        else:
            _, _, sequence, life = reply
            lives.saw(calls[number].tag, int(sequence), life)
            ready.append(number)
    return ready


def judged(reply: Any, call: Call, lives: Lives | None, *, store: str) -> Reply:
    """Return what a reply means: the reply, an error, or None where the server must be introduced to the tag."""
    if isinstance(reply, redis_errors.RedisError):
        error, code = store_error(reply, store=store), code_of(reply)
        if code not in _ELSEWHERE:
            return error
        named: Any = reply if code == "ASK" else None
        asks = None if named is None else (str(named.host), int(named.port))
        return ElsewhereError(error, asks)
    if lives is None or isinstance(reply, StoreError | ReplyLostError):
        return reply
    if is_said(reply, b"LIFE"):
        return None
    lost = lives.verdict(call.tag, reply)
    if lost is None and not is_said(reply, b"OVERFLOW"):
        lives.saw(call.tag, int(reply[2]))
    return reply if lost is None else lost


def is_said(reply: Reply, word: bytes) -> bool:
    """Tell whether a script did nothing and says why in this word."""
    return not isinstance(reply, Exception) and bool(reply[0] == word)
