"""Implementations of the ports: memory, SQLite, AMQP."""
