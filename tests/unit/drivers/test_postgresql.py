"""What of the PostgreSQL driver needs no server: URLs, the table of errors, the locks, the answers."""

from __future__ import annotations

import asyncpg
import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql.commits import Group
from floxide_amqp.drivers.postgresql.errors import is_cut_off, store_error
from floxide_amqp.drivers.postgresql.program import Program, locks_of
from floxide_amqp.drivers.postgresql.settings import Settings, settings_of, shown_url
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    InvalidBatchError,
    StoreAccessRefusedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreSchemaError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
    Clear,
    Committed,
    Conflict,
    Key,
    Put,
    When,
)

URL = "postgresql://user:secret@host:5433/shop"
N, LOG = Key("run", "n"), Key("run", "log")


def test_the_options_of_a_url_are_taken_out_and_the_others_are_handed_on() -> None:
    found = settings_of(
        f"{URL}?schema=other&pool_size=7&statement_timeout=2.5&lock_timeout=1&connect_timeout=3"
        "&synchronous_commit=remote_apply&pooler=transaction&sslmode=require&application_name=shop"
    )
    assert found == Settings(
        url=f"{URL}?sslmode=require&application_name=shop",
        shown="postgresql://user@host:5433/shop",
        schema="other",
        pool_size=7,
        statement_timeout=2.5,
        lock_timeout=1,
        connect_timeout=3,
        synchronous_commit="remote_apply",
        has_pooler=True,
    )


def test_an_argument_wins_over_the_option_of_the_url() -> None:
    found = settings_of(
        f"{URL}?schema=other&pool_size=7&pooler=transaction", schema="mine", pool_size=2, has_pooler=False
    )
    assert (found.schema, found.pool_size, found.has_pooler) == ("mine", 2, False)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("pool_size=0", "pool_size"),
        ("pool_size=1.5", "pool_size"),
        ("pool_size=many", "pool_size"),
        ("statement_timeout=0", "statement_timeout"),
        ("lock_timeout=-1", "lock_timeout"),
        ("lock_timeout=nan", "lock_timeout"),
        ("connect_timeout=1e9", "connect_timeout"),
        ("synchronous_commit=off", "synchronous_commit"),
        ("pooler=statement", "pooler"),
        ("schema=" + "x" * 64, "schema"),
        ("schema=a%00b", "schema"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_without_the_password(option: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The option {says} of the store postgresql://user@host") as caught:
        settings_of(f"{URL}?{option}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:sec/ret@host/db",
        "postgresql://user:sec@ret:x@host:port/db",
        "postgresql://user:sec?ret@host/db",
        "postgresql://user:sec#ret@host/db",
        "postgresql://sec:123?ret@host/db",
        "postgresql://user:secret@[::1/db",
        "mysql://user:secret@host/db",
        "user:secret@host",
    ],
)
def test_a_misspelt_url_is_refused_without_showing_a_piece_of_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(url)
    assert "sec" not in str(caught.value)
    assert "ret@" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db",
        "postgres://h1:1,h2:2/db",
        "postgresql://u:p@[::1]:5432/db",
        "postgresql://u%40x:p%2F@h/d%20b",
    ],
)
def test_every_form_of_a_url_is_understood(url: str) -> None:
    assert ":p" not in shown_url(url)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40001", StoreUnavailableError),
        ("40P01", StoreUnavailableError),
        ("55P03", StoreUnavailableError),
        ("57014", StoreUnavailableError),
        ("53300", StoreUnavailableError),
        ("53200", StoreUnavailableError),
        ("58030", StoreUnavailableError),
        ("53100", StoreFullError),
        ("25006", StoreReadOnlyError),
        ("28P01", StoreAccessRefusedError),
        ("28000", StoreAccessRefusedError),
        ("3D000", StoreAccessRefusedError),
        ("42501", StoreAccessRefusedError),
        ("42P01", StoreSchemaError),
        ("42883", StoreSchemaError),
        ("XX001", StoreCorruptError),
        ("22003", InvalidBatchError),
        ("54000", InvalidBatchError),
        ("42601", StoreError),
    ],
)
def test_what_the_server_refused_was_not_applied_even_if_a_commit_was_sent(state: str, kind: type[StoreError]) -> None:
    refusal = asyncpg.PostgresError.new({"C": state, "M": "what it said"})
    error = store_error(refusal, store="s", is_sent_commit=True)
    assert type(error) is kind
    assert "what it said" in str(error) or kind is StoreSchemaError


@pytest.mark.parametrize(
    "lost",
    [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.PostgresError.new({"C": "57P01", "M": "terminating connection due to administrator command"}),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError("reset by peer"),
        EOFError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_connection_makes_a_sent_commit_unknown_and_anything_else_unavailable(lost: Exception) -> None:
    assert is_cut_off(lost)
    assert type(store_error(lost, store="s", is_sent_commit=True)) is CommitOutcomeUnknownError
    assert type(store_error(lost, store="s")) is StoreUnavailableError


def test_partitions_of_other_slots_and_other_stores_have_other_locks_in_ascending_order() -> None:
    partitions = [(slot, b"run-%d" % n) for slot in (1, 2) for n in range(50)]
    here, there = (locks_of(partitions, space=space) for space in (b"floxide", b"other"))
    assert here == sorted(set(here))
    assert len({*here, *there}) == 200
    assert locks_of(reversed(partitions), space=b"floxide") == here
    assert all(-(1 << 63) <= lock < 1 << 63 for lock in here)


def test_an_answer_is_followed_along_the_way_that_the_server_went() -> None:
    refused, short = Check(Key("run", "a"), ABSENT), CheckLength(LOG, 7)
    inner = When(N, 2, (Append(LOG, (b"x",)),), (Append(Key("run", "other"), (b"x",)),))
    batches = [
        Batch(slot=Slot(1), checks=(refused, short), writes=(Put(Key("run", "a"), b""),)),
        Batch(slot=Slot(1), writes=(Add(N, 2), Append(LOG, (b"a", b"b")), When(Key("run", "m"), 0, (inner,)))),
    ]
    program = Program(batches, space=b"s")
    second_check = 5
    answer = [second_check, 0, 40, 1, 0, 9, 12, 34]  # conflict; passed, position, two branches, position, two counters
    assert program.outcomes(answer) == (
        Conflict(short),
        Committed(positions={LOG: 40, Key("run", "other"): 9}, counters={N: 12, Key("run", "m"): 34}),
    )


def test_half_a_surrogate_pair_is_no_key() -> None:
    with pytest.raises(UnicodeEncodeError):
        Program([Batch(slot=Slot(1), writes=(Put(Key("\ud800", "a"), b""),))], space=b"s")


def test_a_clear_among_other_writes_is_refused_before_anything_is_sent() -> None:
    batch = Batch(slot=Slot(1), writes=(Clear("run", 1), Put(N, b"")))
    with pytest.raises(InvalidBatchError):
        Group([batch], settings_of(URL))
