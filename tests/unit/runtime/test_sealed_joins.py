"""Encrypted runs with joins in flight: values that wait at joins, folds and sweeps between their pages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import Encryption, NextAll, ReduceNode, RunStatus, Workflow, all_of, first, gather, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.codec import Codec
from floxide_amqp.runtime import folds, left_items
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import items
from tests.unit.runtime.test_sealed_runs import MakeSealed, SealedCluster, sealed

__all__ = ["sealed"]

SECRET = "rosebud"
KEY: tuple[Codec, ...] = (Encryption({"key": bytes(range(32))}, required=True),)


class Gates:
    """Steps of a test that wait until they are let go."""

    def __init__(self) -> None:
        self.right, self.right_at_work = asyncio.Event(), asyncio.Event()
        self.late_at_work = 0


def joining(gates: Gates) -> Any:
    """A workflow that joins edges, folds a fan-out in pages, and closes one early with much left in it."""

    @node
    async def begin(text: str) -> str:
        return text

    @node
    async def left(text: str) -> str:
        return f"{text} left"

    @node
    async def right(text: str) -> str:
        gates.right_at_work.set()
        await gates.right.wait()
        return f"{text} right"

    @node
    async def both(pair: tuple[str, str]) -> NextAll[str]:
        return NextAll([f"{pair[0]}, {pair[1]}, {number}" for number in range(7)])

    @node
    async def marked(text: str) -> str:
        return f"{text}!"

    def longest(most: str, text: str) -> str:
        return max(most, text)

    @node
    async def spread(text: str) -> NextAll[str]:
        return NextAll([text, *[f"{text} late"] * 20])

    @node
    async def race(text: str) -> str:
        if text.endswith("late"):
            gates.late_at_work += 1
            await asyncio.sleep(3600)
        return text

    @node
    async def end(text: str) -> str:
        return text

    class Joining(Workflow[str, str]):
        start = begin
        edges = (
            begin >> (left, right),
            all_of(left, right) >> both,
            both >> marked >> gather(ReduceNode(longest, "")) >> spread >> race >> first(end),
        )

    return Joining


EXPECTED = f"{SECRET} left, {SECRET} right, 6!"


def in_small_pages(patch: pytest.MonkeyPatch) -> None:
    for module in (folds, left_items, items):
        patch.setattr(module, "PAGE", 3)


async def test_joins_folds_and_sweeps_of_an_encrypted_run_leave_nothing_to_read(
    sealed: MakeSealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_pages(monkeypatch)
    gates = Gates()
    here = sealed(joining(gates), limits=Limits(concurrency=40))
    await here.worker_with(*KEY)
    client = here.client_with(*KEY)
    handle = await client.start(here.workflows[0], SECRET, run_id="run")
    await gates.right_at_work.wait()
    await asyncio.sleep(1)
    assert SECRET.encode() not in here.everything()
    gates.right.set()
    assert await handle.result(600) == EXPECTED
    await here.check_completed("run")
    swept = [item for item in await _all_items(here) if item.input.number and item.node.startswith("race")]
    assert swept, "what was left was swept in one page"
    assert SECRET.encode() not in here.everything()


async def test_a_worker_without_the_key_leaves_a_join_to_one_that_has_it(sealed: MakeSealed) -> None:
    gates = Gates()
    here = sealed(joining(gates))
    member = await here.worker_with(*KEY)
    client = here.client_with(*KEY)
    handle = await client.start(here.workflows[0], SECRET, run_id="run")
    await gates.right_at_work.wait()
    await handle.pause()
    await member.kill()
    await here.worker_with()
    await handle.resume()
    gates.right.set()
    await asyncio.sleep(30)
    assert await handle.status() is not RunStatus.FAILED
    await here.worker_with(*KEY)
    assert await handle.result(600) == EXPECTED
    await here.check_completed("run")


async def test_an_encrypted_run_whose_join_waits_goes_on_in_another_store(sealed: MakeSealed, tmp_path: Path) -> None:
    gates = Gates()
    workflow = joining(gates)
    here, there = sealed(workflow), sealed(workflow)
    there.store._guard = lambda *_: None  # type: ignore[method-assign]  # an import fills cells in its own order
    member = await here.worker_with(*KEY)
    handle = await here.client_with(*KEY).start(workflow, SECRET, run_id="run")
    await gates.right_at_work.wait()
    await asyncio.sleep(1)
    await handle.pause()
    await member.kill()
    await here.client_with().export_run("run", tmp_path / "run.file")  # it takes no key
    assert SECRET.encode() not in (tmp_path / "run.file").read_bytes()
    await there.client_with().import_run(tmp_path / "run.file")
    assert SECRET.encode() not in there.everything()
    await there.worker_with(*KEY)
    gates.right.set()
    moved = there.client_with(*KEY)
    await moved.resume("run")
    assert await moved.handle(workflow, "run").result(600) == EXPECTED
    await there.check_completed("run")


async def _all_items(here: SealedCluster) -> list[Any]:
    services = here.client_with(*KEY).services
    ids = [entry.item_id for entry in await here.history("run")]
    return [found.item for each in ids for found in await services.items.find(RunId("run"), (each,)) if found]
