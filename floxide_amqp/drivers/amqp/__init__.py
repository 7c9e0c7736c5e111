"""RabbitMQ behind the work queue and control ports; the one place where aio-pika is imported."""
