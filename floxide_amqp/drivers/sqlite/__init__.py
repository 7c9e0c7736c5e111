"""The key-value store in one SQLite file: durable with nothing installed, shared by the processes of one machine."""

from floxide_amqp.drivers.sqlite.key_value import SqliteKeyValueStore
from floxide_amqp.drivers.sqlite.schema import Synchronous

__all__ = ["SqliteKeyValueStore", "Synchronous"]
