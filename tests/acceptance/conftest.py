from __future__ import annotations

from floxide_amqp.testing.rabbitmq_fixtures import launched_rabbitmq, namespace, own_rabbitmq, rabbitmq_url

__all__ = ["launched_rabbitmq", "namespace", "own_rabbitmq", "rabbitmq_url"]
