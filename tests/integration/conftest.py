from __future__ import annotations

from floxide_amqp.testing.postgresql_fixtures import (
    launched_postgresql,
    own_postgresql,
    postgresql_database,
    postgresql_url,
)
from floxide_amqp.testing.rabbitmq_fixtures import launched_rabbitmq, namespace, own_rabbitmq, rabbitmq_url

__all__ = [
    "launched_postgresql",
    "launched_rabbitmq",
    "namespace",
    "own_postgresql",
    "own_rabbitmq",
    "postgresql_database",
    "postgresql_url",
    "rabbitmq_url",
]
