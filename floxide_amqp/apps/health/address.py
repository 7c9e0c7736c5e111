"""Where the health endpoints listen."""

from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.exceptions import ConfigurationError

LOOPBACK = "127.0.0.1"
"""Only this machine, unless somebody says otherwise: the endpoints ask nobody for a password."""

MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """``host:port``, as it was written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that a text names: ``HOST:PORT``, ``[IPV6]:PORT``, or a port on this machine.

    Raises:
        ConfigurationError: It names none.
    """
    host, separator, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _no_address(text)
    if not port.isascii() or not port.isdigit() or int(port) > MAX_PORT or (separator and not host):
        raise _no_address(text)
    return Address(host or LOOPBACK, int(port))


def _no_address(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} is no address to listen on. Write HOST:PORT, such as 127.0.0.1:8080, or 0.0.0.0:8080 for every "
        "network of this machine; a port alone is for this machine only."
    )
