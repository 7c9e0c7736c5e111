"""A PostgreSQL server of one's own, from the programs installed on this machine."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.postgresql_statements import can_log_in, new_database
from floxide_amqp.testing.private_servers import PrivateServer

URL_VARIABLE: Final = "FLOXIDE_TEST_POSTGRESQL_URL"
"""Names a running server to use instead of launching one; its user must be allowed to make databases."""

USER: Final = "floxide"
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 20.0
"""Longest orderly stop; the server is killed then."""

_FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
"""Where packages keep the server's programs; Debian has none of them on PATH."""

_CONFIGURATION: Final = """\
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
max_wal_size = 256MB
logging_collector = off
"""


class PrivatePostgreSQL(PrivateServer):
    """A server of one's own: own folder, port, data and password.

    Args:
        lives_with: The process with which it ends; None for this one.
        configuration: More lines for its ``postgresql.conf``; they win over the lines there are.
        data: Where it keeps its data, to give it a disk of its own; by default a folder that goes with it.

    Raises:
        ConfigurationError: PostgreSQL is not installed here, or there is no user but root to run it.
    """

    product = "PostgreSQL"
    start_seconds = START_SECONDS
    stop_seconds = STOP_SECONDS

    def __init__(self, *, lives_with: int | None = None, configuration: str = "", data: Path | None = None) -> None:
        self._programs = find_programs()
        self._account = _account()
        super().__init__(lives_with=lives_with)
        self._data = data or self._folder / "data"
        self._password = secrets.token_hex(12)
        (self._port,) = free_ports(1)
        self._configuration = configuration
        self.own(self._folder)

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    @property
    def folder(self) -> Path:
        """Where its log is, and its data unless it was given another folder for that."""
        return self._folder

    @property
    def data(self) -> Path:
        """The folder of its data, with its log of writes."""
        return self._data

    def reconfigure(self, configuration: str) -> None:
        """Give it other settings, as when it was made; they hold from its next start."""
        self._configuration = configuration

    def own(self, path: Path) -> None:
        """Let the account that the server runs as own a file or folder."""
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def stop(self) -> None:
        """Stop it in good order (the server's fast shutdown)."""
        if self._process.is_started:
            self.resume()
            with suppress(subprocess.CalledProcessError):
                self._run("pg_ctl", "stop", "--mode=fast", "--pgdata", str(self._data), "--silent")
        super().stop()

    def new_database(self) -> str:
        """Make an empty database."""
        return new_database(self.url)

    def _answers(self) -> bool:
        return can_log_in(self.url)

    def _launch(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._make_data()
        lines = f"{_CONFIGURATION}port = {self._port}\nunix_socket_directories = '{self._folder}'\n"
        (self._data / "floxide.conf").write_text(f"{lines}{self._configuration}\n")
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        self._process.start([*self._as_account(), *command], self._environment())

    def _make_data(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        self.own(password)
        self._data.mkdir(mode=0o700, exist_ok=True)
        self.own(self._data)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", USER, "--pwfile", str(password),
            "--auth-host", "password", "--auth-local", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        password.unlink()
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("include = 'floxide.conf'\n")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_account(), str(self._programs / program), *arguments]
        done = subprocess.run(
            command, env=self._environment(), cwd=self._folder, capture_output=True, text=True, check=False, timeout=180
        )
        if done.returncode != 0 and program == "initdb":
            raise ConfigurationError(f"The private PostgreSQL could not be made: {done.stderr.strip()[-1000:]}")
        done.check_returncode()

    def _as_account(self) -> list[str]:
        """Return what goes before a command that root may not run."""
        if self._account is None:
            return []
        return ["setpriv", f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def find_programs() -> Path:
    """Return the folder of the local server's programs, those of the newest version there is.

    Raises:
        ConfigurationError: There is no local server; the message has the one command that installs it.
    """
    folders = [folder for pattern in _FOLDERS for folder in Path("/").glob(pattern[1:]) if (folder / "initdb").exists()]
    if folders:
        return max(folders, key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))])
    found = shutil.which("initdb")
    if found is None or not Path(found).resolve().with_name("postgres").exists():
        command = "brew install postgresql" if sys.platform == "darwin" else "sudo apt-get install postgresql"
        raise ConfigurationError(
            f"There is no PostgreSQL to launch. Run `{command}`, start a container engine, "
            f"or set {URL_VARIABLE} to the URL of a running server."
        )
    return Path(found).resolve().parent


def _account() -> pwd.struct_passwd | None:
    """Return the account to run the server as; None for one's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigurationError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it.")
