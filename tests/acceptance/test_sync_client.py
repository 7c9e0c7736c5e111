"""The client for threads in a server that forks its workers, used before and after the fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PREFORKING = """
import os, sys
from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.sync import Client

@node
async def double(n: int) -> int:
    return 2 * n

class Doubles(Workflow[int, int]):
    start = double

client = Client(Floxide(store=sys.argv[1], workflows=[Doubles]))
assert client.start(Doubles, 1, run_id="parent").result(timeout=60) == 2
children = []
for number in range(2):
    child = os.fork()
    if child == 0:
        assert client.start(Doubles, number, run_id=f"child-{number}").result(timeout=60) == 2 * number
        sys.exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert client.start(Doubles, 7, run_id="after").result(timeout=60) == 14
print(sorted(run.run_id for run in client.list_runs().runs))
"""


def test_a_server_that_forks_its_workers_gives_each_a_client_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(PREFORKING)
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(script), f"sqlite:///{tmp_path}/runs.db"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(["after", "child-0", "child-1", "parent"])
    assert done.stderr == ""
