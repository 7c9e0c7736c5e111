"""What commands do with an orchestrator: open one, do something, and say what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from floxide_amqp.apps.absent import AbsentControlBus, BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import ExitCode, exit_code_of, say
from floxide_amqp.apps.cli.printing import print_text
from floxide_amqp.apps.cli.running import Stop, run_to_end
from floxide_amqp.apps.stores import check_is_there
from floxide_amqp.core.graph import Graph
from floxide_amqp.exceptions import FloxideError
from floxide_amqp.runtime.orchestrator import Orchestrator

T = TypeVar("T")


async def graph_of(app: Floxide, orchestrator: Orchestrator, run_id: str) -> Graph | None:
    """Return the graph a run follows, or None where the application does not have that version of it."""
    info = await orchestrator.run_info(run_id)
    return app.registry.find(info.workflow, info.version)


def with_orchestrator(
    app: Floxide,
    act: Callable[[Orchestrator], Coroutine[Any, Any, T]],
    *,
    with_worker: bool = False,
    broker: BrokerUse = BrokerUse.NEEDED,
    makes_store: bool = False,
) -> T:
    """Do something with an orchestrator and return what came of it; unless asked, no worker runs beside it.

    What was done without a broker that was wanted is said on standard error. Without a broker, a store that is not
    there is made only where `makes_store` says so.

    Raises:
        ConfigurationError: Nothing is to be started, and there is no store yet; none is made then.
    """
    if broker is not BrokerUse.NEEDED and not makes_store:
        check_is_there(app.store)

    async def main(_: Stop) -> T:
        async with app.orchestrator(with_worker=with_worker, broker=broker) as orchestrator:
            done = await act(orchestrator)
            bus = orchestrator.services.bus
            if isinstance(bus, AbsentControlBus) and bus.why:
                say(
                    f"The hint to the workers was not sent, because the broker cannot be used ({bus.why}): "
                    "they will learn it from the store."
                )
            return done

    return run_to_end(main)


def for_each(
    ids: Sequence[str], one: Callable[[Orchestrator, str], Awaitable[str]]
) -> Callable[[Orchestrator], Coroutine[Any, Any, ExitCode]]:
    """Return what does something about each id, whatever becomes of the others, and says it as it goes.

    It returns the first failure's exit code.
    """

    async def act(orchestrator: Orchestrator) -> ExitCode:
        code = ExitCode.OK
        for each in ids:
            try:
                print_text(await one(orchestrator, each))
            except FloxideError as error:
                say(str(error))
                code = code or exit_code_of(error)
        return code

    return act
