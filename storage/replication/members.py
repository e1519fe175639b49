"""Members: who counts in a majority, and which changes of the replica set are safe (R6).

The replica set in force is the latest one in a replica's own log, committed or not. A change
differs by one voter from the one before, so that majorities of both meet; a new replica is a
learner first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mail.errors import Invalid
from storage.records import Members
from storage.replication.messages import ReplicaId

REPLICAS_MAX = 15  # of one shard, learners included: votes and lag are looked at one by one


def quorum(voters: int) -> int:
    """Return how many of `voters` are a majority."""
    assert voters >= 1
    return voters // 2 + 1


def commit_index(match_index: Mapping[ReplicaId, int]) -> int:
    """Return the highest index that a quorum holds, the primary included."""
    held = sorted(match_index.values(), reverse=True)
    return held[quorum(len(held)) - 1]


def members_of(voters: Iterable[bytes], learners: Iterable[bytes] = ()) -> Members:
    """Return a replica set, its replicas in order."""
    return Members(tuple(sorted(voters)), tuple(sorted(learners)))


def check_change(old: Members, new: Members, caught_up: frozenset[bytes]) -> None:
    """Raise Invalid unless `new` may follow on `old`.

    `caught_up` holds the learners whose log reaches the commit index: only these may vote.
    """
    voters, others = set(new.voters), set(new.learners)
    if not voters or len(voters) != len(new.voters) or len(others) != len(new.learners):
        raise Invalid("a replica set names each replica once, and one voter at least")
    if voters & others:
        raise Invalid("a replica is a voter or a learner")
    if len(voters) + len(others) > REPLICAS_MAX:
        raise Invalid(f"a replica set has {REPLICAS_MAX} replicas at most")
    if len(voters ^ set(old.voters)) > 1:
        raise Invalid("one voter is changed at a time")
    if new.incarnation != old.incarnation:
        raise Invalid("the incarnation does not change by an entry")
    if not (voters - set(old.voters)) <= (caught_up & set(old.learners)):
        raise Invalid("a new voter is a learner that has caught up")
