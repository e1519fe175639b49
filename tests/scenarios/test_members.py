"""Transcripts of membership: which changes of a replica set are safe, and how they go (R6)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mail.errors import Invalid, NotPrimary
from storage.records import ENTRY_MEMBERS, Members
from storage.replication.effects import ChangeMembers, Fetched
from storage.replication.members import REPLICAS_MAX, check_change, members_of
from storage.replication.messages import Gap, Position, ReplicaId
from tests.scenarios.replicas import ALONE, THREE, A, B, C, D, E, Replica, entry, primary


def change(replica: Replica, members: Members) -> list[str]:
    return replica.step(ChangeMembers(members, replica.core.members_index))


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (Members(()), "one voter at least"),
        (Members((A, B, C, C)), "each replica once"),
        (Members((A, B, C), (D, D)), "each replica once"),
        (Members((A, B, C), (C,)), "a voter or a learner"),
        (members_of((A,)), "one voter is changed at a time"),
        (members_of((A, B, D)), "one voter is changed at a time"),
        (members_of((A, B, C, D, E)), "one voter is changed at a time"),
        (members_of((A, B, C, E)), "a learner that has caught up"),
        (replace(THREE, incarnation=1), "the incarnation does not change"),
        (
            members_of(THREE.voters, [bytes((n,)) * 16 for n in range(REPLICAS_MAX - 2)]),
            "at most",
        ),
    ],
)
def test_a_set_that_may_not_follow_is_invalid(new: Members, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check_change(members_of((A, B, C), (D,)), new, frozenset((D, E)))


def test_a_learner_that_lags_does_not_vote_yet() -> None:
    old, new = members_of((A, B, C), (D,)), members_of((A, B, C, D))
    with pytest.raises(Invalid, match="caught up"):
        check_change(old, new, frozenset())
    check_change(old, new, frozenset((D,)))
    check_change(old, members_of((A, B), (C, E)), frozenset())


def test_a_set_grows_by_a_learner_that_then_votes() -> None:
    replica = primary(ALONE)
    assert change(replica, members_of((A,), (B,))) == ["write 1.2"]
    assert replica.flush() == ["high water 2", "commit 1.2"]  # A learner counts in no majority.
    assert replica.tick(0) == ["to B: append [] after 1.2, commit 2"]
    assert replica.hear(B, Gap(1, 1, replica.now_ms)) == ["fetch after 0 for B"]
    log = (entry(1, 1), entry(1, 2, members=members_of((A,), (B,))))
    replica.step(Fetched(B, Position(0, 0), log))
    with pytest.raises(Invalid, match="caught up"):
        change(replica, members_of((A, B)))
    assert replica.appended(B, 2) == []
    assert change(replica, members_of((A, B))) == [
        "write 1.3",
        "to B: append [1.3] after 1.2, commit 2",
    ]
    assert replica.flush() == ["high water 3"]  # Two of two from here on.
    assert replica.appended(B, 3) == ["commit 1.3"]


def test_a_set_shrinks_and_forgets_who_left() -> None:
    replica = primary()
    assert change(replica, members_of((A, B))) == [
        "write 1.2",
        "to B: append [1.2] after 1.1, commit 1",
    ]
    replica.flush()
    assert replica.appended(C, 2) == []
    assert replica.appended(B, 2) == ["commit 1.2"]
    assert [one.kind for one in replica.core._tail.between(1, 2)] == [ENTRY_MEMBERS]


def test_a_change_is_refused_while_another_is_under_way_or_unknown() -> None:
    replica = primary()
    with pytest.raises(Invalid, match="changed"):
        replica.step(ChangeMembers(members_of((A, B)), 1))
    change(replica, members_of((A, B)))
    with pytest.raises(Invalid, match="changing"):
        change(replica, ALONE)
    with pytest.raises(Invalid, match="changed"):
        replica.step(ChangeMembers(THREE, 0))


def test_a_primary_does_not_remove_itself() -> None:
    with pytest.raises(Invalid, match="itself"):
        change(primary(), members_of((B, C)))


def test_only_a_serving_primary_changes_members() -> None:
    with pytest.raises(NotPrimary):
        change(Replica(), members_of((A, B)))


def test_a_set_in_the_log_is_in_force_at_once_and_until_it_is_cut() -> None:
    follower = Replica(B)
    grown = members_of((A, B, C), (D,))
    follower.append(A, 1, (0, 0), entry(1, 1), entry(1, 2, members=grown))
    assert follower.core.members == grown
    assert follower.core.members_index == 2
    follower.append(C, 2, (1, 1), entry(2, 2))
    assert follower.core.members == THREE
    assert follower.core.members_index == 0


def test_a_new_replica_learns_from_the_log_whom_it_belongs_to() -> None:
    replica = Replica(ReplicaId(D), Members((), (D,)))
    replica.append(A, 1, (0, 0), entry(1, 1), entry(1, 2, members=members_of((A,), (D,))))
    assert replica.core.members == members_of((A,), (D,))
