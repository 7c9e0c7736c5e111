from __future__ import annotations

from floxide_amqp.testing.postgresql_fixtures import (
    launched_postgresql,
    own_postgresql,
    postgresql_database,
    postgresql_url,
)
from floxide_amqp.testing.rabbitmq_fixtures import launched_rabbitmq, namespace, own_rabbitmq, rabbitmq_url
from floxide_amqp.testing.redis_fixtures import (
    launched_redis,
    own_redis,
    redis_cluster_server_url,
    redis_cluster_url,
    redis_server_url,
    redis_url,
)

__all__ = [
    "launched_postgresql",
    "launched_rabbitmq",
    "launched_redis",
    "namespace",
    "own_postgresql",
    "own_rabbitmq",
    "own_redis",
    "postgresql_database",
    "postgresql_url",
    "rabbitmq_url",
    "redis_cluster_server_url",
    "redis_cluster_url",
    "redis_server_url",
    "redis_url",
]
