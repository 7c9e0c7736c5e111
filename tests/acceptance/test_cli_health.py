"""`floxide worker --http` as a user meets it: a process that is asked, drained, and started twice on one port."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from floxide_amqp.testing.amqp_handshake import free_ports
from tests.acceptance.test_cli import ROOT, Floxide, floxide, stored

__all__ = ["floxide", "stored"]


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and body; 0 where nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def test_a_worker_is_asked_drains_and_ends_well(stored: Floxide, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    worker = stored.begin("worker", "shop:app", "--log-format", "json", FLOXIDE_HTTP=str(port))
    await worker.until(lambda: ask(port, "/readyz")[0] == 200)
    assert worker.has_logged("health.listening")()
    assert json.loads(ask(port, "/livez")[1])["status"] == "alive"
    assert 'floxide_worker_status{status="running"} 1.0' in ask(port, "/metrics")[1]
    stored.process("start", "shop:app", "Waiting", "-i", json.dumps(str(tmp_path)), "--run-id", "w1")
    await worker.until((tmp_path / "began").exists)
    worker.process.send_signal(signal.SIGTERM)
    await worker.until(lambda: ask(port, "/readyz")[0] == 503)
    assert json.loads(ask(port, "/readyz")[1])["problems"] == ["worker: It is draining."]
    assert ask(port, "/livez")[0] == 200
    (tmp_path / "go").touch()
    assert (await worker.end()).code == 0
    assert ask(port, "/livez")[0] == 0


def test_a_port_in_use_is_one_paragraph_and_exit_3(stored: Floxide) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = stored("worker", "shop:app", "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (done.code, done.out) == (3, "")
    assert "floxide: The health endpoints cannot listen on 127.0.0.1:" in done.words
    assert "address already in use" in done.words


def test_what_is_no_address_is_one_paragraph_and_exit_3(stored: Floxide) -> None:
    done = stored("worker", "shop:app", "--http", "everywhere")
    assert done.code == 3
    assert "'everywhere' is no address to listen on. Write HOST:PORT" in done.words


def test_who_does_not_ask_for_the_endpoints_loads_nothing_of_them() -> None:
    program = "import floxide_amqp.apps.cli.main, sys; print({'aiohttp', 'prometheus_client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
