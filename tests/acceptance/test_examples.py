"""Every example does what it shows."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from examples import (
    amqp_source,
    approval,
    article,
    batch,
    branching,
    cancellation,
    channel,
    checkpoint,
    children,
    configured,
    distributed,
    django_reports,
    drawing,
    fallback,
    flask_orders,
    generic,
    merge,
    nested,
    orchestrated,
    orders,
    retry_node,
    retry_workflow,
    schedules,
    single,
    split,
    timeout,
    timer,
)
from floxide_amqp.testing.services import URL_VARIABLE

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in ("__init__", "cluster"))
NEEDS_BROKER = {"amqp_source", "distributed"}


@pytest.fixture
def shared_broker(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, rabbitmq_url)


async def test_orders_that_cannot_be_paid_or_filled_take_their_own_way_out() -> None:
    assert await orders.main() == [
        "Ada paid 30; shipped 3 pen",
        "Ada, please use another card for pen: the card is expired",
        "Ada paid 40; refunded 40, no pen: 2 left",
    ]


async def test_an_expense_is_approved_and_another_goes_to_the_director_when_nobody_decides() -> None:
    assert await approval.main() == [
        "Ada's 30 euros: approved by Grace",
        "Bob's 900000 euros: refused (a boat will do) by Edsger",
    ]


def test_flask_views_start_show_and_find_runs_from_threads() -> None:
    placed, again, receipt, shown, found, missing, other = flask_orders.main()
    assert placed == again == {"run": "order-17"}
    assert receipt == {"receipt": "Ada paid 30; shipped pen"}
    assert shown == {"run": "order-17", "status": "completed", "stage": "shipped"}
    assert found == {"orders": ["order-17"], "next": ""}
    assert (missing, other) == (404, 409)


def test_django_views_start_and_show_runs_from_threads() -> None:
    assert django_reports.main() == [{"run": "may"}, {"status": "completed", "report": "4 words"}, 404]


async def test_branching_follows_types_guards_and_enum_members() -> None:
    assert await branching.main() == [
        "paid 20 at once",
        "reviewed: pay",
        "reviewed: refuse",
        "a manager looks at 20000",
    ]


async def test_split_keeps_the_order_of_lines_and_words_and_the_empty_line() -> None:
    assert await split.main() == "THE QUICK BROWN FOX /  / JUMPS OVER"


async def test_merge_goes_on_once_with_what_all_branches_brought() -> None:
    assert await merge.main() == 1 + 4 + 9


async def test_batch_keeps_at_most_three_in_flight() -> None:
    assert await batch.main() == "20 unloaded, from c0 to c19; never more than 3 at a time"


async def test_retry_on_a_node_obeys_its_policy() -> None:
    assert await retry_node.main() == [
        "http://example.org answered at attempt 3",
        "ValueError after 1: 'example.org' is no URL",
        "ConnectionError after 2: the server is asleep",
    ]


async def test_retry_in_the_workflow_holds_where_a_node_has_no_policy() -> None:
    assert await retry_workflow.main() == [
        "stored 6.0 after 1 success",
        "store was tried 1 time: 600.0 is off the scale",
    ]


async def test_fallback_takes_the_edge_of_the_error() -> None:
    assert await fallback.main() == [
        "Paris: big map",
        "Rome: small map",
        "Oslo: nobody knows, ask_big_map failed 2 with ConnectionError",
        "Atlantis: nobody knows, ask_big_map failed 1 with KeyError",
    ]


async def test_checkpoint_resumes_at_the_step_that_failed(tmp_path: Path) -> None:
    assert await checkpoint.main(tmp_path) == [
        "Run 'monday' was never started in this store, so there is nothing to resume. Use run_with_checkpoint.",
        "bake: the oven is cold",
        "6 loaves, kneaded 1 time",
        (
            "Run 'monday' has completed already, so there is nothing to resume. Read its result: run_with_checkpoint "
            "with the same id and input returns it, and `floxide status` shows it."
        ),
    ]


async def test_cancellation_reaches_the_node_at_work() -> None:
    assert await cancellation.main() == [
        "Run 'late' was cancelled (by its node look_at_the_clock); it has no result.",
        "Run 'novel' was cancelled (the publisher is broke); it has no result.",
        "tidied up after 'Ulysses', cancelled: True",
    ]


async def test_timeouts_end_a_node_and_a_run() -> None:
    assert await timeout.main() == [
        "yes",
        "when? perhaps (Node 'ask_the_oracle' did not end within its timeout of 0.05 s.)",
        "Pozzo came",
        "a run had 0.5 s",
    ]


async def test_children_are_gathered_and_one_that_goes_on_ends_with_its_parent() -> None:
    assert await children.main() == [
        "to Ada, not to Bert, to Cleo",
        "completed, completed, failed",
        "Sowing of garden: cancelled",
    ]


async def test_a_nested_workflow_runs_alone_and_inside_another() -> None:
    assert await nested.main() == [
        "peeled clean pear",
        "juice of a peeled clean apple, by way of prepare/wash and prepare/peel",
    ]


async def test_a_generic_node_needs_its_type() -> None:
    product, song, mistake = await generic.main()
    assert (product, song) == (42, "la la")
    assert "Write Repeat[int](…) with the types in brackets." in mistake


async def test_a_configured_node_is_used_twice_over_one_context() -> None:
    assert await configured.main() == (258.0, ["service 20.00", "tax 38.00"])


async def test_a_schedule_starts_runs_at_its_times_and_one_now() -> None:
    first, *rest = await schedules.main()
    assert first == "next at 09:00 in Berlin: True"
    assert rest == ["report@trigger-today: sales until today", "started: 1, missed: 0"]


async def test_a_timer_starts_one_run_per_tick() -> None:
    assert sorted(await timer.main(0.001)) == [f"tick-{n}: the meter shows {100 + 3 * n}" for n in range(5)]


async def test_a_channel_starts_one_run_per_key() -> None:
    assert await channel.main() == ["3 runs", "hello Ada", "hello Ada", "hello Edsger", "hello Grace"]


@pytest.mark.parametrize("seed", range(5))
async def test_orchestrated_runs_fail_and_are_resumed_until_they_are_through(seed: int) -> None:
    storms = orchestrated.Weather(seed).storms
    text, failures = await orchestrated.main(seed)
    assert text == "12 legs sailed, 506 miles"
    assert 0 < len(failures) <= sum(storms.values())
    assert set(failures) <= {f"storm over part {part}" for part, count in storms.items() if count}


async def test_a_single_node_is_a_workflow() -> None:
    assert await single.main() == 42


async def test_an_article_is_improved_until_its_review_is_good() -> None:
    assert await article.main() == (
        "LIGHTHOUSES: Little is known about the origins of lighthouses. "
        "Little is known about the uses of lighthouses.!! (8 calls)"
    )


def test_a_drawing_shows_every_node_and_the_failure_edges() -> None:
    dot = drawing.main()
    assert dot.startswith('digraph "OrderProcessing" {')
    assert '"charge" -> "reserve";' in dot
    assert (
        '"charge" -> "ask_for_other_card" [label="on_failure(PaymentDeclinedError)", style=dashed, color=red];' in dot
    )
    assert drawing.main("mermaid").startswith("flowchart LR")


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("shared_broker")
def test_each_message_of_a_queue_becomes_one_run_and_what_makes_no_sense_is_kept() -> None:
    *lines, reason = amqp_source.main()
    assert lines == ["2 pen shipped", "1 ink shipped", "2 started, 1 twice, 1 unusable"]
    assert reason.startswith("The body for workflow 'Shipping' must be Order")


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("shared_broker")
def test_distributed_work_is_done_by_several_processes() -> None:
    results = distributed.main(workers=2)
    assert [result["letters"] for result in results] == [350] * 3
    assert max(result["processes"] for result in results) <= 2


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("shared_broker")
def test_merge_by_hold_fires_exactly_once_on_three_workers() -> None:
    seen = merge.main_cluster(times=10, workers=3)
    assert seen["result right, fired 1 x, held 5 x"] == 10
    assert sum(count for what, count in seen.items() if what.startswith("result")) == 10


def test_the_table_of_examples_is_complete() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in PROGRAMS if f"[{name}.py]({name}.py)" not in table] == []


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in NEEDS_BROKER])
def test_an_example_is_a_program(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_an_example_runs_as_its_readers_run_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.branching"], cwd=EXAMPLES.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "paid 20 at once"
    assert done.stderr == ""
