"""The key-value store in Redis or Valkey, on one server or a Redis Cluster."""

from floxide_amqp.drivers.redis.address import address_of
from floxide_amqp.drivers.redis.administration import examine
from floxide_amqp.drivers.redis.key_value import RedisKeyValueStore

__all__ = ["RedisKeyValueStore", "address_of", "examine"]
