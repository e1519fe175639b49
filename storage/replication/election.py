"""Election: what a candidate has been promised, and whether that suffices (R4, R14, R16)."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.records import Members
from storage.replication.members import quorum
from storage.replication.messages import Promised, ReplicaId

ELECTION_MS = 400  # a candidate without a majority gives up
ASK_AGAIN_MS = 100  # those who have not promised may have been asked a moment too early


@dataclass(slots=True)
class Candidacy:
    """One candidate's election, or the trial before it, which binds nobody."""

    epoch: int
    trial: bool
    began_ms: int
    asked_ms: int
    answers: dict[ReplicaId, Promised] = field(default_factory=dict)

    def is_won(self, members: Members, last_index: int) -> bool:
        """Say whether the promises suffice.

        A committed entry is on a majority, be it of this replica set, the one before or the one
        after; a majority of replicas that have lost nothing includes one that has it. Where
        fewer are left, all must answer and none may have acknowledged more than the candidate
        holds.
        """
        voters = members.voters
        answers = [answer for voter, answer in self.answers.items() if voter in voters]
        if sum(not answer.suspect for answer in answers) >= quorum(len(voters)):
            return True
        return len(answers) == len(voters) and last_index >= max(
            answer.high_water for answer in answers
        )
