"""All the patterns, one after the other."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("p[0-9]*.py"))


async def main() -> None:
    for name in NAMES:
        print(f"{name}:")
        for line in await importlib.import_module(f"examples.patterns.{name}").main():
            print(f"    {line}")


if __name__ == "__main__":
    asyncio.run(main())
