"""The application: for embedded use, for clients and for workers, as the environment says."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.census.workflow import CodeCensus
from floxide_amqp import Floxide, Limits

LIMITS = Limits(concurrency=16, threads=4)
"""Parsing holds the interpreter's lock: threads only overlap it with reading and with the store's commits."""


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Counted sources may warn of themselves when parsed (invalid escapes and the like); that is not our business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def make_app(*, broker: str | None, store: str | None, namespace: str = "floxide") -> Floxide:
    """Return the census as an application."""
    return Floxide(
        broker, store=store, workflows=[CodeCensus], lifespan=lifespan, namespace=namespace, limits=LIMITS
    )  # fmt: skip


def app_from_environment() -> Floxide:
    """Return the application that FLOXIDE_BROKER, FLOXIDE_STORE and FLOXIDE_NAMESPACE describe."""
    return make_app(
        broker=os.environ.get("FLOXIDE_BROKER") or None,
        store=os.environ.get("FLOXIDE_STORE") or None,
        namespace=os.environ.get("FLOXIDE_NAMESPACE") or "floxide",
    )


app = app_from_environment()
