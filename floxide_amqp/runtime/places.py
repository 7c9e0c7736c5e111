"""Looking after what is kept in slots of its own and belongs to no run, when its timer is due."""

from __future__ import annotations

from floxide_amqp.core.limit_moves import LIMIT_PREFIX
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.dedupe import note_found
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.claims import CLAIM_PREFIX
from floxide_amqp.stores.rate_keys import RATE_PREFIX


async def look_after(services: Services, timer: Timer) -> bool:
    """Ask holders of a key whether they still need it, note that a claim's run was started, or remove what is over.

    Returns:
        Whether that is settled; if not, somebody else was faster with something.

    Raises:
        UnreadableRecordError: It cannot be read, or this release does not know what it is.
    """
    if timer.run_id.startswith(LIMIT_PREFIX):
        letters = await services.limit_keys.look_after(timer)
        services.on_letters(letters or ())
        return letters is not None
    if timer.run_id.startswith(RATE_PREFIX):
        return await services.rate_keys.look_after(timer)
    if timer.run_id.startswith(CLAIM_PREFIX):
        await note_found(services, timer)
        return await services.claims.look_after(timer)
    raise UnreadableRecordError(place=timer.run_id, problem="This release knows no such records.", is_newer=True)
