"""What compression and encryption cost: processor time of a step that hands a text on, in memory, in this process.

All combinations take turns, round by round, and the best round of each counts: whatever else runs makes them slower,
never faster. The text is English-like: words, of which zlib makes about a third.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Sequence

from benchmarks.growth import FOREVER
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.stored import STORED_WORKFLOWS, Carried, Courier
from benchmarks.throughput import check
from floxide_amqp import Codec, Compression, Encryption, Floxide

WORDS = """
the of and to in that was with from which order parcel customer street invoice amount paid delivered returned between
without together although weather morning evening yesterday tomorrow number article nineteen forty two
"""

SIZES = (100, 2_000, 20_000, 200_000)
STEPS = 200


def codecs() -> dict[str, tuple[Codec, ...]]:
    """Return the codecs that are compared."""
    key = base64.b64encode(bytes(range(32))).decode()
    encryption = Encryption({"bench": key})
    return {
        "none": (),
        "Compression()": (Compression(),),
        "Encryption()": (encryption,),
        "both": (Compression(), encryption),
    }


def text_of(size: int) -> str:
    """Return so many characters of words."""
    words = random.Random(size)
    text = ""
    while len(text) < size:
        text += " ".join(words.choices(WORDS.split(), k=1 + size // 8)) + " "
    return text[:size]


async def measure_codecs(sizes: Sequence[int], steps: int, rounds: int) -> list[dict[str, object]]:
    """Measure every combination with every size; a row for each size, in microseconds per step."""
    best: dict[tuple[int, str], float] = {}
    with phase("codecs: rounds", rounds) as on_progress:
        for number in range(rounds):
            for size in sizes:
                for name, chain in codecs().items():
                    took = await _measure(text_of(size), steps, chain)
                    best[size, name] = min(took, best.get((size, name), took))
            on_progress(number + 1)
    rows: list[dict[str, object]] = []
    for size in sizes:
        costs = {f"us_per_step_{name}": round(best[size, name], 1) for name in codecs()}
        rows.append({"payload_bytes": size, "steps": steps, "rounds": rounds, **costs})
    return rows


async def _measure(text: str, steps: int, chain: tuple[Codec, ...]) -> float:
    async with Floxide(workflows=STORED_WORKFLOWS, codec=chain).orchestrator() as orchestrator:
        began = time.process_time()
        handle = await orchestrator.start(Courier, Carried(steps, text))
        check(await handle.result(timeout=FOREVER) == text, expected=True)
        return (time.process_time() - began) / steps * 1e6


def codecs_table(rows: Sequence[dict[str, object]]) -> str:
    names = list(codecs())
    return table(
        ("payload", *names), [(f"{row['payload_bytes']:,} B", *(_cell(row, name) for name in names)) for row in rows]
    )


def _cell(row: dict[str, object], name: str) -> str:
    took, without = (float(str(row[f"us_per_step_{each}"])) for each in (name, "none"))
    return f"{took:,.0f} µs" + ("" if name == "none" else f" (\u00d7{took / without:.1f})")
