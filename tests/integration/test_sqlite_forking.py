"""A SQLite file that is open in a process that forks: whoever opens it afterwards finds true locks, and loses nothing.

Each test is a program of its own, as the tests' process has threads that a fork would leave behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BEGIN = """
import asyncio, gc, os, sys, threading, weakref
from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, statements
from floxide_amqp.drivers.sqlite.forking import CALLS
from floxide_amqp.exceptions import StoreClosedError, StoreError
from floxide_amqp.ports.key_value import Add, Batch, Key, Read

PATH = sys.argv[1]
SLOT = Slot(1)

async def commit(store, name):
    await store.commit([Batch(slot=SLOT, writes=(Add(Key("run-1", name), 1),))])

async def counted(store, *names):
    keys = tuple(Key("run-1", name) for name in names)
    return (await store.read([Read(slot=SLOT, counters=keys)])).snapshots[0].counters

def opened(**options):
    return SqliteKeyValueStore.open(PATH, **options)

async def commit_anew(name):
    store = await opened(lock_timeout=1)
    await commit(store, name)
    await store.aclose()

def forked(main):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(asyncio.wait_for(main(), 20))
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child

def ended_well(child):
    return os.waitpid(child, 0)[1] == 0

def in_transactions(action):
    look_up = statements.look_up_numbers
    def replaced(*arguments):
        action()
        return look_up(*arguments)
    statements.look_up_numbers = replaced
"""


def run(program: str, tmp_path: Path) -> str:
    script = tmp_path / "program.py"
    script.write_text(BEGIN + program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(script), str(tmp_path / "s.db")],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_fork_waits_for_the_transaction_under_way(tmp_path: Path) -> None:
    program = """
within, go_on = threading.Event(), threading.Event()
in_transactions(lambda: (within.set(), go_on.wait(20)))

def writes():
    async def main():
        store = await opened()
        await commit(store, "parent")
        await store.aclose()
    asyncio.run(main())

thread = threading.Thread(target=writes)
thread.start()
assert within.wait(20)
threading.Timer(0.3, go_on.set).start()
assert ended_well(forked(lambda: commit_anew("child")))
thread.join()

async def look():
    store = await opened()
    print(await counted(store, "parent", "child"))
    await store.aclose()

asyncio.run(look())
"""
    assert run(program, tmp_path) == "(1, 1)"


def test_children_that_are_forked_beside_reads_and_commits_can_all_write(tmp_path: Path) -> None:
    program = """
over = threading.Event()

def works():
    async def main():
        store = await opened()
        while not over.is_set():
            await asyncio.gather(commit(store, "parent"), counted(store, "parent"), counted(store, "child"))
        await store.aclose()
    asyncio.run(main())

thread = threading.Thread(target=works)
thread.start()
print(all([ended_well(forked(lambda: commit_anew("child"))) for _ in range(10)]))
over.set()
thread.join()

async def look():
    store = await opened()
    print(await counted(store, "child"))
    await store.aclose()

asyncio.run(look())
"""
    assert run(program, tmp_path).split("\n") == ["True", "(10,)"]


def test_what_a_child_commits_after_its_parent_has_closed_the_file_is_kept(tmp_path: Path) -> None:
    program = """
async def main():
    store = await opened()
    await commit(store, "parent")
    (ready, tell_ready), (closed, tell_closed) = os.pipe(), os.pipe()

    async def child():
        own = await opened()
        await commit(own, "child")
        os.write(tell_ready, b"x")
        os.read(closed, 1)
        await commit(own, "child")
        await own.aclose()

    # The child of another thread, in which no event loop is running.
    number = await asyncio.to_thread(forked, child)
    os.read(ready, 1)
    await store.aclose()
    os.write(tell_closed, b"x")
    assert ended_well(number)
    store = await opened()
    print(await counted(store, "parent", "child"))
    await store.aclose()

asyncio.run(main())
"""
    assert run(program, tmp_path) == "(1, 2)"


def test_the_process_that_forks_goes_on_and_its_child_finds_the_store_closed(tmp_path: Path) -> None:
    program = """
async def main():
    store = await opened()
    await commit(store, "parent")

    async def child():
        for use in (counted(store, "parent"), commit(store, "child")):
            try:
                await use
            except StoreClosedError:
                print("closed", flush=True)
        await store.aclose()

    assert ended_well(await asyncio.to_thread(forked, child))
    await commit(store, "parent")
    print(await counted(store, "parent", "child"))
    await store.aclose()

asyncio.run(main())
"""
    assert run(program, tmp_path).split("\n") == ["closed", "closed", "(2, 0)"]


def test_a_fork_from_within_a_call_does_not_wait_for_itself_and_its_child_opens_nothing(tmp_path: Path) -> None:
    program = """
children = []

async def child():
    try:
        await opened()
    except StoreError as error:
        print(error, flush=True)

in_transactions(lambda: children or children.append(forked(child)))

async def main():
    store = await opened()
    await commit(store, "parent")
    assert ended_well(children[0])
    print(await counted(store, "parent"))
    await store.aclose()

asyncio.run(main())
"""
    said, found = run(program, tmp_path).split("\n")
    assert said.startswith("This process was forked while its parent was within a call of SQLite")
    assert found == "(1,)"


def test_a_store_that_nobody_needs_any_more_is_not_kept_for_forks(tmp_path: Path) -> None:
    program = """
async def main():
    store = await opened()
    kept = len(CALLS._keepers)
    await store.aclose()
    del store
    gc.collect()
    print(kept, len(CALLS._keepers))

asyncio.run(main())
"""
    assert run(program, tmp_path) == "2 0"
