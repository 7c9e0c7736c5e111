"""How the driver connects: TLS, few connections, and numbers that arrive exactly."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_amqp.drivers.redis import RedisKeyValueStore
from floxide_amqp.drivers.redis.links import MOST_CONNECTIONS
from floxide_amqp.exceptions import InvalidBatchError, StoreUnavailableError
from floxide_amqp.ports.key_value import Add, Committed, Enter, IndexRange, Key, Put, Read, When
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.redis_servers import PrivateRedis, Redis
from tests.integration.redis.support import KEY, SLOT, batch, opened, put, value

pytestmark = pytest.mark.xdist_group("own_redis")

LEAST, MOST = -(1 << 63), (1 << 63) - 1


async def test_any_number_of_calls_share_a_few_connections(own_redis: Redis) -> None:
    async with opened(f"{own_redis.url}?prefix=test-{secrets.token_hex(6)}") as store:
        await put(store, b"x")
        before = int(own_redis.command("INFO", "stats")["total_connections_received"])
        await asyncio.gather(*(put(store, b"%d" % n) for n in range(50)), *(value(store) for _ in range(50)))
        now = int(own_redis.command("INFO", "stats")["total_connections_received"])
        assert now - before <= MOST_CONNECTIONS  # one there was, and the command that asked


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *name, *files], check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def tls_port(certificate: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    lines = (
        f"tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {certificate.with_name('key.pem')}\n"
        f"tls-ca-cert-file {certificate}\ntls-auth-clients no\n"
    )
    with PrivateRedis(configuration=lines):
        yield port


async def test_a_certificate_is_checked_against_the_authority_of_the_url(certificate: Path, tls_port: int) -> None:
    async with opened(f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificate}") as store:
        await put(store, b"x")
        assert await value(store) == b"x"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_nobody_vouches_for_or_of_another_name_is_refused(
    certificate: Path, tls_port: int, host: str
) -> None:
    authority = f"?ssl_ca_certs={certificate}" if host == "127.0.0.1" else ""
    with pytest.raises(StoreUnavailableError, match=r"(?i)certificate"):
        await RedisKeyValueStore.open(f"rediss://{host}:{tls_port}/0{authority}")


numbers = st.one_of(
    st.integers(LEAST, MOST),
    st.integers(-5, 5),
    st.sampled_from([2**53, 2**52, 2**32, 2**31, 2**62]).flatmap(
        lambda limit: st.integers(-3, 3).flatmap(lambda near: st.sampled_from([limit + near, -limit + near]))
    ),
    st.sampled_from([LEAST, LEAST + 1, MOST - 1, MOST]),
)


def test_sums_are_exact_over_64_bits(redis_url: str) -> None:
    """Lua computes in doubles; the script must not show it."""
    with asyncio.Runner() as runner:
        store = runner.run(RedisKeyValueStore.open(redis_url))

        @settings(max_examples=150, deadline=None)
        @given(st.lists(numbers, min_size=1, max_size=6), st.booleans())
        def check(amounts: list[int], in_one_group: bool) -> None:
            counter = Key("sums", secrets.token_hex(6))
            total, fits = 0, True
            for amount in amounts:
                total += amount
                fits = fits and LEAST <= total <= MOST
            batches = [batch(Add(counter, amount)) for amount in amounts]
            then = batch(When(counter, total, (Put(counter, b"equal"),), (Put(counter, b"not equal"),)))
            if in_one_group and not fits:
                with pytest.raises(InvalidBatchError, match="leaves 64 bits"):
                    runner.run(store.commit([*batches, then]))
                return
            if not fits:
                return
            outcomes = (
                runner.run(store.commit([*batches, then])).outcomes
                if in_one_group
                else [runner.run(store.commit([one])).outcomes[0] for one in (*batches, then)]
            )
            sums = [sum(amounts[: n + 1]) for n in range(len(amounts))]
            assert list(outcomes) == [Committed(counters={counter: one}) for one in [*sums, sums[-1]]]
            (found,) = runner.run(store.read([Read(slot=SLOT, cells=(counter,), counters=(counter,))])).snapshots
            assert (found.cells[0].value, found.counters) == (b"equal", (total,))

        try:
            check()
        finally:
            runner.run(store.aclose())


@pytest.mark.parametrize(
    "faulty",
    [
        Put(Key("run-1", "\ud800"), b""),
        Put(Key("\udfff", "a"), b""),
        Enter("i", "\udfff"),
        Enter("\ud800", "e"),
        Put(KEY, object()),  # type: ignore[arg-type]
        Put(KEY, None),  # type: ignore[arg-type]
        Enter("i", "e", "text"),  # type: ignore[arg-type]
        Add(KEY, 1 << 63),
    ],
    ids=["name", "partition", "entry", "index", "no bytes", "none", "text", "overflow"],
)
async def test_a_group_no_store_can_hold_is_refused_whole(redis_url: str, faulty: Put | Enter | Add) -> None:
    async with opened(redis_url) as store:
        with pytest.raises(InvalidBatchError, match="Nothing of the group was applied"):
            await store.commit([batch(Put(KEY, b"x")), batch(faulty)])
        assert await value(store) == b""
        with pytest.raises(InvalidBatchError):
            await store.scan(IndexRange("i", after="\ud800"))
        with pytest.raises(InvalidBatchError):
            await store.read([Read(slot=SLOT, cells=(Key("\ud800", ""),))])
