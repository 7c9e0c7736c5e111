from __future__ import annotations

import pytest

from floxide_amqp.drivers.redis.address import DEFAULT_TIMEOUT_SECONDS, address_of
from floxide_amqp.exceptions import ConfigurationError


def test_a_plain_url_has_the_defaults() -> None:
    found = address_of("redis://example.org")
    assert found.nodes == (("example.org", 6379),)
    assert (found.is_cluster, found.is_encrypted, found.accepts_loss) == (False, False, False)
    assert (found.prefix, found.timeout_seconds) == ("floxide", DEFAULT_TIMEOUT_SECONDS)
    assert found.shown == "redis://example.org:6379/0"


def test_a_full_url_is_taken_apart_and_shows_no_password() -> None:
    found = address_of("rediss://me:s3%40cret@h:7000/3?prefix=shop&timeout=2.5&durability=none&ssl_ca_certs=/ca.pem")
    assert found.nodes == (("h", 7000),)
    assert (found.prefix, found.timeout_seconds, found.accepts_loss, found.is_encrypted) == ("shop", 2.5, True, True)
    assert found.connection == {"username": "me", "password": "s3@cret", "db": 3, "ssl_ca_certs": "/ca.pem"}
    assert found.shown == "rediss://h:7000/3?prefix=shop"
    assert "cret" not in repr(found)


def test_a_cluster_has_several_nodes_and_no_database() -> None:
    found = address_of("redis+cluster://:pw@a:1,b,[::1]:3?prefix=p")
    assert found.nodes == (("a", 1), ("b", 6379), ("::1", 3))
    assert found.is_cluster
    assert "db" not in found.connection
    assert found.shown == "redis+cluster://a:1,b:6379,[::1]:3?prefix=p"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis://me:s3cret@h:notaport/0", "cannot be read"),
        ("mysql://me:s3cret@h", "another scheme"),
        ("redis://me:s3cret@a,b/0", "begin it with redis+cluster://"),
        ("redis+cluster://me:s3cret@a/1", "names a database"),
        ("redis://me:s3cret@h/orders", "no number"),
        ("redis://me:s3cret@h?prefx=a", "unknown parameters (prefx)"),
        ("redis://me:s3cret@h?prefix=", "a prefix that is empty"),
        ("redis://me:s3cret@h?prefix={a}", "braces"),
        ("redis://me:s3cret@h?timeout=0", "no number of seconds above 0"),
        ("redis://me:s3cret@h?timeout=soon", "no number of seconds above 0"),
        ("redis://me:s3cret@h?timeout=inf", "no number of seconds above 0"),
        ("redis://me:s3cret@h?durability=full", "not none"),
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_without_its_password(url: str, part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        address_of(url)
    assert part in str(caught.value)
    assert "Use redis://" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
