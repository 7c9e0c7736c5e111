from tests.unit.runtime.test_retention import *
from tests.unit.runtime.conftest import *
async def test_dbg(cluster):
    here = cluster(Squares, Branches)
    await here.start_worker()
    await ended(here, "run-17", RunStatus.FAILED)
    for _ in range(3):
        p = after(here, DAY)
        print("now", p._services.now_ms())
        await p.prune()
        print(remains(here.store, "run-17"))
    p = after(here, 2 * DAY + timedelta(minutes=1))
    print("now", p._services.now_ms(), await p._services.removal.expired(until_ms=p._services.now_ms()))
    await p.prune()
    print(remains(here.store, "run-17"))
