"""Many seeds through the replication core; and planted bugs, each of which they must find."""

from __future__ import annotations

import os

import pytest

from tests.sim.core_bugs import BUGS, Plant
from tests.sim.core_simulator import Simulator

SEEDS = int(os.environ.get("HELIO_TEST_SEEDS", "300"))
ONE_SEED = os.environ.get("HELIO_SIM_SEED")
BUG_SEEDS_MAX = 600  # the rarest bug needs about a fifth of them


@pytest.mark.parametrize("seed", [int(ONE_SEED)] if ONE_SEED else range(SEEDS))
def test_replicas_agree_and_lose_nothing(seed: int) -> None:
    problems = Simulator(seed).run()
    assert not problems, f"make sim SEED={seed}: {problems[:5]}"


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = Simulator(7), Simulator(7)
    one.run()
    other.run()
    assert one.now_ms == other.now_ms
    assert one.history.committed == other.history.committed
    assert one.history.acknowledged == other.history.acknowledged


def test_the_seeds_go_where_it_is_dark() -> None:
    """Runs that elect, answer and change nothing would prove little."""
    seen = [Simulator(seed) for seed in range(40)]
    for simulator in seen:
        assert not simulator.run()
    committed = [entry for simulator in seen for entry in simulator.history.committed]
    assert sum(entry.members is not None for entry in committed) >= 20
    assert sum(len(simulator.history.acknowledged) for simulator in seen) >= 1000
    assert sum(len(simulator.history.primaries) for simulator in seen) >= 80
    assert sum(simulator.snapshots for simulator in seen) >= 5
    assert sum(simulator.suspects for simulator in seen) >= 3


def _is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> bool:
    plant(monkeypatch)
    for seed in range(BUG_SEEDS_MAX):
        try:
            if Simulator(seed, only=BUGS[plant]).run():
                return True
        except AssertionError:
            return True  # The product's own checks may be first.
    return False


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _is_found(plant, monkeypatch)
