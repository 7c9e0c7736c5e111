"""The `floxide` command: run workflows here, work for others, start and steer runs, and look at them.

It holds no logic of the engine: each command is one or two calls of an orchestrator or a worker, put into words.
"""

from floxide_amqp.apps.cli.main import main

__all__ = ["main"]
