"""What the conductor does when the parts it conducts come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.chaos.conductor import BATCH, WINDOW, Feeder, Tally
from tests.chaos.store_reader import StoreAwayError


@dataclass
class Client:
    generation: int = 1
    answered: int = 0
    is_ready: bool = True
    told: list[str] = field(default_factory=list)

    def tell(self, line: str) -> bool:
        self.told.append(line)
        return True


@dataclass
class Stage:
    """A client, and a reader that is the stage itself."""

    client: Client = field(default_factory=Client)
    is_away: bool = False
    dies_meanwhile: bool = False

    @property
    def reader(self) -> Stage:
        return self

    def open_runs(self) -> int:
        if self.dies_meanwhile:
            self.client.generation += 1
            self.client.answered = 0
        if self.is_away:
            raise StoreAwayError
        return 0


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def feeder(stage: Stage) -> Feeder:
    return Feeder(cast("Any", stage), Tally())


async def feed(feeder: Feeder, *, times: int = 1) -> None:
    for _ in range(times):
        await feeder.feed()


async def test_a_client_is_told_to_start_runs_until_it_has_some_to_answer_for(feeder: Feeder, stage: Stage) -> None:
    await feed(feeder, times=3)
    assert stage.client.told == ["start order 0 16", f"start order {BATCH} 16"]
    stage.client.answered = 2 * BATCH
    await feed(feeder)
    assert len(stage.client.told) == 4
    assert WINDOW > 4 * BATCH


async def test_a_client_that_took_the_place_of_another_while_the_store_was_read_is_fed(
    feeder: Feeder, stage: Stage
) -> None:
    await feed(feeder)
    stage.client.answered = 2 * BATCH
    stage.dies_meanwhile = True
    await feed(feeder)
    stage.dies_meanwhile = False
    before = len(stage.client.told)
    await feed(feeder)
    assert len(stage.client.told) == before + 2


async def test_while_the_store_is_away_nothing_is_started(feeder: Feeder, stage: Stage) -> None:
    stage.is_away = True
    await feed(feeder)
    assert stage.client.told == []
    stage.is_away = False
    await feed(feeder)
    assert len(stage.client.told) == 2
