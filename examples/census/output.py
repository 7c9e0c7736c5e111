"""The output folder: what lies where."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from examples.census.model import Report
from examples.census.reporting import to_json, to_text
from examples.census.workflow import CodeCensus

DEFAULT = Path("census-output")
DEFAULT_CLUSTER = DEFAULT / "cluster"


class FolderBusyError(Exception):
    """Another census writes to the folder."""


@dataclass(kw_only=True)
class Note:
    """What a census says of itself, for the checker and for the next one.

    Attributes:
        killed: Workers that were killed on purpose, each with the items it had begun and not completed.
    """

    run_id: str
    folder: str
    skip: tuple[str, ...]
    store: str
    killed: dict[str, list[str]] = field(default_factory=dict)


class Output:
    """An output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def store_url(self) -> str:
        """The store of runs that has not been put elsewhere."""
        return f"sqlite:///{quote(str(self.folder / 'census.db'))}"

    @property
    def report_json(self) -> Path:
        return self.folder / "report.json"

    @property
    def report_text(self) -> Path:
        return self.folder / "report.txt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other censuses out of the folder; the lock ends with the process.

        Raises:
            FolderBusyError: There is one in it.
        """
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusyError(
                    f"Another census is at work in {self.folder}; wait for it, or choose another --output."
                ) from None
            yield

    def write_report(self, report: Report) -> None:
        """Write the report and the workflow's graph."""
        self._write("report.json", to_json(report))
        self._write("report.txt", to_text(report))
        self._write("workflow.dot", CodeCensus.to_dot())
        self._write("workflow.mmd", CodeCensus.to_mermaid())

    def remove_report(self) -> None:
        """Make sure that no report of an earlier run is taken for this one's."""
        for path in (self.report_json, self.report_text):
            path.unlink(missing_ok=True)

    def write_note(self, note: Note) -> None:
        """Say what is going on here."""
        self._write("census.json", json.dumps(asdict(note), indent=2) + "\n")

    def read_note(self) -> Note | None:
        """Return what the last census here said of itself."""
        path = self.folder / "census.json"
        if not path.exists():
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        said["skip"] = tuple(said["skip"])
        return Note(**said)

    def _write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        fresh = self.folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self.folder / name)  # noqa: PTH105 - the same as Path.replace, and says what it is
