"""Input made to fill the memory or to take for ever is refused first: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1024 * 1024

SCRIPT = """
import resource, sys, time
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import CodecError
from floxide_amqp.runtime.messages import decode_control, decode_event
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.encoding import decode_payload, unpack

anything = PayloadType.of(list[object], where="a test")
readers = [codec.decode_item, codec.decode_page, codec.decode_message, decode_control]
readers += [decode_event, unpack, lambda body: decode_payload(anything, body)]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def array(count, content):
    return b"\\xdd" + count.to_bytes(4, "big") + content

million = 1_000_000
nested = b"".join(b"\\xdd" + (4 * million).to_bytes(4, "big") for _ in range(1_000))
bodies = {
    "empty lists": lambda: array(10 * million, b"\\x90" * 10 * million),
    "empty lists by the million": lambda: array(10, array(million, b"\\x90" * million) * 10),
    "empty dicts by the million": lambda: array(10, array(million, b"\\x80" * million) * 10),
    "empty lists in a record": lambda: b"\\x92\\x01" + array(10 * million, b"\\x90" * 10 * million),
    "empty dicts in a record": lambda: b"\\x92\\x01" + array(10 * million, b"\\x80" * 10 * million),
    "bare empty lists": lambda: b"\\x90" * 10 * million,
    "short texts": lambda: array(3 * million, b"\\xa2ab" * 3 * million),
    "short texts in a record": lambda: b"\\x92\\x01" + array(3 * million, b"\\xa2ab" * 3 * million),
    "100,000 levels": lambda: b"\\x91" * 100_000,
    "levels of dicts": lambda: b"\\x81\\x01" * 100_000,
    "arrays that claim more than there is": lambda: nested + bytes(5 * million),
    "arrays that claim more than there is, small": lambda: nested,
    "a text of ten megabytes": lambda: b"\\xdb" + (10 * million).to_bytes(4, "big") + b"a" * 10 * million,
    "a number of ten megabytes": lambda: b"\\xc9\\x00\\x98\\x96\\x80\\x10" + b"\\x7f" * 10 * million,
}
for name, made in bodies.items():
    body = made()
    before, began = peak(), time.process_time()
    for read in readers:
        try:
            read(body)
        except CodecError:
            pass
    print(name, peak() - before, time.process_time() - began, sep="\t")
"""


@pytest.mark.fault(36)
@pytest.mark.timeout(400)
def test_bytes_made_to_fill_the_memory_are_refused_before_they_do() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=390, check=True)
    figures = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(figures) == SCRIPT.count("lambda:")
    for name, grown, seconds in figures:
        assert int(grown) < 330 * MEGABYTE, (name, grown)
        assert float(seconds) < 200, (name, seconds)
