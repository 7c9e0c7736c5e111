"""Which runs are meant: the one way to say so, for lists of runs and for what is done to many runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from floxide_amqp.core.attributes import Attributes, AttributeValue, checked_attributes, equals, microseconds_of
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.stores import run_list_keys
from floxide_amqp.stores.attributes import attribute_index
from floxide_amqp.stores.run_lists import Lists
from floxide_amqp.stores.runs import STORED_AS, StoredRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Runs that have all of this; without anything, all runs.

    `searching.find_runs` returns a page of them, `searching.all_runs` goes through all, newest first.

    Attributes:
        status: Their status, also a derived one (waiting).
        workflow: Their workflow's name, any version.
        attributes: What they have to have; they may have more. 1 finds 1.0, no bool finds a number.
        started_after: Started then or later; an aware instant, of which milliseconds count.
        started_before: Started earlier; the same.

    Raises:
        InvalidAttributeError: No run can have such an attribute.
        DefinitionError: An instant has no time zone, or something is of another type.
    """

    status: RunStatus | None = None
    workflow: str | None = None
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    started_after: datetime | None = None
    started_before: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", checked_attributes(self.attributes))
        _check_type("status", self.status, RunStatus, "RunStatus.FAILED, or RunStatus('failed')")
        _check_type("workflow", self.workflow, str, "the workflow's name, such as 'OrderProcessing'")
        for name in ("started_after", "started_before"):
            given: datetime | None = getattr(self, name)
            _check_type(name, given, datetime, "an instant, such as datetime.now(UTC)")
            if given is not None and given.utcoffset() is None:
                raise DefinitionError(f"{name}={given!r} needs a time zone, as datetime.now(UTC) has.")

    @property
    def lists(self) -> Sequence[Lists]:
        """The lists of the store in which such a run is, of each tuple in one."""
        lists: list[Lists] = [(attribute_index(name, value),) for name, value in self.attributes.items()]
        if self.status is not None:
            lists.append(
                tuple(run_list_keys.runs_with_status(each) for each in STORED_AS.get(self.status, (self.status,)))
            )
        if self.workflow is not None:
            lists.append((run_list_keys.runs_of_workflow(self.workflow),))
        return lists or [(run_list_keys.RUNS,)]

    @property
    def between(self) -> tuple[str, str | None]:
        """Behind and before which entries of those lists such runs are."""
        return run_list_keys.entries_between(_milliseconds(self.started_after), _milliseconds(self.started_before))

    def fits(self, run: StoredRun, attributes: Attributes) -> bool:
        """Whether a run, as it is now, is meant."""
        header = run.header
        after, before = _milliseconds(self.started_after), _milliseconds(self.started_before)
        return (
            self.status in (None, run.status)
            and self.workflow in (None, header.workflow)
            and (after is None or header.created_at_ms >= after)
            and (before is None or header.created_at_ms < before)
            and all(name in attributes and equals(attributes[name], value) for name, value in self.attributes.items())
        )


def _milliseconds(instant: datetime | None) -> int | None:
    """Return an instant as milliseconds since 1970, rounded up."""
    return None if instant is None else -(-microseconds_of(instant) // 1000)


def _check_type(name: str, given: object, wanted: type, example: str) -> None:
    """Refuse what no run could have, and what would silently be none."""
    if given is not None and not isinstance(given, wanted):
        shown = given.__name__ if isinstance(given, type) else repr(given)
        raise DefinitionError(f"{name}={shown} finds no run. Give {example}.")
