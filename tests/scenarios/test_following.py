"""Transcripts of followers: what they write, cut off, acknowledge and refuse (R3, R13, R16)."""

from __future__ import annotations

from storage.replication.effects import Flushed
from storage.replication.messages import AskPromise, Position
from tests.scenarios.replicas import A, B, C, Replica, entry


def test_a_follower_acknowledges_after_its_flush() -> None:
    follower = Replica(B)
    assert follower.append(A, 1, (0, 0), entry(1, 1)) == ["promise 1 to A", "write 1.1"]
    assert follower.flush() == ["high water 1", "to A: appended 1"]


def test_a_flush_that_began_before_the_newest_entry_acknowledges_nothing_yet() -> None:
    follower = Replica(B)
    follower.append(A, 1, (0, 0), entry(1, 1))
    follower.append(A, 1, (1, 1), entry(1, 2))
    assert follower.step(Flushed(Position(1, 1))) == ["high water 1"]
    assert follower.flush() == ["high water 2", "to A: appended 2"]


def test_an_append_that_is_known_is_only_answered() -> None:
    follower = Replica(B)
    follower.append(A, 1, (0, 0), entry(1, 1), entry(1, 2))
    follower.flush()
    assert follower.append(A, 1, (0, 0), entry(1, 1)) == ["to A: appended 2"]
    assert follower.append(A, 1, (1, 2)) == ["to A: appended 2"]


def test_a_follower_commits_what_the_primary_says_and_it_holds_itself() -> None:
    follower = Replica(B)
    assert follower.append(A, 1, (0, 0), entry(1, 1), commit=5)[1:] == ["write 1.1", "commit 1.1"]
    follower.append(A, 1, (1, 1), entry(1, 2), entry(1, 3))
    follower.flush()
    assert follower.append(A, 1, (1, 3), commit=2) == ["to A: appended 3", "commit 1.2"]


def test_a_new_primary_commits_here_only_what_is_known_to_agree() -> None:
    follower = Replica(B, tail=[entry(1, 1), entry(1, 2)], promised=(1, A))
    assert follower.append(C, 2, (0, 0), commit=2) == ["promise 2 to C", "to C: appended 0"]
    assert follower.append(C, 2, (1, 1), commit=2) == ["to C: appended 1", "commit 1.1"]


def test_a_conflicting_end_that_was_not_committed_is_cut() -> None:
    old = [entry(1, 1), entry(1, 2), entry(1, 3)]
    follower = Replica(B, tail=old, promised=(1, A), high_water=3)
    assert follower.append(C, 3, (2, 2)) == ["promise 3 to C", "to C: gap from 2"]
    assert follower.append(C, 3, (1, 1), entry(2, 2), entry(3, 3)) == [
        "high water 1",
        "cut from 2",
        "write 2.2",
        "write 3.3",
    ]
    assert follower.flush() == ["high water 3", "to C: appended 3"]


def test_what_agrees_is_not_cut_by_a_late_and_shorter_append() -> None:
    follower = Replica(B, tail=[entry(1, 1), entry(1, 2)], promised=(1, A))
    assert follower.append(A, 1, (0, 0), entry(1, 1)) == ["to A: appended 1"]
    assert follower.core.last == Position(1, 2)


def test_what_is_committed_is_not_looked_at_again() -> None:
    follower = Replica(B, tail=[entry(3, 6)], committed=(3, 5), promised=(3, A))
    assert follower.append(A, 3, (1, 2), entry(2, 3), entry(2, 4)) == ["to A: appended 5"]


def test_the_flush_of_a_position_that_was_cut_off_is_ignored() -> None:
    follower = Replica(B)
    follower.append(A, 1, (0, 0), entry(1, 1), entry(1, 2), entry(1, 3))
    follower.append(C, 2, (1, 1), entry(2, 2), entry(2, 3))
    assert follower.step(Flushed(Position(1, 3))) == []
    assert follower.step(Flushed(Position(1, 2))) == []
    assert follower.step(Flushed(Position(1, 7))) == []
    assert follower.flush() == ["high water 3", "to C: appended 3"]


def test_the_flush_of_an_older_reign_acknowledges_nothing_to_it() -> None:
    follower = Replica(B)
    follower.append(A, 1, (0, 0), entry(1, 1))
    follower.now_ms += 600
    assert follower.hear(C, AskPromise(2, 1, 1, trial=False)) == [
        "promise 2 to C",
        "to C: promised 2",
    ]
    assert follower.flush() == ["high water 1"]


def test_a_later_primary_is_followed_at_once() -> None:
    follower = Replica(B, promised=(1, A))
    assert follower.append(C, 7, (0, 0), entry(7, 1)) == ["promise 7 to C", "write 7.1"]
    assert follower.core.primary == C
    assert follower.append(A, 1, (0, 0), entry(1, 1)) == ["to A: stale, promised 7"]
