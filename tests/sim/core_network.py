"""The network between simulated replicas: it loses, delays, repeats, reorders and is cut."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class Network:
    """Decides what becomes of a message. Cuts are one-way: (from, to)."""

    rng: random.Random
    loss: float = 0.0
    repeat: float = 0.0
    slow: float = 0.0  # share of the messages that come much later than others
    delay_max_ms: int = 5
    slow_max_ms: int = 400
    cuts: set[tuple[bytes, bytes]] = field(default_factory=set)

    def delays(self, sender: bytes, receiver: bytes) -> tuple[int, ...]:
        """Return after how long the message arrives, once for each time it does."""
        rng = self.rng
        if (sender, receiver) in self.cuts or rng.random() < self.loss:
            return ()
        delays = (self._delay(),)
        return (*delays, self._delay()) if rng.random() < self.repeat else delays

    def _delay(self) -> int:
        rng = self.rng
        if rng.random() < self.slow:
            return int(rng.random() * self.slow_max_ms)
        return 1 + int(rng.random() * self.delay_max_ms)

    def is_open(self, one: bytes, other: bytes) -> bool:
        return (one, other) not in self.cuts and (other, one) not in self.cuts

    def split(self, groups: Iterable[Sequence[bytes]]) -> None:
        """Cut every link between the groups."""
        groups = list(groups)
        for group in groups:
            for other in groups:
                if group is not other:
                    self.cuts.update((one, two) for one in group for two in other)

    def silence(self, receiver: bytes, senders: Iterable[bytes]) -> None:
        """Let nothing reach the receiver; what it says is heard."""
        self.cuts.update((sender, receiver) for sender in senders)

    def mend(self) -> None:
        self.cuts.clear()

    def calm(self) -> None:
        """Become a good network."""
        self.mend()
        self.loss = self.repeat = self.slow = 0.0
