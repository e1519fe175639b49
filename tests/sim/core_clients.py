"""Simulated clients: each counts up and reads, one thing at a time, and repeats what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.replication.messages import ReplicaId
    from tests.sim.core_simulator import Simulator

KEYS = (b"cx", b"cy", b"cz")


class Client:
    """A client reaches every replica at any time: the set alone decides who may answer."""

    def __init__(self, simulator: Simulator, number: int) -> None:
        self.simulator = simulator
        self.busy = False
        self._number = number
        self._done = False
        self._requests = 0
        self._attempt = 0
        self._guess: ReplicaId | None = None

    def begin(self) -> None:
        """Begin the next read or write."""
        if self._done:
            return
        rng = self.simulator.rng
        self.busy = True
        key = rng.choice(KEYS)
        if rng.random() < 0.5:
            self._read(key)
        else:
            self._requests += 1
            self._write(key, b"%d-%d" % (self._number, self._requests))

    def finish(self) -> None:
        """Begin nothing new."""
        self._done = True

    def _replica(self, faithful: float) -> ReplicaId | None:
        """Return whom to ask: the one that answered last, or just anyone."""
        rng = self.simulator.rng
        if self._guess in self.simulator.processes and rng.random() < faithful:
            return self._guess
        running = list(self.simulator.processes)
        return rng.choice(running) if running else None

    def _end(self, replica: ReplicaId) -> None:
        self._attempt += 1
        self._guess = replica
        self.busy = False
        self.simulator.at(1 + int(self.simulator.rng.random() * 40), self.begin)

    def _write(self, key: bytes, request: bytes) -> None:
        simulator = self.simulator
        rng = simulator.rng
        self._attempt += 1
        attempt = self._attempt
        replica = self._replica(0.8)

        def answered(value: int | None) -> None:
            if value is not None and rng.random() < 0.97:  # Else the answer is lost.
                simulator.history.see_write(request, key, value)
                if attempt == self._attempt and replica is not None:
                    self._end(replica)
            elif attempt == self._attempt:
                self._guess = None

        def patience_ended() -> None:
            if attempt == self._attempt:
                self._write(key, request)

        if replica is not None:
            simulator.at(
                1 + int(rng.random() * 3), simulator.ask, replica, "write", key, request, answered
            )
        simulator.at(60 + int(rng.random() * 200), patience_ended)

    def _read(self, key: bytes) -> None:
        simulator = self.simulator
        rng = simulator.rng
        self._attempt += 1
        attempt = self._attempt
        replica = self._replica(0.4)
        floor = simulator.history.floor.get(key, 0)

        def answered(value: int | None) -> None:
            if value is not None and replica is not None:
                simulator.history.see_read(f"r{replica[0]}", key, value, floor)
                if attempt == self._attempt:
                    self._end(replica)
            elif attempt == self._attempt:
                self._guess = None

        def patience_ended() -> None:
            if attempt == self._attempt:
                self._read(key)

        if replica is not None:
            simulator.at(1 + int(rng.random() * 3), simulator.ask, replica, "read", key, answered)
        simulator.at(60 + int(rng.random() * 200), patience_ended)
