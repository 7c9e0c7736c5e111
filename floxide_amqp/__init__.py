"""Durable, distributed, typed workflows for Python, on the RabbitMQ you already run."""
