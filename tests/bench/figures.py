"""Figures: percentiles, medians, arrival times, targets. Pure."""

from __future__ import annotations

import operator
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that has to be reached, and what was measured."""

    what: str
    comparison: str  # A key of COMPARISONS.
    limit: float
    unit: str
    value: float | None  # None: not measured.

    @property
    def reached(self) -> bool | None:
        """Return whether the value is good enough; None when there is no value."""
        if self.value is None:
            return None
        return COMPARISONS[self.comparison](self.value, self.limit)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` % do not exceed."""
    assert values
    assert 0 < percent <= 100
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile; values are observed ones."""
    assert values
    ordered = sorted(values)
    p50, p95, p99 = (ordered[-(-percent * len(ordered) // 100) - 1] for percent in (50, 95, 99))
    return p50, p95, p99


def median_or_none(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that there are."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def poisson_arrivals(*, per_s: float, duration_s: float, seed: int) -> list[float]:
    """Return arrival times in seconds, from 0 to below `duration_s`, of independent clients.

    Gaps are exponentially distributed, as those of many clients that know nothing of each other.
    """
    assert per_s > 0
    chance = random.Random(seed)
    arrivals = []
    at_s = chance.expovariate(per_s)
    while at_s < duration_s:
        arrivals.append(at_s)
        at_s += chance.expovariate(per_s)
    return arrivals
