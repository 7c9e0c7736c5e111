"""Asking for a concurrency key, which may lie on another server of the store than the run that needs it."""

from __future__ import annotations

import asyncio

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.limit_moves import place_of
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.letters import PATIENCE_SECONDS
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.limit_keys import Changed, Changing
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.limits")


async def ask_for_key(services: Services, run_id: RunId, limit_id: str, taking: Changing) -> Changed:
    """Ask for a key; where its server is down, not for long: no worker's slot waits for that.

    A key whose record cannot be read is out of reach as well: no run has done anything wrong.
    """
    place = place_of(limit_id)
    if services.is_out_of_reach(place):
        return Changed(None)
    is_far = services.session.beside(place) is not services.session.beside(run_id)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS if is_far else None):
            shown = services.key_names.shown(services.sealing, limit_id)
            return await services.limit_keys.change(limit_id, taking, shown)
    except (TimeoutError, UnreadableRecordError, *WAITED_FOR) as error:  # the holder, if it is one, is told so
        _log.info("limit.out_of_reach", run_id=run_id, limit=limit_id, error=str(error))
        return Changed(None)
