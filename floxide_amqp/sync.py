"""For code without an event loop, such as Django's and Flask's views: `Client` and `Run`."""

from floxide_amqp.apps.sync_client import Client, Run

__all__ = ["Client", "Run"]
