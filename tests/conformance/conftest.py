from __future__ import annotations

from floxide_amqp.testing.postgresql_fixtures import postgresql_database, postgresql_url
from floxide_amqp.testing.redis_fixtures import (
    redis_cluster_server_url,
    redis_cluster_url,
    redis_server_url,
    redis_url,
)

__all__ = [
    "postgresql_database",
    "postgresql_url",
    "redis_cluster_server_url",
    "redis_cluster_url",
    "redis_server_url",
    "redis_url",
]
