"""What both versions share: how quickly workers notice each other, and the signal that lets an order go on."""

from __future__ import annotations

import os

from floxide_amqp import Signal, Timeouts

NAMESPACE = os.environ.setdefault("ROLLING_DEPLOY_NAMESPACE", f"rolling-deploy-{os.getpid()}")
"""Of the queues on the broker: the conductor's own, which its worker processes inherit."""

GO = Signal("go", bool)

QUICK = Timeouts(heartbeat=0.5, dead_after=5.0, maintenance=0.3, probe=2.0, publish_retry=0.5, drain=20.0)
