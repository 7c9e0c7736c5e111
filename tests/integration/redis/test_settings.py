"""What a server's settings and users allow, found out when a store is opened."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.redis import RedisKeyValueStore, examine
from floxide_amqp.exceptions import (
    ConfigurationError,
    StoreAccessRefusedError,
    StoreError,
    StoreSchemaError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import Durability, Put
from floxide_amqp.testing.redis_servers import PrivateRedis, Redis
from tests.integration.redis.support import KEY, batch, opened, put, value

pytestmark = pytest.mark.xdist_group("own_redis")

DEFAULTS: dict[str, Any] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory": 0,
    "maxmemory-policy": "noeviction",
}


@pytest.fixture
def server(own_redis: Redis) -> Iterator[Redis]:
    yield own_redis
    for name, setting in DEFAULTS.items():
        own_redis.command("CONFIG", "SET", name, setting)


@pytest.fixture
def url(server: Redis) -> str:
    return f"{server.url}?prefix=test-{secrets.token_hex(6)}"


async def durability(url: str) -> Durability:
    async with opened(url) as store:
        return store.durability


@pytest.mark.parametrize(
    ("sync", "promised"),
    [
        ("always", Durability.POWER_LOSS),
        ("everysec", Durability.ORDERLY_STOP),
        ("no", Durability.PROCESS_CRASH),
    ],
)
async def test_a_store_promises_what_its_server_syncs(server: Redis, url: str, sync: str, promised: Durability) -> None:
    server.command("CONFIG", "SET", "appendfsync", sync)
    assert await durability(url) is promised


async def test_a_server_without_an_append_only_file_is_refused_unless_the_loss_is_accepted(
    server: Redis, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(ConfigurationError, match=r"(?s)CONFIG SET appendonly yes.*CONFIG SET appendfsync always"):
        await RedisKeyValueStore.open(url)
    assert await durability(f"{url}&durability=none") is Durability.NOTHING
    assert "store.may_lose_commits" in caplog.text


async def test_a_server_that_throws_things_away_is_refused_unless_the_loss_is_accepted(server: Redis, url: str) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert await durability(url) is Durability.ORDERLY_STOP  # without a limit it never does
    server.command("CONFIG", "SET", "maxmemory", 1 << 30)
    with pytest.raises(ConfigurationError, match="maxmemory-policy is allkeys-lru"):
        await RedisKeyValueStore.open(url)
    assert await durability(f"{url}&durability=none") is Durability.NOTHING


RIGHTS = "+@read +@write +@hash +@sortedset +@list +@scripting +info +time +config|get"


@pytest.fixture
def user(server: Redis) -> Iterator[str]:
    """A user's name, who may nothing yet; the password is the name."""
    name = f"user-{secrets.token_hex(4)}"
    yield name
    server.command("ACL", "DELUSER", name)


def as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


async def test_a_user_with_the_documented_rights_can_do_everything(server: Redis, url: str, user: str) -> None:
    server.command("ACL", "SETUSER", user, "on", f">{user}", "~test-*", *RIGHTS.split())
    async with opened(as_user(url, user, user)) as store:
        await put(store, b"x")
        assert await value(store) == b"x"
        assert store.durability is Durability.ORDERLY_STOP


async def test_a_server_that_hides_its_settings_is_used_for_what_it_tells(
    server: Redis, url: str, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("ACL", "SETUSER", user, "on", f">{user}", "~test-*", *RIGHTS.split(), "-config")
    assert await durability(as_user(url, user, user)) is Durability.ORDERLY_STOP
    assert "does not tell its appendfsync" in caplog.text
    server.command("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(ConfigurationError, match="appendonly is off"):
        await RedisKeyValueStore.open(as_user(url, user, user))


@pytest.mark.parametrize("missing", ["-hrandfield", "-unlink", "-evalsha", "-script", "-ltrim"])
async def test_rights_that_do_not_reach_are_found_out_at_once(server: Redis, url: str, user: str, missing: str) -> None:
    server.command("SCRIPT", "FLUSH")
    server.command("ACL", "SETUSER", user, "on", f">{user}", "~test-*", *RIGHTS.split(), missing)
    with pytest.raises(StoreAccessRefusedError, match="rights"):
        await RedisKeyValueStore.open(as_user(url, user, user))


async def test_a_wrong_password_is_named_and_not_shown(server: Redis, url: str) -> None:
    with pytest.raises(StoreAccessRefusedError, match="does not know this user and password") as caught:
        await RedisKeyValueStore.open(as_user(url, "somebody", "s3cret"))
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)


async def test_a_missing_password_is_named() -> None:
    with PrivateRedis() as server:
        server.command("CONFIG", "SET", "requirepass", "s3cret")
        with pytest.raises(StoreAccessRefusedError, match="asks for a password"):
            await RedisKeyValueStore.open(server.url)
        async with opened(as_user(server.url, "", "s3cret")) as store:
            await put(store, b"x")
        assert "s3cret" not in repr(store) + str(vars(store))


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailableError, match="Nothing was applied"):
        await RedisKeyValueStore.open("redis://127.0.0.1:1/0")


async def test_a_store_of_another_release_or_another_kind_is_not_opened(server: Redis, url: str) -> None:
    async with opened(url):
        pass
    prefix = url.rpartition("=")[2]
    server.command("HSET", f"{prefix}{{0}}:head", "format", "99")
    with pytest.raises(StoreSchemaError, match="format 99"):
        await RedisKeyValueStore.open(url)
    server.command("HSET", f"{prefix}{{0}}:head", "format", "1", "tags", "64")
    with pytest.raises(StoreSchemaError, match="a store of 64 parts"):
        await RedisKeyValueStore.open(url)


async def test_keys_of_another_program_under_the_same_names_are_refused_before_the_first_write(
    server: Redis, url: str
) -> None:
    prefix = url.rpartition("=")[2]
    async with opened(url) as store:
        server.command("SET", f"{prefix}{{0}}:r:8:run", "a string")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await store.commit([batch(Put(KEY, b"x")), batch(Put(KEY, b"x"), slot=Slot(8))])
        assert await value(store) == b""


async def test_looking_at_a_server_tells_its_settings_and_what_it_holds_and_makes_nothing(
    server: Redis, url: str
) -> None:
    empty = await examine(url)
    facts = dict(empty.facts)
    assert facts["store"] == url
    assert "appendonly=yes, appendfsync=everysec, maxmemory=0, maxmemory-policy=noeviction" in facts["server"]
    assert facts["holds"] == "nothing yet; opening it makes a store"
    assert facts["commits survive"] == "orderly stop"
    assert (empty.problems, len(empty.warnings)) == ((), 1)
    assert server.command("KEYS", f"{url.rpartition('=')[2]}*") == []
    async with opened(url):
        pass
    assert dict((await examine(url)).facts)["holds"].startswith("a store of format 1, ")


async def test_looking_at_a_server_that_would_forget_names_each_problem(server: Redis, url: str) -> None:
    server.command("CONFIG", "SET", "appendonly", "no")
    found = await examine(url)
    assert len(found.problems) == 1
    assert "CONFIG SET appendonly yes" in found.problems[0]
    assert dict(found.facts)["commits survive"] == "nothing"
