"""A RabbitMQ server of one's own, from the programs installed on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.amqp_handshake import can_log_in, free_ports
from floxide_amqp.testing.private_servers import PrivateServer
from floxide_amqp.testing.server_processes import ServerProcess

URL_VARIABLE: Final = "FLOXIDE_TEST_AMQP_URL"
"""Names a running broker to use instead of launching one."""

START_SECONDS: Final = 180.0
"""A cold RabbitMQ takes 5 to 10 s on a small machine; an image that must be pulled, longer."""

STOP_SECONDS: Final = 20.0
"""Longest orderly stop; the server is killed then."""

_NO_BUSY_WAITING: Final = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Erlang's schedulers spin for a while when they have nothing to do, and take that time from whoever is tested."""

_SERVER_FOLDERS: Final = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")
"""Where packages keep the real scripts; what Debian has on PATH switches to the user rabbitmq first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGroup:
    """What the nodes of one cluster have in common; see `floxide_amqp.testing.rabbitmq_cluster`.

    Attributes:
        epmd_port: Where the port mapper listens through which they find each other; it is not started by them.
        cookie: Erlang's shared secret.
    """

    epmd_port: int
    cookie: str


class PrivateRabbitMQ(PrivateServer):
    """A server of one's own: own folder, node name, ports and cookie."""

    product = "RabbitMQ"
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS

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
        super().__init__(lives_with=lives_with)
        self._port, self._dist_port, own_epmd_port = free_ports(3)
        self._epmd_port = own_epmd_port if peers is None else peers.epmd_port
        self._has_own_epmd = peers is None
        self.node: Final = f"floxide-{secrets.token_hex(4)}@localhost"
        self._mapper = ServerProcess(self._folder, lives_with=lives_with)
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16) if peers is None else peers.cookie)
        cookie.chmod(0o400)
        (self._folder / "enabled_plugins").write_text("[].\n")
        self.reconfigure(configuration, advanced=advanced)

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def reconfigure(self, configuration: str, *, advanced: str = "") -> None:
        """Give it other settings, as when it was made; they hold from its next start."""
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            "disk_free_limit.absolute = 10MB\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            f"{configuration}\n"
        )
        (self._folder / "advanced.config").write_text(f"[{advanced}].\n")

    def stop(self) -> None:
        """Stop it in good order; does nothing if it is stopped."""
        super().stop()
        self._mapper.kill()

    def kill(self) -> None:
        """End it at once, with all its processes."""
        super().kill()
        self._mapper.kill()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against it."""
        command = [str(self._scripts / "rabbitmqctl"), "--quiet", "--node", self.node, *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=True, timeout=180)
        return done.stdout

    def _answers(self) -> bool:
        return can_log_in(self.url)

    def _launch(self) -> None:
        if self._has_own_epmd:
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._mapper.start(command, self._environment())
        self._process.start([str(self._scripts / "rabbitmq-server")], self._environment())

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
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._folder / "generated"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _NO_BUSY_WAITING,
            "RABBITMQ_CTL_ERL_ARGS": _NO_BUSY_WAITING,
        }


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
