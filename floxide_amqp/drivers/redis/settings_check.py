"""Whether a server keeps what it reports: read from its settings when a store is opened.

A Redis may be set up as a cache, and is so by default: nothing is written to disk, and what does not fit is thrown
away. A store on such a server is refused, with the lines that change it, unless its URL accepts the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis import exceptions as redis_errors

from floxide_amqp.drivers.redis.address import Address
from floxide_amqp.drivers.redis.errors import code_of, store_error
from floxide_amqp.drivers.redis.servers import Servers
from floxide_amqp.exceptions import ConfigurationError, StoreError, StoreReadOnlyError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Durability

_log = get_logger("floxide_amqp.store")

LEAST_RELEASE: Final = (6, 2)
"""Redis 6.2 is the first with all commands used (HRANDFIELD)."""

_COMMANDS: Final = (
    ("CONFIG", "GET", "append*"),
    ("CONFIG", "GET", "maxmemory*"),
    ("INFO", "server"),
    ("INFO", "replication"),
    ("INFO", "persistence"),
    ("INFO", "memory"),
)

_FROM_THE_LEAST: Final = (
    Durability.NOTHING,
    Durability.ORDERLY_STOP,
    Durability.PROCESS_CRASH,
    Durability.POWER_LOSS,
)


class Facts(NamedTuple):
    """What a server says of itself; None of what it does not tell."""

    name: str
    release: str
    is_cluster: bool
    is_replica: bool
    appends: bool
    sync: str | None
    limit: int
    policy: str
    replicas: int


async def durability_of(servers: Servers, address: Address) -> Durability:
    """Return what the servers' settings promise, the least of them.

    Raises:
        ConfigurationError: A server would lose or throw away what it reported, and the URL does not accept that.
        StoreError: A server is too old, is a replica, or cannot be asked.
    """
    promises = [promise_of(node, facts, address) for node, facts in await facts_of(servers, address)]
    return least_of(promises)


async def facts_of(servers: Servers, address: Address) -> list[tuple[str, Facts]]:
    """Return what each server says of itself, by its name.

    Raises:
        StoreError: One of them cannot be asked.
    """
    return [(node, _facts(replies, store=address.shown)) for node, replies in await servers.every(*_COMMANDS)]


def least_of(promises: Sequence[Durability]) -> Durability:
    """Return what all of them promise."""
    return next((least for least in _FROM_THE_LEAST if least in promises), Durability.ORDERLY_STOP)


def promise_of(node: str, facts: Facts, address: Address) -> Durability:
    """Return what one server promises, and log what it may lose.

    Raises:
        ConfigurationError: It would lose or throw away what it reported, and the URL does not accept that.
        StoreError: It is too old, or a replica.
    """
    _check_server(node, facts, address)
    if address.accepts_loss:
        _log.warning("store.may_lose_commits", store=address.shown, node=node, loses="everything, when the server ends")
        return Durability.NOTHING
    if not facts.appends:
        raise ConfigurationError(
            f"The Redis server {node} of the store {address.shown} writes nothing to disk as it goes (appendonly is "
            "off), so it would forget runs. Set these two, in redis.conf too:\n"
            "  CONFIG SET appendonly yes\n  CONFIG SET appendfsync always\n"
            "(everysec is faster and may lose the last second), or accept the loss with ?durability=none in the URL."
        )
    if facts.limit and facts.policy != "noeviction":
        raise ConfigurationError(
            f"The Redis server {node} of the store {address.shown} throws away what does not fit (maxmemory-policy is "
            f"{facts.policy}), so it would forget runs. Set this, in redis.conf too:\n"
            "  CONFIG SET maxmemory-policy noeviction\n"
            "or accept the loss with ?durability=none in the URL."
        )
    if facts.sync == "always":
        return Durability.POWER_LOSS
    if facts.sync == "everysec":  # what most choose, and know
        loses = "up to 2 s of commits at a crash or a power loss, and what a replica lacked at a failover"
        _log.info("store.may_lose_commits", store=address.shown, node=node, loses=loses)
        return Durability.ORDERLY_STOP  # while the disk still syncs, what was reported may be in the process only
    loses = "half a minute of commits" if facts.sync == "no" else "the last seconds: it does not tell its appendfsync"
    _log.warning("store.may_lose_commits", store=address.shown, node=node, loses=f"perhaps {loses}")
    return Durability.PROCESS_CRASH if facts.sync == "no" else Durability.ORDERLY_STOP


def _check_server(node: str, facts: Facts, address: Address) -> None:
    release = tuple(int(part) for part in facts.release.split(".")[:2] if part.isdigit())
    if release < LEAST_RELEASE:
        raise StoreError(
            f"The Redis server {node} of the store {address.shown} is {facts.release or 'of an unknown release'}; "
            "floxide_amqp needs Redis 6.2 or later, or Valkey.",
            store=address.shown,
        )
    if facts.is_cluster and not address.is_cluster:
        raise ConfigurationError(
            f"The Redis server {node} is a node of a Redis Cluster: begin the store's URL with redis+cluster:// "
            "instead."
        )
    if facts.is_replica:
        raise StoreReadOnlyError(store=address.shown, reason=f"{node} is a replica; name its master in the URL")


def _facts(replies: list[Any], *, store: str) -> Facts:
    appending, memory, *infos = replies
    info: dict[str, str] = {}
    for reply in infos:
        if isinstance(reply, redis_errors.RedisError):
            raise store_error(reply, store=store) from reply
        info.update(_info(reply))
    settings = {**_settings(appending, store=store), **_settings(memory, store=store)}
    return Facts(
        name=f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version')}",
        release=info.get("redis_version", ""),
        is_cluster=info.get("redis_mode") == "cluster",
        is_replica=info.get("role") == "slave",
        appends=settings.get("appendonly", "yes" if info.get("aof_enabled") == "1" else "no") == "yes",
        sync=settings.get("appendfsync"),
        limit=int(settings.get("maxmemory") or info.get("maxmemory") or 0),
        policy=settings.get("maxmemory-policy") or info.get("maxmemory_policy") or "noeviction",
        replicas=int(info.get("connected_slaves") or 0),
    )


def _settings(reply: Any, *, store: str) -> Mapping[str, str]:
    """Return what CONFIG GET says; nothing where a managed server or the user's rights forbid it."""
    if isinstance(reply, redis_errors.RedisError):
        if code_of(reply) in {"NOPERM", ""}:
            return {}
        raise store_error(reply, store=store) from reply
    texts = [part.decode(errors="replace") for part in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _info(reply: bytes) -> Iterable[tuple[str, str]]:
    for line in reply.decode(errors="replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value
