"""Versions of a workflow: which is newer, and what a worker does with a run of a version that it does not have."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

_PARTS: Final = re.compile(r"\d+|[^\W\d_]+")


class VersionPolicy(Enum):
    """What a worker does with runs of an older version of a workflow, where it has only a newer one.

    A run of a version that the worker has is always run by that version, and a run of a newer version than it has is
    always left to others.
    """

    STRICT = "strict"
    """It leaves them to workers that have the older version: their items are parked until one comes."""

    COMPATIBLE = "compatible"
    """It runs them as they are, from those nodes on where both versions agree, checked node by node; else it parks."""

    AUTO_UPGRADE = "auto_upgrade"
    """It raises them to its own version, after the workflow's `migrate` if it has one."""


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return what versions are sorted by: their numbers as numbers, part by part; words come before numbers.

    Examples:
        >>> sorted(["1.10", "2", "1.9", "1.10-rc"], key=version_order)
        ['1.9', '1.10', '1.10-rc', '2']
    """
    parts: list[str] = _PARTS.findall(version)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part.lower()) for part in parts)


def is_newer(version: str, than: str) -> bool:
    """Whether a version comes after another one: ``2`` after ``1.10``, which comes after ``1.9``."""
    return version_order(version) > version_order(than)
