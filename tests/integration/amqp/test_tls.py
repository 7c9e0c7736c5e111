from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerUnavailableError, ConfigurationError
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.services import PrivateRabbitMQ
from tests.integration.amqp.support import SWIFT, confirmed, message, until

pytestmark = [
    pytest.mark.xdist_group("tls_rabbitmq"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate"),
]

IMPATIENT = AmqpSettings(open_deadline=2.5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *name, *files], check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def broker(certificate: Path) -> Iterator[tuple[PrivateRabbitMQ, int]]:
    (port,) = free_ports(1)
    configuration = f"""
        listeners.ssl.1 = 127.0.0.1:{port}
        ssl_options.cacertfile = {certificate}
        ssl_options.certfile = {certificate}
        ssl_options.keyfile = {certificate.with_name("key.pem")}
    """
    try:
        with PrivateRabbitMQ(configuration=configuration) as broker:
            yield broker, port
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ of its own: {error}")


@pytest.fixture
def port(broker: tuple[PrivateRabbitMQ, int]) -> int:
    return broker[1]


def run(arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def make_expired(certificate: Path) -> bytes:
    """Return one that this one has signed, and that was good for one day, long ago."""
    folder = certificate.parent
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("02\n")
    (folder / "ca.conf").write_text(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {folder}/index.txt\nserial = {folder}/serial\n"
        f"new_certs_dir = {folder}\ndefault_md = sha256\npolicy = any\nx509_extensions = names\n"
        "[any]\ncommonName = supplied\n[names]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n"
    )
    run("req -new -key key.pem -subj /CN=broker -out request.pem", folder)
    run(
        f"ca -batch -config ca.conf -cert {certificate.name} -keyfile key.pem -in request.pem -notext "
        "-startdate 20200101000000Z -enddate 20200102000000Z -out expired.pem",
        folder,
    )
    return (folder / "expired.pem").read_bytes()


async def test_a_verified_connection_works(port: int, certificate: Path, namespace: str) -> None:
    url = f"amqps://guest:guest@localhost:{port}/?cafile={certificate}"
    async with (
        AmqpWorkQueue(url, namespace=namespace) as work_queue,
        AmqpControlBus(url, namespace=namespace) as bus,
        bus.listen("w") as listener,
        work_queue.consume(["a"], prefetch=1) as consumer,
    ):
        assert await work_queue.publish([message(b"1")]) == [PublishOutcome.CONFIRMED]
        assert (await consumer.receive()).body == b"1"
        await bus.broadcast(b"2")
        assert await anext(listener) == b"2"


async def test_a_certificate_of_an_unknown_authority_is_refused(port: int, namespace: str) -> None:
    url = f"amqps://guest:guest@localhost:{port}/"
    with pytest.raises(BrokerUnavailableError, match="certificate verify failed"):
        await AmqpWorkQueue(url, namespace=namespace, settings=IMPATIENT).__aenter__()


async def test_a_certificate_for_another_host_is_refused(port: int, certificate: Path, namespace: str) -> None:
    url = f"amqps://guest:guest@127.0.0.1:{port}/?cafile={certificate}"
    with pytest.raises(BrokerUnavailableError, match="certificate verify failed"):
        await AmqpWorkQueue(url, namespace=namespace, settings=IMPATIENT).__aenter__()


async def test_verification_is_off_only_where_that_was_allowed(port: int, namespace: str) -> None:
    url = f"amqps://guest:guest@127.0.0.1:{port}/?no_verify_ssl=1"
    settings = AmqpSettings(allow_unverified_tls=True)
    async with AmqpWorkQueue(url, namespace=namespace, settings=settings) as work_queue:
        assert await work_queue.publish([message(b"1")]) == [PublishOutcome.CONFIRMED]


@pytest.mark.fault(55)
async def test_an_expired_certificate_is_told_loudly_without_a_storm_and_heals_with_a_new_one(
    broker: tuple[PrivateRabbitMQ, int], certificate: Path, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, port = broker
    good, trusted = certificate.read_bytes(), certificate.with_name("trusted.pem")  # noqa: ASYNC240 - a small file
    expired = make_expired(certificate)
    trusted.write_bytes(good)
    url = f"amqps://guest:guest@localhost:{port}/?cafile={trusted}"
    async with AmqpWorkQueue(url, namespace=namespace, settings=SWIFT) as work_queue:
        replace_certificate(server, certificate, expired)
        try:
            server.ctl("close_all_connections", "expired")
            await until(lambda: "certificate has expired" in work_queue.health()[0].problem)
            assert not work_queue.health()[0].is_ready
            await asyncio.sleep(1.5)
            assert 1 <= caplog.text.count("broker.connect_failed") <= 3  # a line per problem, not per attempt
        finally:
            replace_certificate(server, certificate, good)
        await until(lambda: work_queue.health()[0].is_ready)
        await confirmed(work_queue, message(b"1"))


def replace_certificate(server: PrivateRabbitMQ, certificate: Path, content: bytes) -> None:
    """Give the broker another certificate, and have it read that now; by itself it would some minutes later."""
    certificate.write_bytes(content)
    server.ctl("eval", "ssl:clear_pem_cache().")
