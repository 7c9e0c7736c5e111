"""The application: for embedded use, for clients and for workers, as the environment says."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.census.workflow import CodeCensus
from floxide_amqp import Floxide, Limits
from floxide_amqp.apps.settings import read_settings
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE

SHARED_STORE = "sqlite:///census.db"
"""Where workers keep their runs unless FLOXIDE_STORE says otherwise."""

LIMITS = Limits(concurrency=16, threads=4)
"""Parsing holds the interpreter's lock: threads only overlap it with reading and with the store's commits."""


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Counted sources may warn of themselves when parsed (invalid escapes and the like); that is not our business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def make_app(*, broker: str | None, store: str | None) -> Floxide:
    """Return the census as an application; FLOXIDE_NAMESPACE keeps several apart on one broker."""
    namespace = os.environ.get("FLOXIDE_NAMESPACE") or DEFAULT_NAMESPACE
    return Floxide(broker, store=store, workflows=[CodeCensus], lifespan=lifespan, namespace=namespace, limits=LIMITS)


def app_from_environment() -> Floxide:
    """Return the application that FLOXIDE_BROKER and FLOXIDE_STORE describe."""
    settings = read_settings()
    store = settings.store or (SHARED_STORE if settings.broker else None)
    return make_app(broker=settings.broker, store=store)


app = app_from_environment()
