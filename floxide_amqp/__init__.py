"""Durable, distributed, typed workflows for Python, on the RabbitMQ you already run."""

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.local import Workflow
from floxide_amqp.core.node import node
from floxide_amqp.core.transition import Abort, Hold, Next, NextAll
from floxide_amqp.core.workflow_ctx import WorkflowCtx
