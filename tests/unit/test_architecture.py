"""The arrows between the parts, read from the source: who may import whom, and what the pure parts may touch.

Every import counts: those inside functions, those under ``TYPE_CHECKING``, and ``import_module("…")`` with a literal.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "floxide_amqp"
ROOT = Path(__file__).parents[2]

ROOMS: Mapping[str, frozenset[str]] = {
    room: frozenset(may_import.split())
    for room, may_import in {
        "exceptions": "",
        "logs": "",
        "core": "exceptions core",
        "ports": "exceptions core ports",
        "stores": "exceptions core ports stores",
        "runtime": "exceptions logs core ports stores runtime",
        "drivers": "exceptions logs core ports drivers",
        "apps": "exceptions logs core ports stores runtime drivers apps",
        "sync": "apps",
        "testing": "exceptions logs core ports stores runtime drivers apps testing front-door",
        "front-door": "exceptions logs core ports stores runtime drivers apps",
    }.items()
}
"""Room → the rooms it may import. The front door is ``floxide_amqp/__init__.py``, which nothing inside goes through."""

PURE_ROOMS = {"core", "ports"}
PURE_THIRD_PARTY = {"pydantic", "pydantic_core", "typing_extensions"}

IMPURE_THROUGHOUT = """
    asyncio concurrent fcntl getpass glob http io locale logging mmap multiprocessing os platform queue random resource
    sched secrets select selectors shutil signal socket socketserver sqlite3 ssl subprocess tempfile threading time
    urllib zoneinfo
"""
IMPURE_MODULES: Mapping[str, frozenset[str]] = {
    "uuid": frozenset({"UUID"}),  # a payload type; uuid4() is randomness, uuid1() the clock
    "pathlib": frozenset({"Path", "PurePath", "PosixPath", "PurePosixPath", "PureWindowsPath"}),  # payload types
    "sys": frozenset({"modules", "_getframe", "version_info", "maxsize", "float_info", "getsizeof"}),
    **dict.fromkeys(IMPURE_THROUGHOUT.split(), frozenset[str]()),
}
"""Standard modules that reach the clock, randomness, IO, threads or the environment → the names that do not."""

IMPURE_CALLS = {"open", "print", "input", "breakpoint", "exec", "eval"}
CLOCK_CALLS = {"now", "utcnow", "today"}

BROKER_LIBRARIES = {"aio_pika", "aiormq", "pamqp"}
BROKER_ROOMS = (f"{PACKAGE}.drivers.amqp", f"{PACKAGE}.testing")

ENVIRONMENT: Mapping[str, frozenset[str]] = {
    "os": frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}),
    "sys": frozenset({"argv", "orig_argv"}),
}
ENVIRONMENT_ROOMS = {"apps", "testing"}

EXEMPT: Mapping[tuple[str, str], str] = {
    (f"{PACKAGE}.ports.clock", "time"): "SystemClock is the port's one obvious implementation",
    (f"{PACKAGE}.core.fast_dataclasses", "exec"): "makes a method of a record's fields, as the standard library does",
    (f"{PACKAGE}.core.workflow_ctx", "asyncio"): "races a node's own awaitable against its cancellation; no IO",
    (f"{PACKAGE}.core.fake_powers", "asyncio"): "an event cancels a test's node; its sleeps pass at once",
}
"""(module, what it touches) → why that is right. An entry that nothing needs any more fails the test."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the package as source."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def room(self) -> str:
        """The first part of its name below the package."""
        return self.name.split(".")[1] if "." in self.name else "front-door"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported thing: a module, or a name from it."""

    module: str
    name: str | None
    line: int


def read_package() -> dict[str, Module]:
    modules = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, ast.parse(path.read_text(encoding="utf-8"), str(path)), is_package)
    return modules


def imports_of(module: Module) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(module, node)
            yield from (Import(origin, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"} and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield Import(target.value, None, node.lineno)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def targets_of(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[str, int]]:
    """The package's modules that a module imports; ``from a import b`` means ``a.b`` where that is a module."""
    for found in imports_of(module):
        if found.module.split(".")[0] == PACKAGE:
            inner = f"{found.module}.{found.name}"
            yield (inner if inner in modules else found.module), found.line


def wrong_arrows(modules: Mapping[str, Module]) -> list[str]:
    problems = []
    for module in modules.values():
        if module.room not in ROOMS:
            problems.append(f"{module.name}: no room is called {module.room!r}")
            continue
        for target, line in targets_of(module, modules):
            room = Module(target, ast.Module([], [])).room
            if room not in ROOMS[module.room]:
                problems.append(f"{module.name}:{line} ({module.room}) imports {target} ({room})")
    return problems


def cycles(modules: Mapping[str, Module]) -> list[str]:
    """Closed walks between modules, each once, as ``a -> b -> a``. A package's own ``__init__`` is not an arrow."""
    arrows = {name: sorted({target for target, _ in targets_of(module, modules)}) for name, module in modules.items()}
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in arrows.get(name, []):
                walk(target, [*trail, name])
            done.add(name)

    for name in arrows:
        walk(name, [])
    return found


def touched(module: Module, watched: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str, int]]:
    """What a module uses of watched modules, as (watched module, name or "", line); no name is the module as such."""
    aliases: dict[str, str] = {}
    for found in imports_of(module):
        top = found.module.split(".")[0]
        if top in watched and found.name is not None:
            yield top, found.name, found.line
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in watched:
                    aliases[alias.asname or alias.name.split(".")[0]] = alias.name.split(".")[0]
                    yield alias.name.split(".")[0], "", node.lineno
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr, node.lineno


def impure_calls(module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield node.func.id, node.lineno


def impurities(module: Module, exemptions: Mapping[tuple[str, str], str] = EXEMPT) -> list[str]:
    problems = []
    for watched, name, line in touched(module, IMPURE_MODULES):
        allowed = IMPURE_MODULES[watched]
        # `import uuid` alone is no use of it; for a module without any pure name the import itself is one.
        is_pure = name in allowed or (not name and bool(allowed))
        if not is_pure and (module.name, watched) not in exemptions:
            problems.append(f"{module.name}:{line} uses {watched}{'.' + name if name else ''}")
    problems += [
        f"{module.name}:{line} calls {name}()"
        for name, line in impure_calls(module)
        if (module.name, name) not in exemptions
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS:
            value = node.func.value
            if (value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")) in {"datetime", "date"}:
                problems.append(f"{module.name}:{node.lineno} reads the clock: {ast.unparse(node.func)}()")
    problems += [
        f"{module.name}:{found.line} imports {found.module}, which is no part of the standard library"
        for found in imports_of(module)
        if found.module.split(".")[0] not in sys.stdlib_module_names | PURE_THIRD_PARTY | {PACKAGE}
    ]
    return problems


def broker_imports(module: Module) -> list[str]:
    if module.name.startswith(BROKER_ROOMS):
        return []
    return [
        f"{module.name}:{found.line} imports {found.module}"
        for found in imports_of(module)
        if found.module.split(".")[0] in BROKER_LIBRARIES
    ]


def environment_reads(module: Module) -> list[str]:
    if module.room in ENVIRONMENT_ROOMS:
        return []
    return [
        f"{module.name}:{line} reads {watched}.{name}"
        for watched, name, line in touched(module, ENVIRONMENT)
        if name in ENVIRONMENT[watched]
    ]


def assert_none(problems: Iterable[str]) -> None:
    found = list(problems)
    assert not found, "\n" + "\n".join(found)


@pytest.fixture(scope="module")
def package() -> dict[str, Module]:
    return read_package()


def test_dependencies_between_rooms_point_inwards(package: dict[str, Module]) -> None:
    assert_none(wrong_arrows(package))


def test_no_modules_import_each_other_in_a_circle(package: dict[str, Module]) -> None:
    assert_none(cycles(package))


def test_core_and_ports_touch_no_clock_no_randomness_no_io_and_no_environment(package: dict[str, Module]) -> None:
    pure = [module for module in package.values() if module.room in PURE_ROOMS]
    assert_none(problem for module in pure for problem in impurities(module))


def test_every_exemption_is_still_needed(package: dict[str, Module]) -> None:
    used = {(module.name, watched) for module in package.values() for watched, _, _ in touched(module, IMPURE_MODULES)}
    used |= {(module.name, name) for module in package.values() for name, _ in impure_calls(module)}
    assert set(EXEMPT) - used == set()


def test_broker_libraries_stay_in_the_amqp_driver(package: dict[str, Module]) -> None:
    assert_none(problem for module in package.values() for problem in broker_imports(module))


def test_environment_and_arguments_are_read_in_apps_only(package: dict[str, Module]) -> None:
    assert_none(problem for module in package.values() for problem in environment_reads(module))


def module(name: str, source: str) -> Module:
    return Module(f"{PACKAGE}.{name}" if name else PACKAGE, ast.parse(source), is_package=not name)


def package_of(*modules: Module) -> dict[str, Module]:
    return {one.name: one for one in modules}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("core.a", "from floxide_amqp.ports import clock"),
        ("core.a", "from ..ports.clock import Clock"),
        ("core.a", "def f():\n    import floxide_amqp.stores.runs"),
        ("core.a", "if TYPE_CHECKING:\n    from floxide_amqp.runtime.worker import Worker"),
        ("core.a", "from floxide_amqp import Workflow"),
        ("core.a", "import_module('floxide_amqp.ports.clock')"),
        ("ports.a", "import floxide_amqp.stores"),
        ("stores.a", "from floxide_amqp.drivers.memory import store"),
        ("runtime.a", "from floxide_amqp.drivers import sqlite"),
        ("runtime.a", "from floxide_amqp.apps import settings"),
        ("drivers.a", "from floxide_amqp.stores.runs import Runs"),
        ("drivers.amqp.a", "from ...runtime import worker"),
        ("apps.a", "from floxide_amqp.testing import services"),
        ("exceptions", "from floxide_amqp.core.ids import RunId"),
        ("elsewhere.a", "x = 1"),
    ],
)
def test_a_wrong_arrow_is_found(name: str, source: str) -> None:
    assert len(wrong_arrows(package_of(module(name, source)))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("core.a", "from floxide_amqp.core.ids import RunId"),
        ("core.a", "from floxide_amqp.exceptions import DefinitionError"),
        ("stores.a", "from floxide_amqp.ports.key_value import Key"),
        ("drivers.amqp.a", "from floxide_amqp.ports.work_queue import Message"),
        ("apps.a", "from floxide_amqp.drivers.amqp import queue"),
        ("testing.a", "from floxide_amqp import Workflow"),
        ("", "from floxide_amqp.apps.local import Workflow"),
    ],
)
def test_a_right_arrow_is_let_through(name: str, source: str) -> None:
    assert wrong_arrows(package_of(module(name, source))) == []


def test_a_circle_is_found_whatever_its_length_and_however_it_is_imported() -> None:
    found = cycles(
        package_of(
            module("core.a", "from floxide_amqp.core import b"),
            module("core.b", "if TYPE_CHECKING:\n    from floxide_amqp.core.c import C"),
            module("core.c", "def f():\n    from floxide_amqp.core.a import A"),
            module("core.d", "from floxide_amqp.core import a, b"),
        )
    )
    assert found == ["floxide_amqp.core.a -> floxide_amqp.core.b -> floxide_amqp.core.c -> floxide_amqp.core.a"]


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import random",
        "import os.path",
        "def f():\n    import asyncio",
        "import socket as s",
        "import sys\nsys.exit()",
        "from uuid import uuid4",
        "import uuid\nx = uuid.uuid4()",
        "from datetime import datetime\nx = datetime.now(UTC)",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nx = date.today()",
        "x = open('file')",
        "import msgpack",
        "import structlog",
    ],
)
def test_an_impure_core_module_is_found(source: str) -> None:
    assert len(impurities(module("core.a", source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from uuid import UUID",
        "import uuid\nx: uuid.UUID",
        "from pathlib import Path",
        "import hashlib",
        "import sys\nx = sys.modules['a']",
        "from datetime import datetime, timedelta",
        "from pydantic import TypeAdapter",
        "from floxide_amqp.core.ids import RunId",
        "def f(clock):\n    return clock.now()",
    ],
)
def test_a_pure_core_module_is_let_through(source: str) -> None:
    assert impurities(module("core.a", source)) == []


@pytest.mark.parametrize(
    "source", ["import aio_pika", "from aiormq.exceptions import AMQPError", "import pamqp.commands"]
)
def test_a_broker_library_outside_its_driver_is_found(source: str) -> None:
    assert len(broker_imports(module("runtime.worker", source))) == 1
    assert broker_imports(module("drivers.amqp.connection", source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nx = os.environ['A']",
        "import os as system\nx = system.getenv('A')",
        "from os import environ",
        "from sys import argv",
        "def f():\n    import sys\n    return sys.argv",
    ],
)
def test_reading_the_environment_outside_apps_is_found(source: str) -> None:
    assert len(environment_reads(module("drivers.sqlite", source))) == 1
    assert environment_reads(module("apps.settings", source)) == []
