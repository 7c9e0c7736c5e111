"""Looking at a store's server, and bringing its tables to this release's version, for whoever administers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from floxide_amqp.drivers.postgresql import schema as schemas
from floxide_amqp.drivers.postgresql.connections import Connection, Connections
from floxide_amqp.drivers.postgresql.errors import FOREIGN, store_error
from floxide_amqp.drivers.postgresql.settings import Settings, settings_of
from floxide_amqp.drivers.store_report import StoreReport
from floxide_amqp.exceptions import StoreSchemaError
from floxide_amqp.ports.key_value import Durability

OLDEST_SERVER: Final = 13
"""Major version: the oldest that this is written for."""

TABLES: Final = ("cells", "counters", "log_entries", "log_starts", "index_entries")
"""Those that a worker writes; of `schema_versions` it reads."""

_ResultT = TypeVar("_ResultT")


async def migrate(url: str) -> str:
    """Bring a store's tables to this release's version; return a sentence that says what was done.

    Raises:
        StoreSchemaError: They are newer.
        StoreError: It cannot be done; nothing was changed.
    """
    settings = settings_of(url)
    found = await _on_connection(settings, lambda connection: schemas.migrate(connection, settings))
    wanted = schemas.SCHEMA_VERSION
    if found == wanted:
        return f"The store {settings.shown} has schema version {wanted} already."
    how = f"was brought from schema version {found} to {wanted}" if found else f"was made with schema version {wanted}"
    return f"The store {settings.shown} {how}."


async def examine(url: str) -> StoreReport:
    """Look at a store's server, changing nothing.

    Raises:
        StoreError: The server cannot be reached, or refuses the login.
    """
    settings = settings_of(url)

    async def look(connection: Connection) -> StoreReport:
        async with connection.transaction():
            return await _report(connection, settings)

    return await _on_connection(settings, look)


async def _on_connection(settings: Settings, action: Callable[[Connection], Awaitable[_ResultT]]) -> _ResultT:
    connections = Connections(settings)
    try:
        async with connections.lend(is_watched=False) as connection:
            return await action(connection)
    except FOREIGN as error:
        raise store_error(error, store=settings.shown) from error
    finally:
        await connections.aclose()


async def _report(connection: Connection, settings: Settings) -> StoreReport:
    server = str(await connection.fetchval("SELECT current_setting('server_version')"))
    number = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
    durability, reasons = await durability_of(connection, settings)
    problems: list[str] = []
    if number < OLDEST_SERVER * 10_000:
        problems.append(f"PostgreSQL {server} is older than {OLDEST_SERVER}: use a newer server.")
    if await connection.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"):
        problems.append("The server takes no writes: it is a standby or read-only. Name the primary.")
    version = "unknown"
    missing = await _missing_rights_to_look(connection, settings)
    if not missing:
        found = await schemas.version_of(connection, settings)
        version = str(found)
        try:
            schemas.check_version(settings, found)
        except StoreSchemaError as error:
            problems.append(str(error))
        else:
            missing = await _missing_rights(connection, settings)
    problems += [f"This user lacks a right: {grant};" for grant in missing]
    warning = "The server may lose what it has confirmed when the power fails: set fsync and full_page_writes to on."
    return StoreReport(
        facts=(
            ("store", settings.shown),
            ("server", f"PostgreSQL {server}"),
            ("schema", f"{settings.schema}, version {version} of {schemas.SCHEMA_VERSION}"),
            ("commits survive", f"{durability.value} ({reasons})"),
        ),
        problems=tuple(problems),
        warnings=(warning,) if durability is Durability.PROCESS_CRASH else (),
    )


async def durability_of(connection: Connection, settings: Settings) -> tuple[Durability, str]:
    """Return what commits survive, and the server's settings that say so."""
    row = await connection.fetchrow(
        "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous, "
        "current_setting('synchronous_standby_names') AS standbys, current_setting('full_page_writes') AS pages"
    )
    synchronous = settings.synchronous_commit or ("on" if row["synchronous"] == "off" else row["synchronous"])
    reasons = (
        f"fsync={row['fsync']}, full_page_writes={row['pages']}, synchronous_commit={synchronous}, "
        f"synchronous_standby_names={row['standbys']!r}"
    )
    if row["fsync"] != "on" or row["pages"] != "on":
        return Durability.PROCESS_CRASH, reasons
    is_replicated = bool(row["standbys"]) and synchronous != "local"
    return (Durability.NODE_LOSS if is_replicated else Durability.POWER_LOSS), reasons


async def _missing_rights_to_look(connection: Connection, settings: Settings) -> list[str]:
    """Return what is missing to find out the version of the tables; nothing where there are no tables."""
    user = str(await connection.fetchval("SELECT quote_ident(current_user)"))
    row = await connection.fetchrow(
        "SELECT has_schema_privilege(n.oid, 'USAGE') AS schema, has_table_privilege(c.oid, 'SELECT') AS versions "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'schema_versions'",
        settings.schema,
    )
    if row is None:
        return []
    schema = settings.quoted_schema
    grants = [] if row["schema"] else [f"GRANT USAGE ON SCHEMA {schema} TO {user}"]
    return grants if row["versions"] else [*grants, f"GRANT SELECT ON {schema}.schema_versions TO {user}"]


async def _missing_rights(connection: Connection, settings: Settings) -> list[str]:
    """Return what is missing to use the tables and functions, where one may look at the version."""
    schema, missing = settings.quoted_schema, list[str]()
    user = str(await connection.fetchval("SELECT quote_ident(current_user)"))
    for table in TABLES:
        found = [
            right
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
            if not await connection.fetchval("SELECT has_table_privilege($1, $2)", f"{schema}.{table}", right)
        ]
        if found:
            missing.append(f"GRANT {', '.join(found)} ON {schema}.{table} TO {user}")
    functions = await connection.fetch(
        "SELECT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = $1 AND NOT has_function_privilege(p.oid, 'EXECUTE')",
        settings.schema,
    )
    return missing + [f"GRANT EXECUTE ON FUNCTION {row['name']} TO {user}" for row in functions]
