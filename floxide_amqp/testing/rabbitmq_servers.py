"""The RabbitMQ servers that `floxide_amqp.testing.services` hands out: somebody else's, a private one, a container."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing import container_keeper, guardian
from floxide_amqp.testing.amqp_handshake import can_log_in, free_ports
from floxide_amqp.testing.container_keeper import engine_client

URL_VARIABLE: Final = "FLOXIDE_TEST_AMQP_URL"
"""Names a running broker to use instead of launching one."""

IMAGE: Final = "rabbitmq:4-management"

START_SECONDS: Final = 90.0
"""A cold RabbitMQ takes 5 to 10 s on a small machine; an image that must be pulled, longer."""

STOP_SECONDS: Final = 20.0
"""Longest orderly stop; the server is killed then."""

_POLL_SECONDS: Final = 0.1
_KILL_SECONDS: Final = 2.0
_SERVER_FOLDERS: Final = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")
"""Where packages keep the real scripts; what Debian has on PATH switches to the user rabbitmq first."""


class RabbitMQ(Protocol):
    """A broker that a test may use, and one of its own it may also mistreat. All methods block."""

    @property
    def url(self) -> str:
        """Where to connect, ``amqp://…``; stays the same over restarts."""
        ...

    @property
    def is_mine(self) -> bool:
        """Whether it was launched here, so that it may be stopped, killed, wiped and administered."""
        ...

    def start(self) -> None:
        """Start it and wait until one can log in; does nothing if it runs."""
        ...

    def stop(self) -> None:
        """Stop it in good order; does nothing if it is stopped."""
        ...

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        ...

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        ...

    def wipe(self) -> None:
        """Delete its data; it is killed first, and started again if it ran."""
        ...

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against it and return what that printed."""
        ...

    def close(self) -> None:
        """End it for good and remove what it left."""
        ...


class ExternalRabbitMQ:
    """A broker somebody else runs; it can be used, not mistreated."""

    is_mine = False

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Check that it answers."""
        if not can_log_in(self.url):
            raise ConfigurationError(
                f"No RabbitMQ answers at the URL in {URL_VARIABLE}; start it, or unset the variable."
            )

    def stop(self) -> None:
        """Refuse."""
        self._refuse()

    def kill(self) -> None:
        """Refuse."""
        self._refuse()

    def restart(self) -> None:
        """Refuse."""
        self._refuse()

    def wipe(self) -> None:
        """Refuse."""
        self._refuse()

    def ctl(self, *arguments: str) -> str:
        """Refuse."""
        del arguments
        return self._refuse()

    def close(self) -> None:
        """Leave it as it is."""

    def _refuse(self) -> str:
        raise ConfigurationError(f"The broker named by {URL_VARIABLE} is not ours to stop; unset the variable.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGroup:
    """What the nodes of one cluster have in common; see `floxide_amqp.testing.rabbitmq_cluster`.

    Attributes:
        epmd_port: Where the port mapper listens through which they find each other; it is not started by them.
        cookie: Erlang's shared secret.
    """

    epmd_port: int
    cookie: str


class PrivateRabbitMQ:
    """A server of one's own: own folder, node name, ports and cookie."""

    is_mine = True

    def __init__(
        self,
        *,
        lives_with: int | None = None,
        configuration: str = "",
        advanced: str = "",
        peers: PeerGroup | None = None,
    ) -> None:
        """Prepare its folder; nothing runs yet.

        Args:
            lives_with: The process with which it ends; None for this one.
            configuration: More lines for its ``rabbitmq.conf``; they win over the lines there are. For instance
                ``consumer_timeout = 60000``, ``max_message_size = 100000``, ``disk_free_limit.absolute = 1GB``,
                ``vm_memory_high_watermark.absolute = 1GB``, or ``listeners.ssl.1 = …`` with ``ssl_options.…``.
            advanced: The terms of its ``advanced.config``, for what ``rabbitmq.conf`` cannot say.
            peers: With whom it shall be able to form a cluster; None for nobody.

        Raises:
            ConfigurationError: RabbitMQ is not installed here.
        """
        self._scripts = find_scripts()
        self._lives_with = lives_with
        self._folder = Path(tempfile.mkdtemp(prefix="floxide-rabbitmq-"))
        self._port, self._dist_port, own_epmd_port = free_ports(3)
        self._epmd_port = own_epmd_port if peers is None else peers.epmd_port
        self._has_own_epmd = peers is None
        self.node: Final = f"floxide-{secrets.token_hex(4)}@localhost"
        self._processes: list[subprocess.Popen[bytes]] = []
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16) if peers is None else peers.cookie)
        cookie.chmod(0o400)
        (self._folder / "enabled_plugins").write_text("[].\n")
        self.reconfigure(configuration, advanced=advanced)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    @property
    def pid(self) -> int:
        """The process group of the server, to suspend it, say; 0 while it does not run."""
        return self._processes[-1].pid if self._processes else 0

    def reconfigure(self, configuration: str, *, advanced: str = "") -> None:
        """Give it other settings, as when it was made; they hold from its next start."""
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            "disk_free_limit.absolute = 10MB\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            f"{configuration}\n"
        )
        (self._folder / "advanced.config").write_text(f"[{advanced}].\n")

    def start(self) -> None:
        """Start it and wait until one can log in."""
        if self._processes:
            return
        if self._has_own_epmd:
            self._run("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
        self._run(str(self._scripts / "rabbitmq-server"))
        deadline = time.monotonic() + START_SECONDS
        while not can_log_in(self.url):
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "output.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise ConfigurationError(f"The private RabbitMQ did not start. The end of its log:\n{log}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop it in good order."""
        if self._processes:
            self._processes[-1].terminate()
            with suppress(subprocess.TimeoutExpired):
                self._processes[-1].wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        while self._processes:
            process = self._processes.pop()
            process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Delete its data; started again if it ran."""
        ran = bool(self._processes)
        self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        if ran:
            self.start()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against it."""
        command = [str(self._scripts / "rabbitmqctl"), "--quiet", "--node", self.node, *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def close(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RUNNING_UNDER_SYSTEMD": "true",  # makes the script become the server instead of its parent
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._folder / "generated"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
        }

    def _run(self, *command: str) -> None:
        """Run a command under a guardian, so that it cannot outlive us."""
        tie = [str(self._lives_with or 0), str(self._folder)]
        with (self._folder / "output.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", guardian.__file__, *tie, *command],
                    stdin=subprocess.PIPE if self._lives_with is None else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment(),
                    cwd=self._folder,
                    start_new_session=True,
                )
            )


class ContainerRabbitMQ:
    """A server in a container of the engine that testcontainers finds."""

    is_mine = True

    def __init__(self, image: str = IMAGE, *, lives_with: int | None = None) -> None:
        """Choose its port; nothing runs yet.

        Args:
            image: What to run.
            lives_with: The process with which it ends; None for this one. It also ends if that is killed. (Not left
                to testcontainers, whose containers end with the process that started them, or not at all.)
        """
        self._image = image
        self._lives_with = lives_with
        (self._port,) = free_ports(1)
        self._container: Any = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._is_running = False

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it and wait until one can log in."""
        if self._is_running:
            return
        if self._container is None:
            ports = {"5672/tcp": ("127.0.0.1", self._port)}
            self._container = engine_client().containers.run(self._image, detach=True, ports=ports)
            self._keeper = self._tie(self._container.id)
        else:
            self._container.start()
        self._is_running = True
        deadline = time.monotonic() + START_SECONDS
        while not can_log_in(self.url):
            if time.monotonic() > deadline:
                self.close()
                raise ConfigurationError(f"The container {self._image} did not speak AMQP within {START_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop it in good order."""
        if self._is_running:
            self._container.stop(timeout=int(STOP_SECONDS))
            self._is_running = False

    def kill(self) -> None:
        """End it at once."""
        if self._is_running:
            self._container.kill()
            self._is_running = False

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Throw the container away; a new one at the same port is started if it ran."""
        ran = self._is_running
        self.close()
        if ran:
            self.start()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` inside it."""
        code, output = self._container.exec_run(["rabbitmqctl", "--quiet", *arguments])
        if code != 0:
            raise subprocess.CalledProcessError(code, ["rabbitmqctl", *arguments], output)
        return str(output.decode())

    def close(self) -> None:
        """Remove the container."""
        if self._container is not None:
            self._container.remove(force=True, v=True)
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
        self._container = self._keeper = None
        self._is_running = False

    def _tie(self, container: str) -> subprocess.Popen[bytes]:
        """Start who removes the container if we cannot."""
        return subprocess.Popen(
            [sys.executable, "-m", container_keeper.__name__, str(self._lives_with or 0), container],
            stdin=subprocess.PIPE if self._lives_with is None else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def find_scripts() -> Path:
    """Return the folder of the local server's scripts.

    Raises:
        ConfigurationError: There is no local server; the message has the one command that installs it.
    """
    found = shutil.which("rabbitmq-server", path=os.pathsep.join(_SERVER_FOLDERS)) or shutil.which("rabbitmq-server")
    if found is None or shutil.which("epmd") is None:
        raise ConfigurationError(
            f"There is no RabbitMQ to launch. Run `{_install_command()}`, start a container engine, "
            f"or set {URL_VARIABLE} to the URL of a running broker."
        )
    return Path(found).parent


def _install_command() -> str:
    return "brew install rabbitmq" if sys.platform == "darwin" else "sudo apt-get install rabbitmq-server"
