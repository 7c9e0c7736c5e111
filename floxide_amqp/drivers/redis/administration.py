"""What looks after a store in Redis from the command line."""

from __future__ import annotations

from floxide_amqp.drivers.redis.address import Address, address_of
from floxide_amqp.drivers.redis.heads import look_at
from floxide_amqp.drivers.redis.servers import Servers, servers_of
from floxide_amqp.drivers.redis.settings_check import Facts, facts_of, least_of, promise_of
from floxide_amqp.drivers.store_report import StoreReport
from floxide_amqp.exceptions import ConfigurationError, StoreReadOnlyError, StoreSchemaError
from floxide_amqp.ports.key_value import Durability


async def examine(url: str) -> StoreReport:
    """Look at a store's servers, leaving nothing there.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: A server cannot be reached, or refuses the login.
    """
    address = address_of(url)
    servers = servers_of(address)
    try:
        return await _report(servers, address)
    finally:
        await servers.aclose()


async def _report(servers: Servers, address: Address) -> StoreReport:
    found = await facts_of(servers, address)
    promises: list[Durability] = []
    problems: list[str] = []
    for node, facts in found:
        try:
            promises.append(promise_of(node, facts, address))
        except (ConfigurationError, StoreReadOnlyError) as error:
            promises.append(Durability.NOTHING)
            problems.append(str(error))
    holds = "unknown"
    if not problems:
        try:
            holds = await look_at(servers, address)
        except StoreSchemaError as error:
            problems.append(str(error))
    durability = least_of(promises)
    warning = "A crash or a power loss may take the last commits: set appendfsync to always if that must not be."
    return StoreReport(
        facts=(
            ("store", address.shown),
            *(("server", _described(node, facts)) for node, facts in found),
            ("holds", holds),
            ("commits survive", durability.value),
        ),
        problems=tuple(problems),
        warnings=(warning,) if durability in (Durability.ORDERLY_STOP, Durability.PROCESS_CRASH) else (),
    )


def _described(node: str, facts: Facts) -> str:
    settings = f"appendonly={'yes' if facts.appends else 'no'}, appendfsync={facts.sync or 'not told'}"
    memory = f"maxmemory={facts.limit}, maxmemory-policy={facts.policy}"
    replicas = "1 replica" if facts.replicas == 1 else f"{facts.replicas} replicas"
    return f"{node}, {facts.name}, {replicas} ({settings}, {memory})"
