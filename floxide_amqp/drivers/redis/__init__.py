"""The key-value store in Redis or Valkey, on one server or a Redis Cluster."""

from floxide_amqp.drivers.redis.key_value import RedisKeyValueStore

__all__ = ["RedisKeyValueStore"]
