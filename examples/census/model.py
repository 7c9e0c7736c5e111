"""What travels between the nodes of the census, and what comes out at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is to be counted: the files below `folder`, without the directories named in `skip`."""

    folder: str
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One file that could be parsed; `imports` are the names of modules it may import, sorted."""

    path: str
    module: str
    lines: int
    functions: int
    classes: int
    branches: int
    imports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """One file that could not."""

    path: str
    error: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    files: int
    parsed: int
    unreadable: int
    lines: int
    functions: int
    classes: int
    branches: int
    imports: int
    """Pairs of a file and a module of this folder that it imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    path: str
    lines: int
    functions: int
    branches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A module, by how many others it is imported, and how many it imports itself."""

    module: str
    imported_by: int
    imports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result. `digest` covers every single measure, so that equal reports mean equal measures."""

    totals: Totals
    largest: tuple[Size, ...]
    hubs: tuple[Hub, ...]
    unreadable: tuple[Unreadable, ...]
    digest: str
