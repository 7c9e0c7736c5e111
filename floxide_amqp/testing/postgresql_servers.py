"""The PostgreSQL servers that `floxide_amqp.testing.services` hands out: somebody else's, a private one, a container."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote, urlsplit

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.amqp_handshake import free_ports
from floxide_amqp.testing.server_processes import ServerContainer, ServerProcess, wait_until_ready

URL_VARIABLE: Final = "FLOXIDE_TEST_POSTGRESQL_URL"
"""Names a running server to use instead of launching one; its user must be allowed to make databases."""

IMAGE: Final = "postgres:17"

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_USER: Final = "floxide"
_FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
"""Where packages keep the server's programs; Debian has none of them on PATH."""

_CONFIGURATION: Final = """\
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
max_wal_size = 256MB
logging_collector = off
"""

T = TypeVar("T")


class PostgreSQL(Protocol):
    """A server that a test may use, and one of its own it may also mistreat. All methods block."""

    @property
    def url(self) -> str:
        """Where to connect, ``postgresql://…``; stays the same over restarts."""
        ...

    @property
    def is_mine(self) -> bool:
        """Whether it was launched here, so that it may be stopped, killed, wiped and paused."""
        ...

    def start(self) -> None:
        """Start it and wait until one can log in; does nothing if it runs."""
        ...

    def stop(self) -> None:
        """Stop it in good order, without waiting for its clients; does nothing if it is stopped."""
        ...

    def kill(self) -> None:
        """End it at once, with all its processes, as a power cut would."""
        ...

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        ...

    def wipe(self) -> None:
        """Delete its data; it is killed first, and started again if it ran."""
        ...

    def pause(self) -> None:
        """Let all its processes stand still: connections stay, nothing answers."""
        ...

    def resume(self) -> None:
        """Let them go on."""
        ...

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        ...

    def close(self) -> None:
        """End it for good and remove what it left."""
        ...


class ExternalPostgreSQL:
    """A server somebody else runs; it can be used, not mistreated."""

    is_mine = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[str] = []

    def start(self) -> None:
        """Check that it answers."""
        if not can_log_in(self.url):
            raise ConfigurationError(
                f"No PostgreSQL answers at the URL in {URL_VARIABLE}; start it, or unset the variable."
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

    def pause(self) -> None:
        """Refuse."""
        self._refuse()

    def resume(self) -> None:
        """Refuse."""
        self._refuse()

    def new_database(self) -> str:
        """Make an empty database; `close` drops it."""
        url = new_database(self.url)
        self._made.append(url)
        return url

    def close(self) -> None:
        """Drop the databases made here, and leave everything else as it is."""
        for url in self._made:
            execute(self.url, f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}"')
        self._made.clear()

    def _refuse(self) -> None:
        raise ConfigurationError(f"The server named by {URL_VARIABLE} is not ours to stop; unset the variable.")


class PrivatePostgreSQL:
    """A server of one's own: own folder, port, data and password.

    Args:
        lives_with: The process with which it ends; None for this one.
        configuration: More lines for its ``postgresql.conf``; they win over the lines there are.

    Raises:
        ConfigurationError: PostgreSQL is not installed here, or there is no user but root to run it.
    """

    is_mine = True

    def __init__(self, *, lives_with: int | None = None, configuration: str = "") -> None:
        self._programs = find_programs()
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="floxide-postgresql-"))
        self._password = secrets.token_hex(12)
        (self._port,) = free_ports(1)
        self._configuration = configuration
        self._process = ServerProcess(self._folder, lives_with=lives_with)
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)

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
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    @property
    def folder(self) -> Path:
        """Where its data and its log are."""
        return self._folder

    def reconfigure(self, configuration: str) -> None:
        """Give it other settings, as when it was made; they hold from its next start."""
        self._configuration = configuration

    def start(self) -> None:
        """Start it and wait until one can log in."""
        if self._process.is_started:
            return
        if not (self._folder / "data" / "PG_VERSION").exists():
            self._make_data()
        lines = f"{_CONFIGURATION}port = {self._port}\nunix_socket_directories = '{self._folder}'\n"
        (self._folder / "data" / "floxide.conf").write_text(f"{lines}{self._configuration}\n")
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        self._process.start([*self._as_account(), *command], self._environment())
        try:
            wait_until_ready(
                lambda: can_log_in(self.url),
                lambda: self._process.has_ended,
                seconds=START_SECONDS,
                what="The private PostgreSQL",
            )
        except ConfigurationError as error:
            log = self._process.log_end()
            self.kill()
            raise ConfigurationError(f"{error} The end of its log:\n{log}") from None

    def stop(self) -> None:
        """Stop it in good order (the server's fast shutdown)."""
        if self._process.is_started:
            self.resume()
            with suppress(subprocess.CalledProcessError):
                self._run("pg_ctl", "stop", "--mode=fast", "--pgdata", str(self._folder / "data"), "--silent")
        self._process.stop(STOP_SECONDS)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Delete its data; started again if it ran."""
        ran = self._process.is_started
        self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        if ran:
            self.start()

    def pause(self) -> None:
        """Let all its processes stand still."""
        self._process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        self._process.go_on()

    def new_database(self) -> str:
        """Make an empty database."""
        return new_database(self.url)

    def close(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_data(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        if self._account is not None:
            os.chown(password, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", "--pgdata", str(self._folder / "data"), "--username", _USER, "--pwfile", str(password),
            "--auth-host", "password", "--auth-local", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        password.unlink()
        with (self._folder / "data" / "postgresql.conf").open("a") as file:
            file.write("include = 'floxide.conf'\n")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_account(), str(self._programs / program), *arguments]
        done = subprocess.run(
            command, env=self._environment(), cwd=self._folder, capture_output=True, text=True, check=False, timeout=60
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


class ContainerPostgreSQL:
    """A server in a container of the engine that testcontainers finds.

    Args:
        image: What to run.
        lives_with: The process with which it ends; None for this one.
    """

    is_mine = True

    def __init__(self, image: str = IMAGE, *, lives_with: int | None = None) -> None:
        self._image = image
        self._password = secrets.token_hex(12)
        (self._port,) = free_ports(1)
        self._container = ServerContainer(
            image,
            ports={"5432/tcp": self._port},
            environment={"POSTGRES_USER": _USER, "POSTGRES_PASSWORD": self._password, "POSTGRES_DB": "postgres"},
            command=["postgres", "-c", "max_connections=200"],
            lives_with=lives_with,
        )

    @property
    def url(self) -> str:
        """Where to connect; stays the same over restarts."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it and wait until one can log in."""
        if self._container.is_started:
            return
        self._container.start()
        try:
            what = f"The container {self._image}"
            wait_until_ready(lambda: can_log_in(self.url), lambda: False, seconds=START_SECONDS, what=what)
        except ConfigurationError:
            self.close()
            raise

    def stop(self) -> None:
        """Stop it in good order."""
        self._container.stop(STOP_SECONDS)

    def kill(self) -> None:
        """End it at once."""
        self._container.kill()

    def restart(self) -> None:
        """Stop it in good order and start it again with its data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Throw the container away; a new one at the same port is started if it ran."""
        ran = self._container.is_started
        self.close()
        if ran:
            self.start()

    def pause(self) -> None:
        """Let it stand still."""
        self._container.suspend()

    def resume(self) -> None:
        """Let it go on."""
        self._container.go_on()

    def new_database(self) -> str:
        """Make an empty database."""
        return new_database(self.url)

    def close(self) -> None:
        """Remove the container."""
        self._container.remove()


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


def can_log_in(url: str) -> bool:
    """Tell whether a server lets one in."""
    try:
        execute(url, "SELECT 1")
    except ConfigurationError:
        raise
    except Exception:  # noqa: BLE001 - whatever keeps one out, one is not in
        return False
    return True


def new_database(url: str) -> str:
    """Make an empty database in the server of a URL and return the URL of that."""
    name = f"test_{secrets.token_hex(6)}"
    execute(url, f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING \'UTF8\'')
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


def execute(url: str, statement: str) -> list[Any]:
    """Run one statement in a connection of its own and return its rows; blocks, within an event loop too."""
    try:
        asyncpg = import_module("asyncpg")
    except ImportError:
        raise ConfigurationError(
            "A PostgreSQL for tests needs asyncpg. Install it: pip install 'floxide-amqp[postgresql]'"
        ) from None

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close(timeout=5)

    return _elsewhere(run())


def _elsewhere(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread, so that one may be called where a loop runs."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="floxide-postgresql-statement")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
