"""The tables and functions of a store: their version, what brings them to it, and whether a store can be used.

`migrations/NNNN.sql` makes version NNNN of the version before; there is no way back but a backup. Which were applied
stands in the table `schema_versions`. A store of an empty schema is made when it is opened, where the user may; every
later change is asked for (``floxide store migrate``). Functions have a version in their names, so that workers of the
release before go on while the newer tables are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from floxide_amqp.drivers.postgresql.connections import Connection
from floxide_amqp.drivers.postgresql.program import locks_of
from floxide_amqp.drivers.postgresql.settings import Settings
from floxide_amqp.exceptions import StoreSchemaError

SCHEMA_VERSION: Final = 4

Migrations = Mapping[int, str]
"""Version → the SQL that makes it of the version before; `{schema}` stands for the schema's quoted name."""


def migrations() -> Migrations:
    """Return the migrations of this release."""
    folder = files(__package__ or "") / "migrations"
    return {n: (folder / f"{n:04d}.sql").read_text("utf-8") for n in range(1, SCHEMA_VERSION + 1)}


async def version_of(connection: Connection, settings: Settings) -> int:
    """Return the version of the tables that are there; 0 where there are none."""
    # Not to_regclass(), which may still believe that a table is not there which another session has just made.
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'schema_versions')",
        settings.schema,
    ):
        return 0
    version = await connection.fetchval(
        f"SELECT max(version) FROM {settings.quoted_schema}.schema_versions"  # noqa: S608 - a quoted name
    )
    return int(version or 0)


async def migrate(connection: Connection, settings: Settings, steps: Migrations | None = None) -> int:
    """Bring the tables to the newest version of `steps`; return the version they had.

    Of several at the same time one migrates, and the others find it done. All steps are one transaction.

    Raises:
        StoreSchemaError: The tables are newer.
        asyncpg.PostgresError: As the server reports it; nothing was changed.
    """
    steps = migrations() if steps is None else steps
    (lock,) = locks_of([(0, b"schema_versions")], space=settings.schema.encode())
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({lock})"
        )
        found = await version_of(connection, settings)
        if found > max(steps):
            raise _newer(settings, found, max(steps))
        if not found:
            await _make_empty(connection, settings)
        for version in range(found + 1, max(steps) + 1):
            await connection.execute(steps[version].replace("{schema}", settings.quoted_schema))
            await connection.execute(
                f"INSERT INTO {settings.quoted_schema}.schema_versions (version) VALUES ({version})"  # noqa: S608
            )
    return found


async def _make_empty(connection: Connection, settings: Settings) -> None:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", settings.schema):
        await connection.execute(f"CREATE SCHEMA {settings.quoted_schema}")
    await connection.execute(
        f"CREATE TABLE {settings.quoted_schema}.schema_versions "
        "(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )


def check_version(settings: Settings, found: int, wanted: int = SCHEMA_VERSION) -> None:
    """Refuse tables of another version.

    Raises:
        StoreSchemaError: They are of another; the message has the command that helps.
    """
    if found > wanted:
        raise _newer(settings, found, wanted)
    if found < wanted:
        raise StoreSchemaError(
            store=settings.shown,
            found=f"schema version {found}" if found else f"no tables in the schema {settings.schema!r}",
            expected=f"schema version {wanted}",
            cure="Run `floxide store migrate` with its URL, as a user who may change tables.",
        )


def _newer(settings: Settings, found: int, wanted: int) -> StoreSchemaError:
    return StoreSchemaError(
        store=settings.shown,
        found=f"schema version {found}",
        expected=f"schema version {wanted}",
        cure="A newer release has migrated it: use that release.",
    )
