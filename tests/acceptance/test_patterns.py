"""Each workflow pattern is done as the pattern demands, in one process and on RabbitMQ."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import pytest

from examples.patterns import (
    p01_sequence,
    p02_parallel_split,
    p03_synchronization,
    p04_exclusive_choice,
    p05_simple_merge,
    p06_multi_choice,
    p07_synchronizing_merge,
    p08_multi_merge,
    p09_discriminator,
    p10_arbitrary_cycles,
    p11_implicit_termination,
    p12_instances_without_synchronization,
    p13_instances_known_at_design_time,
    p14_instances_known_at_run_time,
    p15_instances_not_known_before,
    p16_deferred_choice,
    p17_interleaved_parallel_routing,
    p18_milestone,
    p19_cancel_activity,
    p20_cancel_case,
)
from examples.patterns.place import completed, until
from floxide_amqp import (
    Floxide,
    Interceptor,
    InvalidRunStateError,
    ItemCompleted,
    ItemHeld,
    Orchestrator,
    RunHandle,
    RunStatus,
    Start,
    StepCall,
    Transition,
    Workflow,
)
from tests.acceptance import pattern_variants as variants

ROOT = Path(__file__).parents[2]

SHOWN = {
    p01_sequence: ["blue shirt, washed, dried, ironed"],
    p02_parallel_split: ["pen packed", "pen billed"],
    p03_synchronization: ["300 g shipped with a bill for a pen"],
    p04_exclusive_choice: ["200 paid", "5000 investigated"],
    p05_simple_merge: ["200 paid, file closed", "5000 investigated, file closed"],
    p06_multi_choice: ["a fire engine and 2 ambulances", "a fire engine", "3 ambulances", "kind words"],
    p07_synchronizing_merge: [
        "sent: a fire engine that put it out and 2 ambulances",
        "sent: a fire engine that put it out",
        "sent: 3 ambulances",
        "sent: nothing",
    ],
    p08_multi_merge: ["audit of form 7 closed", "processing of form 7 closed"],
    p09_discriminator: ["and why?: see the book", "read 2 times"],
    p10_arbitrary_cycles: [
        "500 copies by way of edit, check, edit, check, edit, check",
        "500 copies by way of check, edit, check, edit, check",
        "sent back: it cannot be read by way of edit",
        "sent back: it cannot be read by way of check, edit",
    ],
    p11_implicit_termination: [
        "two branches are over, the run is waiting",
        "the third is over, the run is completed: [None, 'pen billed', 'pen handed to Iris']",
    ],
    p12_instances_without_synchronization: [
        "confirmed, and 0 of 3 sent",
        "Ada, your order is under way",
        "Emma sent from shelf 4",
        "Ulysses sent from shelf 4",
        "Walden sent from shelf 4",
    ],
    p13_instances_known_at_design_time: ["handed out; signed by Ada, Bert, Cleo"],
    p14_instances_known_at_run_time: [
        "in stock: 1 x Emma, 2 x Walden",
        "in stock: 1 x Ulysses",
        "in stock: nothing was ordered",
    ],
    p15_instances_not_known_before: ["decided after 4 were heard: Ada, Bert, Cleo, Dora"],
    p16_deferred_choice: ["shipped for 20", "restocked: too dear", "reminded"],
    p17_interleaved_parallel_routing: ["19 points in eyes, reading, swimming"] * 2,
    p18_milestone: ["pen gone to Oslo, another address: Oslo", "ink gone to Rome, too late for another address"],
    p19_cancel_activity: [
        "flight to Rome, no hotel: we sleep in the car",
        "look_for_hotel is cancelled, the run is completed",
    ],
    p20_cancel_case: [
        "Garden: cancelled",
        "Sowing: cancelled",
        "Sowing: cancelled",
        "apply: completed",
        "ask_neighbours: cancelled",
        "measure: cancelled",
    ],
}
"""What each example prints."""


class Journal(Interceptor):
    """Notes which bodies begin and end, and makes some wait for others before they go on.

    Attributes:
        lines: (run, node, whether it ended), in the order it happened: one worker, one event loop.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, bool]] = []
        self._gates: dict[str, asyncio.Barrier] = {}
        self._news = asyncio.Condition()
        self._until: dict[str, str] = {}

    def meet(self, *nodes: str) -> None:
        """Let none of so many steps go on before the bodies of all have begun; a node may be named twice."""
        barrier = asyncio.Barrier(len(nodes))
        self._gates.update(dict.fromkeys(nodes, barrier))

    def let_wait(self, node: str, *, until_ended: str) -> None:
        """Let the bodies of a node go on only after one of another node has ended."""
        self._until[node] = until_ended

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        """Note the beginning and the end of a body."""
        await self._note(call, is_end=False)
        if call.node in self._gates:
            await self._gates[call.node].wait()
        if call.node in self._until:
            async with self._news:
                await self._news.wait_for(lambda: self.number_of(self._until[call.node], is_end=True) > 0)
        transition = await proceed()
        await self._note(call, is_end=True)
        return transition

    async def _note(self, call: StepCall, *, is_end: bool) -> None:
        async with self._news:
            self.lines.append((str(call.run_id), call.node, is_end))
            self._news.notify_all()

    async def until_begun(self, node: str) -> None:
        """Return once a body of a node has begun."""
        async with self._news:
            await self._news.wait_for(lambda: self.number_of(node, is_end=False) > 0)

    def number_of(self, node: str, *, is_end: bool) -> int:
        """Return how many bodies of a node began, or ended."""
        return sum(line[1:] == (node, is_end) for line in self.lines)

    def of(self, run_id: str) -> list[tuple[str, bool]]:
        """Return what happened in one run."""
        return [(node, is_end) for run, node, is_end in self.lines if run == run_id]

    def overlapping(self, run_id: str, nodes: Sequence[str]) -> list[str]:
        """Return those of the nodes that began while another of them was at work in a run."""
        at_work: set[str] = set()
        found: list[str] = []
        for node, is_end in self.of(run_id):
            if node not in nodes:
                continue
            if is_end:
                at_work.discard(node)
                continue
            found += [node] if at_work else []
            at_work.add(node)
        return found


class Opening(Protocol):
    def __call__(
        self, journal: Journal | None = None, /, *workflows: type[Workflow[Any, Any, Any]]
    ) -> AbstractAsyncContextManager[Orchestrator]: ...


@pytest.fixture(params=["in one process", pytest.param("on RabbitMQ", marks=pytest.mark.rabbitmq)])
def opened(request: pytest.FixtureRequest, tmp_path: Path, namespace: str) -> Opening:
    """Open an orchestrator and a worker with some workflows, in one process or on a RabbitMQ and a SQLite file."""
    is_broker = request.param == "on RabbitMQ"
    broker = request.getfixturevalue("rabbitmq_url") if is_broker else None
    store = f"sqlite:///{tmp_path}/runs.db" if is_broker else None

    @asynccontextmanager
    async def open_app(
        journal: Journal | None = None, /, *workflows: type[Workflow[Any, Any, Any]]
    ) -> AsyncGenerator[Orchestrator]:
        interceptors = () if journal is None else (journal,)
        app = Floxide(broker, store=store, namespace=namespace, workflows=workflows, interceptors=interceptors)
        async with app.orchestrator(with_worker=True) as desk:
            yield desk

    return open_app


async def statuses(desk: Orchestrator, run: RunHandle[Any]) -> Counter[tuple[str, str]]:
    """Return how many items of each node ended, or are, in which status."""
    return Counter((item.node, item.status.value) for item in await desk.work_items(run.run_id))


@pytest.mark.rabbitmq
def test_each_of_the_twenty_patterns_is_a_program_that_shows_it_on_rabbitmq(rabbitmq_url: str, tmp_path: Path) -> None:
    place = {"FLOXIDE_BROKER": rabbitmq_url, "FLOXIDE_STORE": f"sqlite:///{tmp_path}/runs.db"}
    done = subprocess.run(
        [sys.executable, "-m", "examples.patterns"],
        cwd=ROOT, env=os.environ | place, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = [module.__name__.rpartition(".")[2] for module in SHOWN]
    assert [int(name[1:3]) for name in names] == list(range(1, 21))
    expected = [
        [f"{name}:", *(f"    {line}" for line in lines)] for name, lines in zip(names, SHOWN.values(), strict=True)
    ]
    assert done.stdout.splitlines() == [line for lines in expected for line in lines]


async def test_each_of_the_twenty_patterns_is_shown_in_one_process() -> None:
    for module, lines in SHOWN.items():
        assert await importlib.import_module(module.__name__).main() == lines


async def test_01_a_step_begins_when_the_one_before_it_has_ended(opened: Opening) -> None:
    journal = Journal()
    async with opened(journal, p01_sequence.Laundry) as desk:
        run = await desk.start(p01_sequence.Laundry, "shirt")
        await run.result(60)
        assert journal.of(run.run_id) == [(node, end) for node in ("wash", "dry", "iron") for end in (False, True)]


async def test_02_both_branches_are_at_work_at_the_same_time(opened: Opening) -> None:
    journal = Journal()
    journal.meet("pack", "bill")  # neither goes on before both have begun
    async with opened(journal, p02_parallel_split.Ordering) as desk:
        assert await p02_parallel_split.play(desk) == SHOWN[p02_parallel_split]
    assert journal.number_of("pack", is_end=True) == journal.number_of("bill", is_end=True) == 1


@pytest.mark.parametrize(("slow", "fast"), [("pack", "bill"), ("bill", "pack")])
async def test_03_what_follows_begins_once_after_the_last_branch_whichever_that_is(
    opened: Opening, slow: str, fast: str
) -> None:
    journal = Journal()
    journal.let_wait(slow, until_ended=fast)
    async with opened(journal, p03_synchronization.Shipping) as desk:
        run = await desk.start(p03_synchronization.Shipping, "pen")
        await run.result(60)
        assert await completed(run) == ["accept", fast, slow, "ship"]


async def test_04_one_branch_runs_and_the_other_does_not(opened: Opening) -> None:
    async with opened(None, p04_exclusive_choice.Claim) as desk:
        runs = [await desk.start(p04_exclusive_choice.Claim, euros) for euros in (999, 1_000)]
        for run in runs:
            await run.result(60)
        assert [await completed(run) for run in runs] == [["assess", "pay"], ["assess", "investigate"]]


async def test_05_what_follows_runs_once_behind_either_branch(opened: Opening) -> None:
    async with opened(None, p05_simple_merge.Claim) as desk:
        runs = [await desk.start(p05_simple_merge.Claim, euros) for euros in (999, 1_000)]
        for run in runs:
            await run.result(60)
        assert [await completed(run) for run in runs] == [
            ["assess", "pay", "close_file"],
            ["assess", "investigate", "close_file"],
        ]


async def test_06_each_combination_of_branches_is_taken(opened: Opening) -> None:
    async with opened(None, p06_multi_choice.Emergency) as desk:
        taken: list[set[str]] = []
        for call in p06_multi_choice.CALLS:
            run = await desk.start(p06_multi_choice.Emergency, call)
            await run.result(60)
            taken.append(set(await completed(run)) - {"answer"})
    assert taken == [{"send_engine", "send_ambulances"}, {"send_engine"}, {"send_ambulances"}, {"calm_down"}]


@pytest.mark.parametrize("workflow", [variants.MergeByGather, variants.MergeByJoin])
async def test_07_each_subset_of_branches_is_synchronized_once(
    opened: Opening, workflow: type[Workflow[frozenset[str], Any]]
) -> None:
    journal = Journal()
    async with opened(journal, workflow) as desk:
        for chosen in (frozenset(some) for size in range(4) for some in combinations("abc", size)):
            run = await desk.start(workflow, chosen)
            assert "".join(await run.result(60)) == "+".join(sorted(chosen))
            ran = await completed(run)
            assert {name[0] for name in ran if name.endswith("_last")} == chosen
            if chosen or workflow is variants.MergeByGather:  # a join of edges at which nothing arrived does not run
                assert (ran[-1], ran.count("merge")) == ("merge", 1)
            else:
                assert "merge" not in ran


async def test_07_a_merge_does_not_wait_for_what_goes_on_elsewhere_in_the_run(opened: Opening) -> None:
    async with opened(None, variants.MergeBesideOthers) as desk:
        run = await desk.start(variants.MergeBesideOthers, frozenset("ac"))
        await until(run, ItemHeld, "elsewhere")
        await until(run, ItemCompleted, "merge")
        assert await run.status() is RunStatus.WAITING
        await run.signal(variants.GO, "done")
        assert await run.result(60) == ("a+c", "done")


async def test_08_what_follows_runs_for_each_branch_without_waiting_for_the_other(opened: Opening) -> None:
    journal = Journal()
    journal.let_wait("process", until_ended="close_case")
    async with opened(journal, p08_multi_merge.Application) as desk:
        run = await desk.start(p08_multi_merge.Application, "form 7")
        assert sorted(await run.result(60)) == SHOWN[p08_multi_merge]
        assert await completed(run) == ["accept", "audit", "close_case", "process", "close_case"]


async def test_09_what_follows_runs_once_per_round_and_the_rest_is_waited_for(opened: Opening) -> None:
    async with opened(None, p09_discriminator.Research) as desk:
        assert await p09_discriminator.play(desk) == SHOWN[p09_discriminator]


async def test_09_a_branch_of_an_earlier_round_does_not_set_off_a_later_one(opened: Opening) -> None:
    async with opened(None, variants.Rounds) as desk:
        run = await desk.start(variants.Rounds, 0)
        await until(run, ItemHeld, "near", "far")
        await run.signal(variants.NEAR, "near")
        await until(run, ItemHeld, "near", "far", "near", "far")  # now the second round waits too
        await run.signal(variants.FAR, "far of the first round")  # goes to the one that has waited longest
        await until(run, ItemCompleted, "far")
        await run.signal(variants.FAR, "far of the second round")
        await until(run, ItemCompleted, "pick", "pick")
        assert await run.status() is not RunStatus.COMPLETED  # what is left of the second round is waited for
        await run.signal(variants.NEAR, "too late")
        assert await run.result(60) == "far of the second round"
        assert list((await desk.context(variants.Rounds, run.run_id)).log) == ["near", "far of the second round"]
        assert Counter(await completed(run)) == Counter(set_out=2, near=2, far=2, pick=2)


async def test_10_a_loop_is_entered_and_left_at_several_places_and_each_round_runs_once(opened: Opening) -> None:
    async with opened(None, p10_arbitrary_cycles.Printing) as desk:
        assert await p10_arbitrary_cycles.play(desk) == SHOWN[p10_arbitrary_cycles]


async def test_10_loops_that_cross_each_other_go_round(opened: Opening) -> None:
    async with opened(None, variants.Crossing) as desk:
        for way in ("abc", "bc", "abcd", "abcabcd", "abcdbcd", "bcdbcabcdbc"):
            run = await desk.start(variants.Crossing, way)
            await run.result(60)
            assert await completed(run) == ["enter", *way]


async def test_11_a_run_is_over_when_nothing_is_left_and_not_before(opened: Opening) -> None:
    async with opened(None, p11_implicit_termination.Ordering) as desk:
        assert await p11_implicit_termination.play(desk) == SHOWN[p11_implicit_termination]


async def test_12_instances_run_side_by_side_and_nothing_waits_for_them(opened: Opening) -> None:
    async with opened(None, p12_instances_without_synchronization.Bookshop) as desk:
        assert (await p12_instances_without_synchronization.play(desk))[0] == "confirmed, and 0 of 3 sent"


async def test_13_three_instances_run_side_by_side_and_then_what_follows_once(opened: Opening) -> None:
    journal = Journal()
    journal.meet("authorise", "authorise", "authorise")
    async with opened(journal, p13_instances_known_at_design_time.Requisition) as desk:
        run = await desk.start(p13_instances_known_at_design_time.Requisition, "acid")
        await run.result(60)
        assert await completed(run) == ["ask_three", *["authorise"] * 3, "hand_out"]


@pytest.mark.parametrize("number", [0, 1, 25])
async def test_14_as_many_instances_as_the_input_says_then_what_follows_once(opened: Opening, number: int) -> None:
    order = {f"book {n:02}": n for n in range(number)}
    async with opened(None, p14_instances_known_at_run_time.Bookshop) as desk:
        run = await desk.start(p14_instances_known_at_run_time.Bookshop, order)
        text = await run.result(60)
        assert await completed(run) == ["split", *["check_stock"] * number, "confirm"]
        assert text == "in stock: " + (
            ", ".join(f"{n} x {title}" for title, n in order.items()) or "nothing was ordered"
        )


async def test_15_instances_begin_while_others_run_and_what_follows_waits_for_all(opened: Opening) -> None:
    journal = Journal()
    journal.meet("hear_claimant", "hear", "hear", "hear")  # the first ends only after the last has begun
    example = p15_instances_not_known_before
    async with opened(journal, example.Insurance) as desk:
        run = await desk.start(example.Insurance, example.Claim("Ada"))
        for name in ("Bert", "Cleo"):
            await run.signal(example.REPORT, example.Witness(name))
        await journal.until_begun("hear")
        await run.signal(example.REPORT, example.Witness("Dora"))
        await run.signal(example.REPORT, example.NoMore())
        assert await run.result(60) == SHOWN[example][0]
        ran = await completed(run)
        assert Counter(ran) == Counter(open_claim=1, hear_claimant=1, await_witness=4, hear=3, decide=1)
        assert ran[-1] == "decide"


async def test_15_no_instance_but_the_first(opened: Opening) -> None:
    example = p15_instances_not_known_before
    async with opened(None, example.Insurance) as desk:
        run = await desk.start(example.Insurance, example.Claim("Ada"))
        await until(run, ItemCompleted, "hear_claimant")
        assert await run.status() is not RunStatus.COMPLETED  # a witness might still come
        await run.signal(example.REPORT, example.NoMore())
        assert await run.result(60) == "decided after 1 were heard: Ada"


async def test_16_what_did_not_happen_first_is_withdrawn(opened: Opening) -> None:
    example = p16_deferred_choice
    async with opened(None, example.Sale) as desk:
        run = await desk.start(example.Sale, 30)
        await until(run, ItemHeld, "offer")
        await run.signal(example.WITHDRAWAL, example.Withdrawn("too dear"))
        assert await run.result(60) == "restocked: too dear"
        assert await completed(run) == ["offer", "restock"]
        assert (await desk.run_info(run.run_id)).waits == ()
        with pytest.raises(InvalidRunStateError):
            await run.signal(example.PAYMENT, example.Paid(20))


async def test_16_of_two_events_and_a_timer_in_the_same_moment_one_decides(opened: Opening) -> None:
    example = p16_deferred_choice
    async with opened(None, example.Sale) as desk:
        starts = [Start(0.02 * (n % 3) / 86_400) for n in range(12)]
        runs = await desk.start_many(example.Sale, starts)

        async def send(run: RunHandle[str], is_payment: bool) -> None:
            try:
                if is_payment:
                    await run.signal(example.PAYMENT, example.Paid(20))
                else:
                    await run.signal(example.WITHDRAWAL, example.Withdrawn("too dear"))
            except InvalidRunStateError:
                pass  # it is over

        await asyncio.gather(*(send(run, is_payment) for run in runs for is_payment in (True, False)))
        words = {
            "shipped for 20": ["offer", "ship"],
            "restocked: too dear": ["offer", "restock"],
            "reminded": ["remind"],
        }
        for run in runs:
            outcome = await run.result(60)
            assert await completed(run) == words[outcome]


async def test_17_each_activity_runs_once_and_never_two_of_a_case_at_the_same_time(opened: Opening) -> None:
    journal = Journal()
    example = p17_interleaved_parallel_routing
    tests = ("test_reading", "test_swimming", "test_eyes")
    async with opened(journal, example.Recruiting) as desk:
        runs = [await desk.start(example.Recruiting, example.Applicant(number, "Ada")) for number in range(4)]
        for run in runs:
            await run.result(60)
            assert Counter(await completed(run)) == Counter(("admit", *tests, "grade"))
            assert journal.overlapping(run.run_id, tests) == []


async def test_17_activities_of_different_cases_run_at_the_same_time(opened: Opening) -> None:
    journal = Journal()
    journal.meet("test_reading", "test_reading")
    example = p17_interleaved_parallel_routing
    async with opened(journal, example.Recruiting) as desk:
        runs = [await desk.start(example.Recruiting, example.Applicant(number, "Ada")) for number in range(2)]
        assert [await run.result(60) for run in runs] == SHOWN[example]


async def test_18_a_change_and_what_ends_its_time_in_the_same_moment_agree(opened: Opening) -> None:
    example = p18_milestone
    async with opened(None, example.Sending) as desk:
        starts = [Start(n, context=example.Parcel(content="pen", address="Rome")) for n in range(10)]
        runs = await desk.start_many(example.Sending, starts)
        await asyncio.gather(*(run.signal(example.PACKER, "Bert") for run in runs))
        for run in runs:
            await until(run, ItemHeld, "hand_over")
        both = ((example.COURIER, "Iris"), (example.NEW_ADDRESS, "Oslo"))
        await asyncio.gather(*(run.signal(*each) for run in runs for each in both))
        for run in runs:
            assert await run.result(60) in (
                "pen gone to Oslo, another address: Oslo",
                "pen gone to Rome, too late for another address",
            )
            state = await desk.context(example.Sending, run.run_id)
            assert state.stage is example.Stage.GONE


async def test_19_an_activity_at_work_is_interrupted_and_the_rest_goes_on(opened: Opening) -> None:
    journal = Journal()
    example = p19_cancel_activity
    async with opened(journal, example.Travelling) as desk:
        run = await desk.start(example.Travelling, "Rome")
        await journal.until_begun("look_for_hotel")
        await run.signal(example.WITHDRAWAL, example.Withdrawn("no money"))
        assert await run.result(60) == "flight to Rome, no hotel: no money"
        assert journal.number_of("look_for_hotel", is_end=True) == 0
        ended = await statuses(desk, run)
        assert ended["look_for_hotel", "cancelled"] == 1
        assert (ended["note_hotel", "completed"], ended["itinerary", "completed"]) == (1, 1)


async def test_19_an_activity_that_ends_takes_the_offer_to_withdraw_it_away(opened: Opening) -> None:
    async with opened(None, variants.QuickTravelling) as desk:
        run = await desk.start(variants.QuickTravelling, "Rome")
        await until(run, ItemHeld, "await_withdrawal")
        await run.signal(variants.GO, "the Ritz")
        assert await run.result(60) == "the Ritz"
        assert (await statuses(desk, run))["await_withdrawal", "cancelled"] == 1


async def test_20_nothing_of_a_cancelled_case_goes_on(opened: Opening) -> None:
    journal = Journal()
    example = p20_cancel_case
    async with opened(journal, example.Garden) as desk:
        assert await example.play(desk) == SHOWN[example]
    assert journal.number_of("measure", is_end=False) <= 1
    assert journal.number_of("measure", is_end=True) == 0
