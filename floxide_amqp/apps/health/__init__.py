"""What a worker shows of itself over HTTP: whether it lives, whether it is ready, and its metrics.

Opt-in, and an extra (``floxide-amqp[http]``): nothing here is imported before somebody asks for it.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractAsyncContextManager
from typing import cast

from floxide_amqp.apps.health.address import Address, parse_address
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.runtime.worker import Worker

__all__ = ["Address", "serve_health"]

NEEDED = ("aiohttp", "prometheus_client")
"""What the extra brings."""


def serve_health(address: str, worker: Worker) -> AbstractAsyncContextManager[Address]:
    """Serve ``/livez``, ``/readyz`` and ``/metrics`` of a worker while the block is open; it is given the address.

    Args:
        address: ``HOST:PORT``, or a port alone for this machine only; port 0 for any that is free.
        worker: The worker.

    Raises:
        ConfigurationError: It is no address, nothing can listen there, or the extra is not installed.
    """
    parsed = parse_address(address)
    try:
        server = importlib.import_module("floxide_amqp.apps.health.server")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        raise ConfigurationError(
            f"The health endpoints need {' and '.join(NEEDED)}. Install them: pip install 'floxide-amqp[http]'"
        ) from error
    return cast("AbstractAsyncContextManager[Address]", server.serving(parsed, worker))
