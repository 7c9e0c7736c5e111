"""The key-value store in PostgreSQL: shared by any number of machines; needs ``floxide-amqp[postgresql]``."""

from floxide_amqp.drivers.postgresql.administration import examine, migrate
from floxide_amqp.drivers.postgresql.key_value import PostgresqlKeyValueStore
from floxide_amqp.drivers.postgresql.settings import settings_of

__all__ = ["PostgresqlKeyValueStore", "examine", "migrate", "settings_of"]
