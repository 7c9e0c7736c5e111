"""Making, checking and migrating the tables, and what is said where a server lets one in only halfway."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from floxide_amqp.apps.cli.main import app
from floxide_amqp.drivers.postgresql import PostgresqlKeyValueStore, examine, migrate, schema
from floxide_amqp.drivers.postgresql.administration import TABLES
from floxide_amqp.drivers.postgresql.settings import settings_of
from floxide_amqp.exceptions import StoreAccessRefusedError, StoreSchemaError
from floxide_amqp.ports.key_value import Durability
from tests.integration.postgresql.support import commit, connected, counted, once, opened, schema_of

NOW = schema.SCHEMA_VERSION
NEXT = NOW + 1
FUTURE: Mapping[int, str] = {
    **schema.migrations(),
    NEXT: "ALTER TABLE {schema}.cells ADD COLUMN note text NOT NULL DEFAULT 'from the next version'",
}


async def migrate_to_the_future(url: str) -> int:
    async with connected(url) as connection:
        return await schema.migrate(connection, settings_of(url), FUTURE)


async def test_a_migration_keeps_what_is_there(postgresql_url: str) -> None:
    async with opened(postgresql_url) as store:
        await commit(store, once("first"))
        assert await migrate_to_the_future(postgresql_url) == NOW
        assert await migrate_to_the_future(postgresql_url) == NEXT
        await commit(store, once("second"))  # a worker of the release before, still running
        assert await counted(store) == (2, (b"first", b"second"))
    async with connected(postgresql_url) as connection:
        notes = await connection.fetch(f'SELECT note FROM "{schema_of(postgresql_url)}".cells')
    assert [row["note"] for row in notes] == ["from the next version"] * 2


async def test_a_store_that_a_newer_release_migrated_is_refused(postgresql_url: str) -> None:
    await migrate(postgresql_url)
    await migrate_to_the_future(postgresql_url)
    with pytest.raises(
        StoreSchemaError, match=rf"holds schema version {NEXT}, .* reads schema version {NOW}"
    ) as caught:
        await PostgresqlKeyValueStore.open(postgresql_url)
    assert "use that release" in str(caught.value)
    with pytest.raises(StoreSchemaError):
        await migrate(postgresql_url)
    assert f"version {NEXT}" in (await examine(postgresql_url)).problems[0]


async def test_an_older_store_is_not_migrated_by_opening_it(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(postgresql_url)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", NEXT)
    monkeypatch.setattr(schema, "migrations", lambda: FUTURE)
    monkeypatch.setattr(schema.check_version, "__defaults__", (NEXT,))
    with pytest.raises(StoreSchemaError, match="floxide store migrate"):
        await PostgresqlKeyValueStore.open(postgresql_url)
    assert f"was brought from schema version {NOW} to {NEXT}" in await migrate(postgresql_url)
    assert f"has schema version {NEXT} already" in await migrate(postgresql_url)
    async with opened(postgresql_url) as store:
        await commit(store, once("first"))


async def test_a_store_of_the_first_version_is_brought_to_this_one(postgresql_url: str) -> None:
    async with connected(postgresql_url) as connection:
        await schema.migrate(connection, settings_of(postgresql_url), {1: schema.migrations()[1]})
    with pytest.raises(StoreSchemaError, match=rf"holds schema version 1, .* reads schema version {NOW}"):
        await PostgresqlKeyValueStore.open(postgresql_url)
    assert f"was brought from schema version 1 to {NOW}" in await migrate(postgresql_url)
    async with opened(postgresql_url) as store:
        await commit(store, once("first"))
        assert await counted(store) == (1, (b"first",))


async def test_large_values_are_compressed_by_the_way_of_version_3_and_older_ones_stay(postgresql_url: str) -> None:
    settings, large = settings_of(postgresql_url), b"large value " * 2_000
    table, older = f"{settings.quoted_schema}.cells", {n: schema.migrations()[n] for n in (1, 2)}
    async with connected(postgresql_url) as connection:
        has_lz4 = await connection.fetchval(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
        await schema.migrate(connection, settings, older)
        await connection.execute(f"INSERT INTO {table} VALUES (0, 'p', 'older', 1, $1)", large)
        assert await schema.migrate(connection, settings) == 2
        await connection.execute(f"INSERT INTO {table} VALUES (0, 'p', 'later', 1, $1)", large)
        rows = await connection.fetch(f"SELECT value, pg_column_compression(value) AS way FROM {table} ORDER BY name")
        assert [row["value"] for row in rows] == [large] * 2
        assert [row["way"] for row in rows] == ["lz4" if has_lz4 else "pglz", "pglz"]
        valued = await connection.fetch(
            "SELECT c.relname, a.attcompression = 'l' AS is_lz4 FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND a.attname = 'value' AND c.relkind = 'r' "
            "AND a.atttypid = 'bytea'::regtype ORDER BY c.relname",
            settings.schema,
        )
    assert [tuple(row) for row in valued] == [
        (name, bool(has_lz4)) for name in ("cells", "index_entries", "log_entries")
    ]


async def test_a_migration_that_fails_changes_nothing(postgresql_url: str) -> None:
    await migrate(postgresql_url)
    broken = {**FUTURE, NEXT + 1: "ALTER TABLE {schema}.no_such_table ADD COLUMN a integer"}
    async with connected(postgresql_url) as connection:
        with pytest.raises(asyncpg.UndefinedTableError):
            await schema.migrate(connection, settings_of(postgresql_url), broken)
        assert await schema.version_of(connection, settings_of(postgresql_url)) == NOW
    async with opened(postgresql_url) as store:
        await commit(store, once("first"))


async def test_of_many_who_migrate_at_the_same_time_one_does(postgresql_url: str) -> None:
    found = await asyncio.gather(*(migrate_to_the_future(postgresql_url) for _ in range(5)))
    assert sorted(found) == [0, NEXT, NEXT, NEXT, NEXT]


async def test_stores_of_two_schemas_share_a_database_and_nothing_else(postgresql_url: str) -> None:
    other_url = f'{postgresql_url}-2 "quoted"'
    async with opened(postgresql_url) as one, opened(other_url) as other:
        await commit(one, once("first"))
        await commit(other, once("first"), once("second"))
        assert (await counted(one))[0] == 1
        assert (await counted(other))[0] == 2


@pytest_asyncio.fixture
async def limited(postgresql_url: str) -> AsyncIterator[str]:
    """Make a user who may do nothing yet; give the URL with it."""
    name = f"user_{secrets.token_hex(4)}"
    async with connected(postgresql_url) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pass'")
        yield f"postgresql://{name}:pass@{postgresql_url.rpartition('@')[2]}"
        await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_user_who_may_not_make_tables_is_told_who_can(limited: str) -> None:
    with pytest.raises(StoreSchemaError, match=r"no tables in the schema .* `floxide store migrate`"):
        await PostgresqlKeyValueStore.open(limited)
    assert "no tables" in (await examine(limited)).problems[0]


async def test_the_rights_that_a_check_lists_are_the_ones_a_worker_needs(postgresql_url: str, limited: str) -> None:
    await migrate(postgresql_url)
    with pytest.raises(StoreAccessRefusedError, match=r"may not do this: .* Grant what `floxide store check` lists"):
        await PostgresqlKeyValueStore.open(limited)
    granted = 0
    while problems := (await examine(limited)).problems:
        async with connected(postgresql_url) as connection:
            for problem in problems:
                await connection.execute(problem.partition("lacks a right: ")[2])
                granted += 1
        assert granted < 20
    assert granted == 2 + len(TABLES)  # and the schema, and the table of versions
    async with opened(limited) as store:
        await commit(store, once("first"))
        assert (await counted(store))[0] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda url, password: url.replace(password, "wrong"), "the password is wrong"),
        (lambda url, password: url.replace("?", "-none?"), "the database does not exist"),
        (lambda url, password: url.replace("://", "://no-one-"), "the password is wrong"),
    ],
    ids=["password", "database", "user"],
)
async def test_a_refused_login_is_a_sentence_without_the_password(postgresql_url: str, change, sentence: str) -> None:
    password = postgresql_url.partition("://")[2].partition(":")[2].partition("@")[0]
    with pytest.raises(StoreAccessRefusedError, match=sentence) as caught:
        await PostgresqlKeyValueStore.open(change(postgresql_url, password))
    assert password not in str(caught.value)
    assert "wrong@" not in str(caught.value)


async def test_durability_is_what_the_session_will_have(postgresql_url: str) -> None:
    for option, durability in (("", Durability.POWER_LOSS), ("&synchronous_commit=local", Durability.POWER_LOSS)):
        async with opened(postgresql_url + option) as store:
            assert store.durability is durability


async def test_a_server_that_reports_commits_early_is_told_not_to(postgresql_url: str) -> None:
    name = postgresql_url.rpartition("/")[2].partition("?")[0]
    async with connected(postgresql_url) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        try:
            async with opened(postgresql_url) as store:
                assert store.durability is Durability.POWER_LOSS
                async with store._connections.lend() as own:
                    assert await own.fetchval("SELECT current_setting('synchronous_commit')") == "on"
        finally:
            await connection.execute(f'ALTER DATABASE "{name}" RESET synchronous_commit')


async def test_a_session_says_who_it_is_and_has_limits(postgresql_url: str) -> None:
    async with (
        opened(postgresql_url, statement_timeout=7, lock_timeout=2) as store,
        store._connections.lend() as own,
    ):
        names = ("application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        values = [await own.fetchval("SELECT current_setting($1)", name) for name in names]
        assert values == ["floxide_amqp", "7s", "2s", "14s"]
        assert await own.fetchval("SELECT current_setting('default_transaction_isolation')") == "read committed"


def test_the_command_line_migrates_and_checks(postgresql_url: str) -> None:
    runner = CliRunner()
    before = runner.invoke(app, ["store", "check", "--store", postgresql_url])
    assert before.exit_code == 3
    assert "floxide store migrate" in " ".join(before.stderr.split())
    done = runner.invoke(app, ["store", "migrate", "--store", postgresql_url])
    assert (done.exit_code, f"was made with schema version {NOW}" in done.stdout) == (0, True)
    after = runner.invoke(app, ["store", "check", "--store", postgresql_url])
    assert after.exit_code == 0
    assert "power loss (fsync=on" in " ".join(after.stdout.split())
    password = postgresql_url.partition("://")[2].partition(":")[2].partition("@")[0]
    assert password not in before.output + done.output + after.output
