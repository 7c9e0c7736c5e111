from __future__ import annotations
from floxide_amqp import *
from tests.unit.runtime.cluster import Cluster
@node
async def split(x: int) -> NextAll[int]:
    return NextAll([x+i for i in range(3)])
@node
async def inc(x: int) -> int:
    return x+1
@node
async def add(xs: list[int]) -> int:
    return sum(xs)
class W(Workflow[int,int]):
    start = split
    edges = (split >> inc >> gather(add),)
async def test_it(cluster):
    c = cluster(W)
    await c.start_worker(); await c.start_worker()
    h = await c.client().start(W, 5, run_id="r")
    assert await h.result(60) == 21
    await c.check_completed("r")
