"""A simulated network between nodes: it loses, delays, repeats and reorders, and is cut.

Mostly it keeps the order, as a link does; what is sent over one that is opened anew may overtake.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

CALM_S = 0.002
GAP_S = 1e-6  # between two frames, so that they keep their order

Carry = Callable[[str, str, bytes], None]  # from, to, frame


class Network:
    """Frames between nodes. `at` runs something later; `carry` hands over what has arrived."""

    def __init__(
        self,
        rng: random.Random,
        now_s: Callable[[], float],
        at: Callable[[float, Callable[[], None]], None],
        carry: Carry,
    ) -> None:
        self.rng = rng
        self._now_s = now_s
        self._at = at
        self._carry = carry
        self._busy_until_s: dict[tuple[str, str], float] = {}
        self.cuts: set[tuple[str, str]] = set()  # one way each
        self.calm()

    def calm(self) -> None:
        """Lose nothing from now on, and be quick."""
        self.cuts.clear()
        self.delay_s = CALM_S
        self.loss = 0.0
        self.repeats = 0.0
        self.overtaking = 0.0

    def change_weather(self) -> None:
        self.delay_s = self.rng.choice((CALM_S, CALM_S, 0.02, 0.1))
        self.loss = self.rng.choice((0.0, 0.0, 0.02, 0.2))
        self.repeats = self.rng.choice((0.0, 0.05, 0.2))
        self.overtaking = self.rng.choice((0.0, 0.0, 0.1, 1.0))

    def cut(self, one: Iterable[str], other: Iterable[str], *, one_way: bool = False) -> None:
        for a in one:
            for b in other:
                if a != b:
                    self.cuts.add((a, b))
                    if not one_way:
                        self.cuts.add((b, a))

    def mend(self) -> None:
        self.cuts.clear()

    def is_cut(self, one: str, other: str) -> bool:
        return (one, other) in self.cuts

    def send(self, one: str, other: str, frame: bytes) -> None:
        rng = self.rng
        if (one, other) in self.cuts or (self.loss and rng.random() < self.loss):
            return
        copies = 2 if self.repeats and rng.random() < self.repeats else 1
        now_s = self._now_s()
        for _ in range(copies):
            due_s = now_s + rng.random() * self.delay_s
            if not self.overtaking or rng.random() >= self.overtaking:
                due_s = max(due_s, self._busy_until_s.get((one, other), 0.0) + GAP_S)
                self._busy_until_s[one, other] = due_s
            self._at(due_s - now_s, lambda: self._arrive(one, other, frame))

    def _arrive(self, one: str, other: str, frame: bytes) -> None:
        if (one, other) not in self.cuts:
            self._carry(one, other, frame)
