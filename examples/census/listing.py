"""Which files there are, and what they are called.

The same that ``find FOLDER ! -type d -name '*.py'`` finds: hidden ones and symbolic links included, links to
directories not entered. Names are made printable, one line each, and can be turned back into the file's name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from examples.census.model import Survey

INSTALLED = ("dist-packages", "site-packages")
"""Directories inside the standard library's that hold what was installed on top of it."""

_ESCAPED = re.compile(r"\\(\\|n|r|udc[0-9a-f]{2})")
_PLAIN = {"\\": "\\", "n": "\n", "r": "\r"}


def standard_library() -> Survey:
    """Return the survey of the running interpreter's standard library."""
    return Survey(folder=os.path.realpath(sysconfig.get_path("stdlib")), skip=INSTALLED)


def list_sources(survey: Survey) -> list[str]:
    """Return the printable relative names of all files, sorted."""
    return sorted(printable(str(path.relative_to(survey.folder))) for path in _walk(survey))


def package_of(folder: str) -> str:
    """Return the dotted name of the package that a folder is; empty if it is none."""
    names: list[str] = []
    here = Path(folder)
    while (here / "__init__.py").exists() and here != here.parent:
        names.insert(0, here.name)
        here = here.parent
    return ".".join(names)


def find_command(survey: Survey) -> str:
    """Return the shell command that finds the same files."""
    pruned = "".join(f"-type d -name {shlex.quote(name)} -prune -o " for name in survey.skip)
    shown = " -print" if pruned else ""
    return f"find {shlex.quote(survey.folder)} {pruned}! -type d -name '*.py'{shown}"


def fingerprint(survey: Survey) -> str:
    """Return what tells this folder as it is now from others: names, sizes and times of change."""
    digest = hashlib.sha256(repr((survey.folder, survey.skip)).encode("utf-8", "backslashreplace"))
    for path in sorted(_walk(survey)):
        status = path.lstat()
        digest.update(f"{printable(str(path))}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def printable(name: str) -> str:
    r"""Return a file's name on one line of UTF-8: ``\``, line ends and undecodable bytes are escaped."""
    name = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return name.encode("utf-8", "backslashreplace").decode()


def unprintable(text: str) -> str:
    """Return the file's name of a printable one."""
    return _ESCAPED.sub(lambda found: _PLAIN.get(found[1]) or chr(int(found[1][1:], 16)), text)


def _walk(survey: Survey) -> Iterator[Path]:
    folders = [survey.folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in survey.skip:
                        folders.append(entry.path)
                elif entry.name.endswith(".py"):
                    yield Path(entry.path)
