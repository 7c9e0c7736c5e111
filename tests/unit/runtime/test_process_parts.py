"""What a worker and its node processes say to each other, and what a body is told that it does not have there."""

from __future__ import annotations

import errno
import importlib
import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import Context, Limits, Signal, Workflow, WorkflowCtx, node
from floxide_amqp.core.compensation import Compensation
from floxide_amqp.core.failure import FailureInfo, error_kinds
from floxide_amqp.core.process_nodes import find_node, reference_to
from floxide_amqp.core.step_powers import StepFacts
from floxide_amqp.exceptions import (
    ConfigurationError,
    DefinitionError,
    ForeignNodeError,
    NodeProcessError,
    NodeTimeoutError,
)
from floxide_amqp.runtime.process_ctx import ctx_in_process
from floxide_amqp.runtime.process_wire import (
    HEAD,
    PREPARE,
    RAISED,
    RUN,
    error_frame,
    prepare_frame,
    read_error,
    read_prepare,
    read_run,
    run_frame,
)

FACTS = StepFacts(
    run_id="r", item_id="i", node="n", workflow="W", worker_id="w", attempt=2, timed_out=True,
    failure=FailureInfo(node="before", error_type="ValueError", message="no", attempts=3),
    deadline=datetime(2030, 1, 2, tzinfo=UTC),
)  # fmt: skip


class PickyError(Exception):
    """Made with other arguments than it keeps."""

    def __init__(self, *, part: int, handle: object) -> None:
        super().__init__(f"no part {part}")
        self.part = part
        self.handle = handle


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("mute")


@node(executor="process")
def double(x: int) -> int:
    return 2 * x


class Double(Workflow[int, int], version="3"):
    start = double


def body_of(frame: bytes, kind: bytes) -> bytes:
    told, length = HEAD.unpack(frame[: HEAD.size])
    body = frame[HEAD.size :]
    assert (told, length) == (kind, len(body))
    return body


def crossed(error: BaseException) -> BaseException:
    return read_error(body_of(error_frame(RAISED, error), RAISED))


def test_the_facts_of_a_step_cross_as_they_are() -> None:
    ctx = ctx_in_process(FACTS, 0)

    assert read_run(body_of(run_frame(ctx, 17), RUN)) == (FACTS, 17)


def test_a_node_is_found_by_the_name_of_its_workflow() -> None:
    reference = read_prepare(body_of(prepare_frame(reference_to(Double, "double")), PREPARE))

    assert find_node(reference) is Double.graph.nodes["double"]


def test_a_workflow_whose_file_was_changed_under_the_worker_is_told() -> None:
    reference = reference_to(Double, "double")

    class Double2(Workflow[int, int], version="4", name="Double"):
        start = double

    graph, Double.graph = Double.graph, Double2.graph
    try:
        with pytest.raises(ConfigurationError, match="its file was changed under a worker that runs"):
            find_node(reference)
    finally:
        Double.graph = graph


def test_an_error_crosses_with_its_class_its_words_what_it_carries_and_its_traceback() -> None:
    try:
        raise PickyError(part=7, handle=object())
    except PickyError as raised:
        found = crossed(raised)

    assert isinstance(found, PickyError)
    assert (str(found), found.part) == ("no part 7", 7)
    assert not hasattr(found, "handle"), "no plain data"
    assert "raise PickyError(part=7" in str(found.__cause__)


def test_the_engines_own_errors_cross_with_their_facts() -> None:
    error = crossed(NodeTimeoutError(node="n", timeout_seconds=2.5))

    assert isinstance(error, NodeTimeoutError)
    assert (str(error), error.timeout_seconds) == ("Node 'n' did not end within its timeout of 2.5 s.", 2.5)


def test_an_error_of_a_class_that_nobody_can_import_crosses_in_words() -> None:
    class LocalError(Exception):
        pass

    error = crossed(LocalError("why"))

    assert isinstance(error, ForeignNodeError)
    assert str(error).endswith("LocalError: why")


@pytest.mark.parametrize("error", [MuteError(object()), ValueError("\ud800"), KeyError(object()), SystemExit(3)])
def test_whatever_is_raised_crosses(error: BaseException) -> None:
    assert error_kinds(crossed(error)) == error_kinds(error)


def _raising(raises: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        raises()
    return raised.value


@pytest.mark.parametrize(
    "raises",
    [
        lambda: b"\xff".decode(), lambda: "\ud800".encode(), lambda: compile("a b", "f", "exec"),
        lambda: importlib.import_module("no_such_module_here"), lambda: Path("/no/such/file").read_text(),
        lambda: Path("/no/such/file").rename("/no/such/other"), lambda: dict[str, int]()["key"],
        lambda: operator.attrgetter("nothing")(object()),
    ],
)  # fmt: skip
def test_errors_of_the_standard_library_keep_their_words(raises: Callable[[], object]) -> None:
    error = _raising(raises)

    assert (type(crossed(error)), str(crossed(error))) == (type(error), str(error))


def test_an_error_keeps_what_its_class_of_the_standard_library_says_beside_its_words() -> None:
    missing = crossed(_raising(lambda: importlib.import_module("no_such_module_here")))
    file = crossed(_raising(lambda: Path("/no/such/file").read_text()))

    assert isinstance(missing, ImportError)
    assert missing.name == "no_such_module_here"
    assert isinstance(file, OSError)
    assert (file.errno, file.filename) == (errno.ENOENT, "/no/such/file")


async def test_a_body_in_a_process_knows_its_step_and_is_told_of_everything_else() -> None:
    ctx = ctx_in_process(FACTS, 1_000)

    assert (ctx.run_id, ctx.attempt, ctx.idempotency_key, ctx.timed_out) == ("r", 2, "r:i", True)
    assert ctx.failure == FACTS.failure
    assert ctx.time_left is not None
    assert ctx.time_left > timedelta(days=365)
    assert not ctx.is_cancelled
    ctx.set_attribute("found", 3)
    assert ctx.attributes_set == {"found": 3}
    asked: list[Callable[[], Any]] = [
        lambda: ctx.state, lambda: ctx.resource(dict), lambda: ctx.received(Signal("go", bool)),
        lambda: ctx.signal("other", Signal("go", bool), True),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(NodeProcessError, match=r"ctx\.\w+.* is not to be had in a process of its own\. \w+ .*\."):
            ask()
    with pytest.raises(NodeProcessError, match=r"ctx\.cancel\(\) is not to be had"):
        await ctx.cancel()
    await ctx.sleep(0)


class State(Context):
    total: int = 0


def _define(first: Any) -> None:
    class Refused(Workflow[int, Any, State]):
        start = first


@node(executor="process")
async def waits(x: int) -> int:
    return x


@node(executor="process")
def reads_state(ctx: WorkflowCtx[State], x: int) -> int:
    return ctx.state.total


@node(executor="process", requires=(dict,))
def wants_resource(x: int) -> int:
    return x


@node(executor="process")
def undo(done: Compensation[int, int]) -> None:
    pass


@node(compensation=undo)
def undone(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (waits, "node 'waits' has executor='process' and is async def. A process is for def functions"),
        (reads_state, "'reads_state' has executor='process' and reads the context State, which stays in the worker"),
        (wants_resource, "requires dict: resources stay in the worker"),
        (undone, "'process' and undoes what a step did, which happens in the worker"),
    ],
)
def test_a_node_that_no_process_can_run_is_refused_where_its_workflow_is_written(start: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        _define(start)


def test_an_executor_that_there_is_not_is_refused() -> None:
    with pytest.raises(DefinitionError, match="node 'double': executor='fork' must be 'thread' or 'process'"):
        double.with_options(executor="fork")


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"process_bodies": -1}])
def test_a_worker_has_a_process_at_least(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="a worker has at least 1 process"):
        Limits(**wrong)
