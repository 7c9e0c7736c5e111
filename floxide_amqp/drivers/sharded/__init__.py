"""One key-value store over several servers: a slot belongs to one of them, by its name."""

from floxide_amqp.drivers.sharded.key_value import ShardedKeyValueStore

__all__ = ["ShardedKeyValueStore"]
