"""Many seeds through the simulator; and planted bugs, each of which they must find."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from storage.records import Damaged
from tests.sim.bugs import BUGS
from tests.sim.simulator import Simulator

SEEDS = int(os.environ.get("HELIO_TEST_SEEDS", "300"))
ONE_SEED = os.environ.get("HELIO_SIM_SEED")
SEEDS_AT_ONCE = 25  # of one test: a test for each would cost as much again
BUG_SEEDS_MAX = 60

BLOCKS = (
    [range(int(ONE_SEED), int(ONE_SEED) + 1)]
    if ONE_SEED
    else [range(first, min(first + SEEDS_AT_ONCE, SEEDS)) for first in range(0, SEEDS, 25)]
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Say nothing of the thousand troubles that are simulated."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_acknowledged_mail_survives(seeds: range) -> None:
    for seed in seeds:
        problems = Simulator(seed).run()
        assert not problems, f"make sim SEED={seed}: {problems[:5]}"


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    one, other = Simulator(seed), Simulator(seed)
    one.run()
    other.run()
    assert one.history.mail == other.history.mail
    assert one.history.committed == other.history.committed
    assert one.loop.time() == other.loop.time()


def test_the_seeds_go_where_it_is_dark() -> None:
    """Runs that elect, answer, lose and fill nothing would prove little."""
    seen = [Simulator(seed) for seed in range(40)]
    for simulator in seen:
        assert not simulator.run()
    assert sum(simulator.size == 1 for simulator in seen) >= 3
    assert sum(simulator.size == 3 for simulator in seen) >= 20
    assert sum(len(simulator.history.committed) for simulator in seen) >= 1500
    assert sum(len(simulator.history.primaries) for simulator in seen) >= 80
    assert sum(simulator.history.reads for simulator in seen) >= 400
    assert sum(simulator.snapshots for simulator in seen) >= 20
    assert sum(simulator.resumed for simulator in seen) >= 1
    assert sum(simulator.losses for simulator in seen) >= 3


def _is_found(name: str) -> bool:
    for seed in range(BUG_SEEDS_MAX):
        try:
            if Simulator(seed, BUGS[name]()).run():
                return True
        except (AssertionError, Damaged):
            return True  # The product's own checks may be first.
    return False


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert _is_found(bug)
