"""Transcripts of reigns: how they begin, what commits in them, how they end (R3, R4, R12)."""

from __future__ import annotations

import pytest

from mail.errors import Invalid, NotPrimary
from storage.records import ENTRY_EPOCH
from storage.replication.core import Role
from storage.replication.effects import Campaign, Fetched, Flushed, Propose, Release, SnapshotEnded
from storage.replication.members import commit_index, members_of, quorum
from storage.replication.messages import (
    Append,
    Appended,
    AskPromise,
    Gap,
    Position,
    Released,
    Stale,
)
from storage.replication.reign import RESEND_MS, STEP_DOWN_MS, TELL_COMMIT_MS
from tests.scenarios.replicas import (
    ALONE,
    THREE,
    A,
    B,
    C,
    D,
    Replica,
    draft,
    entry,
    primary,
    promised,
)


def test_a_reign_of_one_begins_with_a_promise_then_an_empty_entry_then_serves() -> None:
    replica = Replica(A, ALONE, waited=False)
    with pytest.raises(NotPrimary):
        replica.propose(b"early")
    assert replica.step(Campaign()) == ["promise 1 to A", "write 1.1"]
    assert replica.core.role is Role.PRIMARY
    with pytest.raises(NotPrimary):
        replica.propose(b"early too")
    assert replica.flush() == ["high water 1", "commit 1.1"]
    assert replica.core.serving
    assert replica.core.may_answer(replica.now_ms)


def test_a_reign_of_three_begins_with_a_trial_then_promises_then_an_empty_entry() -> None:
    replica = Replica()
    assert replica.step(Campaign()) == ["to B: try 1", "to C: try 1"]
    assert replica.core.role is Role.CANDIDATE
    assert replica.hear(C, promised(0, trial=True)) == [
        "promise 1 to A",
        "to B: ask 1",
        "to C: ask 1",
    ]
    assert replica.hear(C, promised(1)) == [
        "write 1.1",
        "to B: append [1.1] after 0.0, commit 0",
        "to C: append [1.1] after 0.0, commit 0",
    ]
    assert not replica.core.serving
    assert replica.flush() == ["high water 1"]
    assert replica.appended(C, 1) == ["commit 1.1"]
    assert replica.core.serving


def test_the_empty_entry_says_what_it_is() -> None:
    replica = primary()
    (empty,) = replica.core._tail.between(0, 1)
    assert empty.kind == ENTRY_EPOCH


def test_a_new_epoch_is_above_every_promised_written_and_heard_one() -> None:
    assert Replica(A, ALONE, promised=(9, A)).step(Campaign())[0] == "promise 10 to A"
    written = Replica(A, ALONE, promised=(2, A), tail=[entry(7, 1)])
    assert written.step(Campaign())[0] == "promise 8 to A"
    heard = Replica()
    heard.hear(B, Stale(20))
    assert heard.step(Campaign()) == ["to B: try 21", "to C: try 21"]


def test_promises_of_an_older_candidacy_count_for_nothing() -> None:
    replica = Replica()
    replica.step(Campaign())
    replica.hear(B, promised(0, trial=True))
    assert replica.hear(B, promised(7)) == []
    assert replica.core.role is Role.CANDIDATE


def test_an_entry_commits_with_two_flushes_of_three_whoever_they_are() -> None:
    replica = primary()
    assert replica.propose(b"a") == [
        "write 1.2",
        "to B: append [1.2] after 1.1, commit 1",
    ]  # C has not answered the append before.
    assert replica.appended(B, 2) == []
    assert replica.flush() == ["high water 2", "commit 1.2"]
    replica.propose(b"b")
    assert replica.appended(B, 3) == []
    assert replica.appended(C, 3) == ["commit 1.3"]  # Its own flush may still be under way.


def test_entries_commit_in_order_and_once() -> None:
    replica = primary(ALONE)
    assert replica.propose(b"a", b"b") == ["write 1.2", "write 1.3"]
    replica.propose(b"c")
    assert replica.step(Flushed(Position(1, 2))) == ["high water 2", "commit 1.2"]
    assert replica.step(Flushed(Position(1, 2))) == []
    assert replica.step(Flushed(Position(1, 4))) == ["high water 4", "commit 1.3", "commit 1.4"]


def test_what_waits_for_a_follower_goes_together_with_the_next_append() -> None:
    replica = primary()
    replica.propose(b"a")
    assert replica.propose(b"b") == ["write 1.3"]
    assert replica.propose(b"c") == ["write 1.4"]
    assert replica.appended(B, 2) == ["to B: append [1.3 1.4] after 1.2, commit 1"]


def test_older_entries_commit_only_with_the_own_empty_entry() -> None:
    old = [entry(2, 6, b"x"), entry(3, 7, b"y")]
    replica = Replica(A, tail=old, committed=(2, 5), promised=(3, A))
    replica.step(Campaign())
    replica.hear(B, promised(3, trial=True))
    assert replica.hear(B, promised(4)) == [
        "write 4.8",
        "to B: append [4.8] after 3.7, commit 5",
        "to C: append [4.8] after 3.7, commit 5",
    ]
    assert replica.appended(B, 7) == ["to B: append [4.8] after 3.7, commit 5"]
    assert replica.core.committed == Position(2, 5)  # Two of three have 3.7, and yet.
    replica.flush()
    assert replica.appended(B, 8) == ["commit 2.6", "commit 3.7", "commit 4.8"]


def test_a_gap_is_filled_from_where_the_follower_says() -> None:
    replica = primary(tail=[entry(1, 1), entry(1, 2)], promised=(1, A))
    assert replica.core.last == Position(2, 3)
    assert replica.hear(C, Gap(2, 2, replica.now_ms)) == [
        "to C: append [1.2 2.3] after 1.1, commit 3"
    ]
    follower = Replica(C, tail=[entry(1, 1)], promised=(1, A))
    assert follower.append(A, 2, (1, 2), entry(2, 3)) == ["promise 2 to A", "to A: gap from 2"]
    follower.append(A, 2, (1, 1), entry(1, 2), entry(2, 3))
    assert follower.flush() == ["high water 3", "to A: appended 3"]


def test_a_late_gap_does_not_undo_a_better_answer() -> None:
    replica = primary()
    before_ms = replica.now_ms
    replica.now_ms += 10
    replica.propose(b"a")
    replica.flush()
    replica.appended(B, 2)
    assert replica.hear(B, Gap(1, 1, before_ms)) == []
    assert replica.core.committed == Position(1, 2)


def test_an_append_without_an_answer_is_sent_again() -> None:
    replica = primary()
    for follower in (B, C):
        replica.hear(follower, Appended(1, 1, replica.now_ms, 1))
    replica.propose(b"a")
    assert replica.tick(RESEND_MS) == []
    assert replica.tick(1) == [
        "to B: append [1.2] after 1.1, commit 1",
        "to C: append [1.2] after 1.1, commit 1",
    ]


def test_idle_followers_learn_what_is_committed() -> None:
    replica = primary(members_of((A, B)))
    assert replica.tick(TELL_COMMIT_MS) == []
    assert replica.tick(1) == ["to B: append [] after 1.1, commit 1"]


def test_a_stale_primary_is_told_and_demoted() -> None:
    follower = Replica(B, promised=(5, C))
    assert follower.append(A, 1, (0, 0), entry(1, 1)) == ["to A: stale, promised 5"]
    replica = primary()
    replica.propose(b"a")
    assert replica.hear(B, Stale(5)) == ["demoted"]
    assert replica.core.role is Role.FOLLOWER
    with pytest.raises(NotPrimary):
        replica.step(Propose((draft(b"b"),)))
    assert replica.flush() == ["high water 2"]  # Its outcome is unknown; nothing commits.


def test_a_primary_that_hears_of_its_successor_follows_it() -> None:
    replica = primary()
    replica.propose(b"a")
    replica.flush()
    assert replica.append(B, 2, (1, 1), entry(2, 2)) == [
        "promise 2 to B",
        "demoted",
        "high water 1",
        "cut from 2",
        "write 2.2",
    ]
    assert replica.flush() == ["high water 2", "to B: appended 2"]
    assert replica.core.primary == B


def test_a_primary_without_a_majority_steps_down() -> None:
    replica = primary()
    replica.propose(b"a")
    replica.flush()
    replica.tick(STEP_DOWN_MS)
    assert replica.core.role is Role.PRIMARY
    assert replica.tick(1)[-1] == "demoted"


def test_release_makes_a_move_instant() -> None:
    replica = primary()
    with pytest.raises(Invalid):
        replica.step(Release(C))  # It has not got the whole log.
    with pytest.raises(Invalid):
        replica.step(Release(D))
    assert replica.step(Release(B)) == [
        "to B: released 1 to B",
        "to C: released 1 to B",
        "demoted",
    ]
    successor, other = Replica(B), Replica(C)
    for follower in (successor, other):
        follower.append(A, 1, (0, 0), entry(1, 1))
        follower.flush()
    ask = AskPromise(2, 1, 1, trial=False)
    assert other.hear(B, ask) == ["to B: refused 2, promised 1"]  # The lease runs.
    assert successor.hear(A, Released(1, B)) == [
        "promise 2 to B",
        "to A: ask 2",
        "to C: ask 2",
    ]
    assert other.hear(A, Released(1, B)) == []
    assert other.hear(B, ask) == ["promise 2 to B", "to B: promised 2"]


def test_release_of_another_reign_changes_nothing() -> None:
    follower = Replica(B)
    follower.append(A, 1, (0, 0), entry(1, 1))
    assert follower.hear(C, Released(1, B)) == []
    assert follower.hear(A, Released(0, B)) == []
    assert follower.hear(C, AskPromise(2, 1, 1, trial=False)) == ["to C: refused 2, promised 1"]


def test_a_learner_is_fed_from_what_is_fetched() -> None:
    replica = primary(members_of((A,), (D,)), tail=[entry(1, 9)], committed=(1, 8), promised=(1, A))
    assert replica.hear(D, Gap(2, 1, replica.now_ms)) == ["fetch after 0 for D"]
    assert replica.hear(D, Gap(2, 1, replica.now_ms)) == []  # One reading at a time.
    fetched = Fetched(D, Position(0, 0), (entry(1, 1), entry(1, 2)))
    assert replica.step(fetched) == ["to D: append [1.1 1.2] after 0.0, commit 10"]
    assert replica.appended(D, 2) == ["fetch after 2 for D"]


def test_a_learner_is_filled_by_a_snapshot_where_the_log_does_not_reach() -> None:
    replica = primary(members_of((A,), (D,)), tail=[entry(1, 9)], committed=(1, 8), promised=(1, A))
    replica.hear(D, Gap(2, 1, replica.now_ms))
    assert replica.step(Fetched(D, None)) == ["snapshot for D"]
    assert replica.step(SnapshotEnded(D, 9)) == ["to D: append [] after 1.9, commit 10"]
    assert replica.appended(D, 9) == ["to D: append [2.10] after 1.9, commit 10"]


def test_a_snapshot_that_failed_is_asked_for_again() -> None:
    replica = primary(members_of((A,), (D,)), tail=[entry(1, 9)], committed=(1, 8), promised=(1, A))
    replica.hear(D, Gap(2, 1, replica.now_ms))
    replica.step(Fetched(D, None))
    replica.step(SnapshotEnded(D, 0))
    assert replica.hear(D, Gap(2, 1, replica.now_ms)) == ["fetch after 0 for D"]


def test_what_was_read_of_the_uncommitted_end_is_not_sent() -> None:
    replica = primary(members_of((A,), (D,)), tail=[entry(1, 9)], committed=(1, 8), promised=(1, A))
    replica.hear(D, Gap(2, 8, replica.now_ms))
    read = (entry(1, 8), entry(1, 9), entry(2, 10), entry(2, 11))
    assert replica.step(Fetched(D, Position(1, 7), read)) == [
        "to D: append [1.8 1.9 2.10] after 1.7, commit 10"
    ]


def test_what_was_fetched_for_nobody_is_dropped() -> None:
    replica = primary()
    assert replica.step(Fetched(C, Position(0, 0), (entry(1, 1),))) == []
    assert replica.step(Fetched(D, None)) == []


def test_quorum_and_commit_index() -> None:
    assert [quorum(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
    assert commit_index({A: 4}) == 4
    assert commit_index({A: 9, B: 4, C: 2}) == 4
    assert commit_index({A: 9, B: 4, C: 2, D: 1}) == 2
    assert THREE.voters == (A, B, C)
    assert isinstance(Append(1, 0, 0, (), 0, 0), Append)
