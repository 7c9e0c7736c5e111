"""What holds for every test: how long it may take, the mark of its room, how hard Hypothesis tries."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from floxide_amqp.apps.log_setup import BROKER_LIBRARIES

TESTS = Path(__file__).parent

ROOM_TIMEOUTS_SECONDS = {
    "unit": 30,  # no sockets and no real sleeps: a unit test that takes a second is wrong already
    "fuzz": 300,  # `make fuzz` tries long; in a run of all tests a few seconds
    "conformance": 60,
    "simulation": 180,  # virtual time, and much of it
    "typing": 180,  # starts mypy and pyright
    "integration": 120,  # waits for servers to start
    "acceptance": 300,  # starts, kills and restarts processes
}
"""Most a test may take, on a slow machine with another worker beside it. `@pytest.mark.timeout` on a test wins."""

MARKED_ROOMS = {"integration", "acceptance"}
ROOMS_WITH_SERVERS = {"integration", "acceptance", "conformance", "chaos"}

RERUNS = 2
"""Further tries of a test with real servers and processes, where a busy machine can starve any of them for seconds. Each
is listed at the end of the run (``RERUN``): a test that shows up there again and again has a bug, or is one."""

# Wall-clock deadlines per example fail on busy machines only; the test's own timeout is the bound.
settings.register_profile("dev", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", deadline=None, max_examples=2_500, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test the mark and the timeout of its room; leave out what takes minutes, unless it is asked for."""
    if "soak" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("soak") is not None]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        room = item.path.relative_to(TESTS).parts[0]
        if room in MARKED_ROOMS:
            item.add_marker(getattr(pytest.mark, room))
        if room in ROOMS_WITH_SERVERS:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))
        if room in ROOM_TIMEOUTS_SECONDS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(ROOM_TIMEOUTS_SECONDS[room]))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command called within a test sets up the logging of the whole process: the next test finds it as it was."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    loggers = [root, *(logging.getLogger(name) for name in ("floxide_amqp", *BROKER_LIBRARIES))]
    levels = [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(capture=False)
