from __future__ import annotations

from pathlib import Path

from floxide_amqp.apps.state_machine_docs import render
from floxide_amqp.core.statuses import ITEM_TRANSITIONS, RUN_TRANSITIONS, RunStatus, WorkItemStatus

PAGE = Path(__file__).parents[3] / "docs" / "state-machine.md"


def test_the_page_is_what_the_tables_say() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == render(), "write it again: python -m floxide_amqp.apps.state_machine_docs > docs/state-machine.md"


def test_the_page_says_of_every_state_what_it_means_and_what_may_follow() -> None:
    text = render()
    for state in (*RunStatus, *WorkItemStatus):
        assert f"| `{state}` | " in text
    for table in (RUN_TRANSITIONS, ITEM_TRANSITIONS):
        for state, followers in table.items():
            for follower in followers:
                assert f"  {state.replace(' ', '_')} --> {follower.replace(' ', '_')}\n" in text
