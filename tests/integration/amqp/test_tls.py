from __future__ import annotations

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
from tests.integration.amqp.support import message

pytestmark = [
    pytest.mark.xdist_group("tls_rabbitmq"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate"),
]

IMPATIENT = AmqpSettings(open_deadline=1.5, allow_unverified_tls=True)


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
def port(certificate: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    configuration = f"""
        listeners.ssl.1 = 127.0.0.1:{port}
        ssl_options.cacertfile = {certificate}
        ssl_options.certfile = {certificate}
        ssl_options.keyfile = {certificate.with_name("key.pem")}
    """
    try:
        with PrivateRabbitMQ(configuration=configuration):
            yield port
    except ConfigurationError as error:
        pytest.skip(f"needs a RabbitMQ of its own: {error}")


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
    async with AmqpWorkQueue(url, namespace=namespace, settings=IMPATIENT) as work_queue:
        assert await work_queue.publish([message(b"1")]) == [PublishOutcome.RETURNED]
