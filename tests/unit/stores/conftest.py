from __future__ import annotations

from floxide_amqp.testing.virtual_time import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
