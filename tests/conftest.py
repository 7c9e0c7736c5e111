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
    "unit": 120,  # no sockets and no real sleeps: a unit test that takes a second is wrong already
    "fuzz": 300,  # `make fuzz` tries long; in a run of all tests a few seconds
    "conformance": 300,
    "chaos": 300,
    "simulation": 600,  # virtual time, and much of it
    "typing": 600,  # starts mypy and pyright
    "integration": 400,  # waits for servers to start
    "acceptance": 600,  # starts, kills and restarts processes
}
"""Most a test may take on a machine ten times slower than a desk, with another worker beside it: it only bounds a hang.
`@pytest.mark.timeout` on a test wins."""

HEAVIEST_FIRST = ("acceptance", "integration", "conformance", "typing", "simulation", "chaos", "fuzz", "unit")
"""The order of the rooms. pytest-xdist hands tests out in it, after the groups: were a long test the last, one of its
workers would wait for the other."""

TERMINAL_VARIABLES = ("COLUMNS", "LINES", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS")
"""What makes a command wrap and colour its output as in somebody's terminal: no test is to depend on it."""

MARKED_ROOMS = {"integration", "acceptance"}
ROOMS_WITH_SERVERS = {"integration", "acceptance", "conformance", "chaos"}

RERUNS = 2
"""Further tries of a test with real servers and processes: a busy machine can starve any of them for seconds. Each
is listed at the end of the run (``RERUN``): a test that shows up there again and again has a bug, or is one."""

RERUN_CHARACTERS = 4_000
"""So much of the end of what a try said is shown that was followed by another."""

# Wall-clock deadlines per example fail on busy machines only; the test's own timeout is the bound.
settings.register_profile("dev", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", deadline=None, max_examples=2_500, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

for name in TERMINAL_VARIABLES:
    os.environ.pop(name, None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test the mark and the timeout of its room; leave out what takes minutes, unless it is asked for.

    The rooms with the longest tests come first.
    """
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
    items.sort(key=_place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why tests needed a further try, which says nothing where that succeeded."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"why {report.nodeid} was tried again")
        terminalreporter.write_line(report.longreprtext[-RERUN_CHARACTERS:])


def _place(item: pytest.Item) -> int:
    """Return how late a test begins; within a room the order stays as it is, which is a random one."""
    if item.get_closest_marker("long") is not None:
        return -1
    room = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
    return HEAVIEST_FIRST.index(room) if room in HEAVIEST_FIRST else len(HEAVIEST_FIRST)


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
