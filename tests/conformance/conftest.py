from __future__ import annotations

from floxide_amqp.testing.postgresql_fixtures import postgresql_database, postgresql_url

__all__ = ["postgresql_database", "postgresql_url"]
