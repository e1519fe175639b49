"""What must hold in every simulated run of the core: a history that sees everything at once.

It knows what no replica knows: every commit, every reign, every answer that a client got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from storage.records import Entry
from storage.replication.members import quorum
from storage.replication.messages import ReplicaId
from tests.sim.core_disk import Contents, Disk

PROBLEMS_MAX = 20  # of one run; the first tells most


def number(octets: bytes | None) -> int:
    """Return the value of a counter."""
    return 0 if octets is None else int.from_bytes(octets, "big")


class History:
    """All that happened, and what was wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.committed: list[Entry] = []  # entry i has index i + 1
        self._committed_in: list[int] = []  # the epoch in which it was
        self.primaries: dict[int, object] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.floor: dict[bytes, int] = {}  # what a read that begins now must at least show
        self._request_index: dict[bytes, int] = {}
        self._counters: dict[bytes, int] = {}

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    # The log

    def see_committed(self, who: str, epoch: int, entries: Sequence[Entry]) -> None:
        """Note what a replica holds to be committed: all must agree, forever."""
        for entry in entries:
            if entry.index <= len(self.committed):
                known = self.committed[entry.index - 1]
                if (known.epoch, known.request_id) != (entry.epoch, entry.request_id):
                    self.problem(
                        f"{who} commits {entry.epoch}.{entry.index},"
                        f" committed was {known.epoch}.{known.index}"
                    )
            elif entry.index == len(self.committed) + 1:
                self._committed_in.append(epoch)
                self._see_new(who, entry)
            else:
                self.problem(f"{who} commits {entry.index} before what comes earlier")

    def _see_new(self, who: str, entry: Entry) -> None:
        self.committed.append(entry)
        if not entry.request_id:
            return
        if self._request_index.setdefault(entry.request_id, entry.index) != entry.index:
            self.problem(f"{who}: one request has two effects, the second at {entry.index}")
        key, value = entry.puts[0]
        before = self._counters.get(key, 0)
        if number(value) != before + 1:
            self.problem(f"{who}: {entry.index} was planned on {number(value) - 1}, not {before}")
        self._counters[key] = number(value)

    def see_primary_commit(
        self,
        who: str,
        entry: Entry,
        epoch: int,
        voters: Sequence[bytes],
        disks: Mapping[ReplicaId, Disk],
    ) -> None:
        """Check up to which entry a primary commits: its own, and a majority has it on disk."""
        if entry.epoch != epoch:
            self.problem(f"{who} commits {entry.epoch}.{entry.index} by counting in {epoch}")
        found = [disks[ReplicaId(voter)] for voter in voters]
        held = sum(disk.lost or disk.durable.holds(entry) for disk in found)
        if held < quorum(len(voters)):
            self.problem(f"{who} commits {entry.epoch}.{entry.index}, durable on {held}")

    def see_voter(self, who: str, disk: Disk, committed_index: int) -> None:
        """Check a replica that its primary lets vote from now on: it has what is committed."""
        if disk.live.last < committed_index and not disk.lost:
            self.problem(f"{who} shall vote and holds {disk.live.last} of {committed_index}")

    def see_reign(self, who: str, process: object, epoch: int, contents: Contents) -> None:
        """Check a reign that begins: it alone has its epoch, and all that committed earlier."""
        if self.primaries.setdefault(epoch, process) is not process:
            self.problem(f"{who} is a second primary of epoch {epoch}")
        for entry in self.committed[contents.applied.index :]:
            earlier = self._committed_in[entry.index - 1] < epoch
            if earlier and contents.epoch_at(entry.index) != entry.epoch:
                self.problem(f"{who} leads in {epoch} without {entry.epoch}.{entry.index}")
                return

    def see_serving(self, who: str, contents: Contents, epoch: int | None = None) -> None:
        """Check a state: it shows all that was acknowledged, if in epochs before this one.

        A primary that does not know yet that it was succeeded may begin to serve; its lease is
        over, and it answers nobody.
        """
        for request, value in self.acknowledged.items():
            committed_in = self._committed_in[self._request_index[request] - 1]
            if epoch is not None and committed_in >= epoch:
                continue
            if number(contents.values.get(b"r" + request)) != value:
                self.problem(f"{who} serves without an acknowledged request")
                return

    # Clients

    def see_write(self, request: bytes, key: bytes, value: int) -> None:
        if self.acknowledged.setdefault(request, value) != value:
            self.problem("one request, two replies")
        self.floor[key] = max(self.floor.get(key, 0), value)

    def see_read(self, who: str, key: bytes, value: int, floor: int) -> None:
        if value < floor:
            self.problem(f"{who} answers a read with {value}; {floor} was seen before it began")
        self.floor[key] = max(self.floor.get(key, 0), value)

    # The end

    def see_end(self, contents: Iterable[tuple[str, Contents]]) -> None:
        """Check replicas that have converged: same state, and all that was acknowledged."""
        seen: dict[int, dict[bytes, bytes]] = {}
        for who, one in contents:
            self.see_serving(who, one)
            if seen.setdefault(one.applied.index, one.values) != one.values:
                self.problem(f"{who} has another state at {one.applied.index}")
            for entry in self.committed[one.base.index : one.applied.index]:
                if one.epoch_at(entry.index) != entry.epoch:
                    self.problem(f"{who} holds another entry at {entry.index}")
                    return
