"""What holds for every test: the order of the suites, the slow ones, and Ray's authentication.

Read from the environment by the suites themselves:

    CI=true             run the tests marked `slow` as well
    HELIO_TEST_SEEDS    how many seeds a simulated property gets
    HELIO_SIM_SEED      one seed, and no other (`make sim SEED=n`)
    HELIO_CHECK         fewer examples of a property (`make check`, which has 30 s)
"""

import os
from pathlib import Path

import hypothesis
import pytest

# Cheap and telling first: what a slow suite would find in minutes often fails here in seconds.
SUITES = ("tidy", "unit", "contract", "protocol", "scenarios", "sim", "cluster", "e2e")
TESTS = Path(__file__).parent

# Ray decides by files in the home directory when this is not set, and then not alike in every
# process. A test that starts a cluster of its own with tokens says so itself.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

hypothesis.settings.register_profile("check", max_examples=15, deadline=None, database=None)
if os.environ.get("HELIO_CHECK"):
    hypothesis.settings.load_profile("check")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the suites into their order; leave the slow tests to CI."""
    items.sort(key=_suite_rank)  # stable: within a suite, as collected
    if os.environ.get("CI") == "true":
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def _suite_rank(item: pytest.Item) -> int:
    suite = item.path.relative_to(TESTS).parts[0]
    return SUITES.index(suite) if suite in SUITES else len(SUITES)
