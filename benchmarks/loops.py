"""The event loop of what is measured: uvloop where it is installed, as workers have it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a program's coroutine; return what it returns."""
    try:
        new_loop = import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        new_loop = None
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)
