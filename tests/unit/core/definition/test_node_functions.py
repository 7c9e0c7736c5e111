from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never, TypeVar

import pytest

from floxide_amqp.core.context import Context
from floxide_amqp.core.function_node import node
from floxide_amqp.core.node import with_retry
from floxide_amqp.core.options import NodeOptions
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll, Transition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")


class Shop(Context):
    spent: int = 0


class PaymentApi: ...


@dataclass(frozen=True)
class Order:
    total: int


@node
async def charge(ctx: WorkflowCtx[Shop], order: Order) -> str:
    """Charge it."""
    ctx.state.spent += order.total
    return f"receipt {ctx.attempt}"


@node(queue="fast", timeout=5, retry=RetryPolicy(max_attempts=2), isolated=True, requires=(PaymentApi,))
def double(value: int) -> int:
    return value * 2


def test_a_node_knows_what_it_takes_and_returns() -> None:
    assert (charge.name, charge.input_type, charge.output_type) == ("charge", Order, str)
    assert charge.context_type is Shop
    assert charge.is_async
    assert not charge.may_fan_out
    assert not charge.may_hold
    assert double.context_type is Context
    assert not double.is_async
    assert charge.__doc__ == "Charge it."
    assert repr(charge) == "<FunctionNode 'charge'>"


def test_options_are_kept_and_default_to_open() -> None:
    assert charge.options == NodeOptions()
    assert double.options == NodeOptions(
        queue="fast",
        timeout=timedelta(seconds=5),
        retry=RetryPolicy(max_attempts=2),
        isolated=True,
        requires=(PaymentApi,),
    )


async def test_a_node_called_directly_is_its_function() -> None:
    ctx = WorkflowCtx.for_test(Shop(), attempt=3)
    assert await charge(ctx, Order(5)) == "receipt 3"
    assert ctx.state.spent == 5
    assert double(4) == 8
    assert double(ctx, 4) == 8


async def test_invoke_calls_the_function_with_or_without_the_context() -> None:
    ctx = WorkflowCtx.for_test(Shop())
    assert await charge.invoke(ctx, Order(1)) == "receipt 1"
    assert double.invoke(ctx, 4) == 8


def test_named_makes_a_second_copy_and_leaves_the_first() -> None:
    second = double.named("double_again")
    assert (second.name, double.name) == ("double_again", "double")
    assert second.options == double.options
    assert second(4) == 8


def test_with_retry_replaces_the_policy_alone() -> None:
    policy = RetryPolicy(max_attempts=9)
    changed = with_retry(double, policy)
    assert (changed.name, changed.options.retry, changed.options.queue) == ("double", policy, "fast")
    assert double.options.retry == RetryPolicy(max_attempts=2)


@pytest.mark.parametrize(
    ("returns", "output", "fans_out", "holds"),
    [
        (int, int, False, False),
        (None, None.__class__, False, False),
        (Next[int], int, False, False),
        (NextAll[int], int, True, False),
        (int | Hold, int, False, True),
        (Next[int] | NextAll[str] | Hold | Abort, int | str, True, True),
        (Next[int | str] | None, int | str | None, False, False),
        (Abort, Never, False, False),
    ],
)
def test_the_return_annotation_says_what_follows(returns: Any, output: Any, fans_out: bool, holds: bool) -> None:
    async def step(value: int) -> Any: ...

    step.__annotations__["return"] = returns
    made = node(step)
    assert made.output_type == output
    assert (made.may_fan_out, made.may_hold) == (fans_out, holds)


def test_types_local_to_the_function_around_the_node_are_found() -> None:
    class Local:
        pass

    @node
    async def step(value: Local) -> list[Local]:
        return [value]

    assert step.input_type is Local
    assert step.output_type == list[Local]


def test_types_of_two_functions_around_the_node_are_found() -> None:
    class Outer:
        pass

    def inner() -> Any:
        class Inner:
            pass

        @node
        async def step(value: Outer) -> Inner:
            return Inner()

        return step, Inner

    step, inner_type = inner()
    assert step.input_type is Outer
    assert step.output_type is inner_type


def test_a_type_defined_after_the_node_is_found_when_it_is_needed() -> None:
    @node
    async def step(value: Later) -> Later:
        return value

    class Later:
        pass

    assert step.input_type is Later


def test_a_module_level_type_may_be_defined_after_the_node() -> None:
    assert early.output_type is DefinedBelow


@node
async def early(value: int) -> DefinedBelow:
    return DefinedBelow()


class DefinedBelow: ...


def test_a_name_that_is_never_defined_is_an_error_with_the_cure() -> None:
    @node
    async def step(value: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    with pytest.raises(DefinitionError) as caught:
        _ = step.input_type
    assert str(caught.value) == (
        "node 'step': the annotation 'Missing' of 'value' cannot be resolved: name 'Missing' is not defined. "
        "Define or import the name where the node is defined, before the workflow that uses it "
        "(an import under `if TYPE_CHECKING:` is not there at run time)."
    )


def test_a_type_imported_for_type_checkers_alone_is_an_error_that_says_so() -> None:
    @node
    async def step(value: Decimal) -> int:
        return 1

    with pytest.raises(DefinitionError, match="an import under `if TYPE_CHECKING:` is not there at run time"):
        _ = step.input_type


def test_a_decorated_async_function_is_still_async() -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @node
    @traced
    async def step(value: int) -> str:
        return str(value)

    assert step.is_async
    assert (step.input_type, step.output_type) == (int, str)
    assert asyncio.run(step(5)) == "5"


def test_a_context_may_be_given_by_a_type_variable_with_a_bound() -> None:
    anything = TypeVar("anything", bound=Shop)

    @node
    async def bounded(ctx: WorkflowCtx[anything], value: int) -> int:
        return value

    assert bounded.context_type is Shop


def test_a_function_without_a_readable_signature_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"its parameters are not known"):
        node(max)


def test_an_any_context_takes_every_workflow() -> None:
    @node
    async def loose(ctx: WorkflowCtx[Any], value: int) -> int:
        return value

    @node
    async def bare(ctx: WorkflowCtx, value: int) -> int:  # type: ignore[type-arg]
        return value

    assert loose.context_type is Context
    assert bare.context_type is Context


async def no_annotation(value) -> int: ...  # type: ignore[no-untyped-def]
async def no_ctx_annotation(ctx, value: int) -> int: ...  # type: ignore[no-untyped-def]
async def no_return(value: int): ...  # type: ignore[no-untyped-def]
async def nothing() -> int: ...  # type: ignore[empty-body]
async def ctx_alone(ctx: WorkflowCtx[Shop]) -> int: ...  # type: ignore[empty-body]
async def ctx_second(value: int, ctx: WorkflowCtx[Shop]) -> int: ...  # type: ignore[empty-body]
async def two_inputs(a: int, b: str) -> int: ...  # type: ignore[empty-body]
async def three(ctx: WorkflowCtx[Shop], a: int, b: str) -> int: ...  # type: ignore[empty-body]
async def keyword(value: int, *, flag: bool) -> int: ...  # type: ignore[empty-body]
async def generic(values: list[T]) -> T: ...  # type: ignore[empty-body]
async def vague(value: int) -> Transition[int]: ...  # type: ignore[empty-body]
async def vague_next(value: int) -> Next: ...  # type: ignore[type-arg, empty-body]
async def no_context(ctx: WorkflowCtx[int], value: int) -> int: ...  # type: ignore[type-var, empty-body]
async def generator(value: int) -> AsyncIterator[int]:
    yield value


def sync_generator(value: int) -> Iterator[int]:
    yield value


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            no_annotation,
            "node 'no_annotation': parameter 'value' has no annotation. Annotate it with the type of its input.",
        ),
        (no_ctx_annotation, "parameter 'ctx' has no annotation. Annotate it with WorkflowCtx[MyContext]."),
        (no_return, "node 'no_return' has no return type. Annotate what it returns; `-> None` for nothing."),
        (nothing, "node 'nothing' takes (). A node takes its input, or the WorkflowCtx and its input"),
        (ctx_alone, "node 'ctx_alone' takes only a WorkflowCtx. Add its input; `_: None` for none."),
        (ctx_second, "takes its input first. Put the WorkflowCtx first and the input second."),
        (two_inputs, "takes two inputs (int and str). A node takes one: put both into a dataclass"),
        (three, "node 'three' takes (ctx, a, b). A node takes its input, or the WorkflowCtx and its input"),
        (keyword, "node 'keyword' takes (value, flag). A node takes its input"),
        (generic, "node 'generic' is generic in T, but the engine must know its types. Write it as a class"),
        (vague, "is annotated to return Transition[int], which does not say what follows. Write which transitions"),
        (vague_next, "is annotated to return Next, which does not say what follows."),
        (no_context, "takes WorkflowCtx[int], but int is no context. Make it one: class int(Context)."),
        (generator, "node 'generator' is a generator. A node returns once: return NextAll([...])"),
        (sync_generator, "node 'sync_generator' is a generator."),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_that_cannot_be_a_node_is_an_error_with_the_cure(function: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        node(function)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": 0}, "timeout=0 must be a timedelta or seconds, more than 0 and at most 3650 days."),
        ({"timeout": "soon"}, "timeout='soon' must be a timedelta or seconds"),
        ({"timeout": True}, "timeout=True must be a timedelta or seconds"),
        ({"queue": "a b"}, "queue='a b' must be at most 100 printable characters without spaces, slashes and"),
        ({"queue": "q" * 101}, "must be at most 100 printable characters"),
        ({"retry": 3}, "retry=3 must be a RetryPolicy, such as RetryPolicy(max_attempts=3)."),
        ({"isolated": 1}, "isolated=1 must be True or False."),
        ({"requires": ("http",)}, "requires=('http',) must be a tuple of classes, such as (PaymentApi,)."),
        ({"name": "b"}, " A copy of another name is made by .named(...)."),
        ({"attempts": 3}, "@node: 'attempts' is no option of a node. The options are queue, retry, timeout, isolated,"),
        (
            {"at_most_once": True, "retry": RetryPolicy(max_attempts=3)},
            "at_most_once=True and a retry policy of 3 attempts contradict each other. Leave out one of them;",
        ),
    ],
)
def test_a_wrong_option_is_an_error_with_the_cure(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        node(**options)(charge.__wrapped__)  # type: ignore[attr-defined]
    assert sentence in str(caught.value)


def test_one_required_class_needs_no_tuple() -> None:
    assert node(requires=PaymentApi)(double.__wrapped__).options.requires == (PaymentApi,)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "a/b", "a>b", "a#b", "a\nb", "x" * 201, 5])
def test_a_name_that_ids_are_made_with_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot be the name of a node"):
        double.named(name)


def test_a_lambda_a_class_and_a_node_are_no_functions_for_node() -> None:
    with pytest.raises(DefinitionError, match="a lambda needs a def"):
        node(lambda value: value)
    with pytest.raises(DefinitionError, match=r"@node takes a function, not <class .*PaymentApi'>"):
        node(PaymentApi)
    with pytest.raises(DefinitionError, match=r"'double' is a node already. Use .named\(...\) for a second copy."):
        node(double)
