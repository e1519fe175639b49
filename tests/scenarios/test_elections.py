"""Transcripts of elections and leases: who promises what to whom, and when (R4, R5, R14, R16)."""

from __future__ import annotations

import pytest

from mail.errors import NotPrimary
from storage.replication.core import Role
from storage.replication.effects import Campaign, RenewLease
from storage.replication.election import ASK_AGAIN_MS, ELECTION_MS
from storage.replication.members import members_of
from storage.replication.messages import Appended, AskPromise, Position
from storage.replication.reign import LEASE_MS, STEP_DOWN_MS
from tests.scenarios.replicas import A, B, C, D, Replica, entry, primary, promised


def ask(epoch: int, last: tuple[int, int] = (0, 0), *, trial: bool = False) -> AskPromise:
    return AskPromise(epoch, *last, trial)


def test_an_epoch_is_promised_once_and_repeated_to_the_same_candidate() -> None:
    voter = Replica(C)
    assert voter.hear(A, ask(1)) == ["promise 1 to A", "to A: promised 1"]
    assert voter.hear(B, ask(1)) == ["to B: refused 1, promised 1"]
    assert voter.hear(A, ask(1)) == ["to A: promised 1"]
    assert voter.hear(B, ask(2)) == ["promise 2 to B", "to B: promised 2"]
    assert voter.hear(A, ask(1)) == ["to A: refused 1, promised 2"]


def test_a_promise_outlives_a_restart() -> None:
    voter = Replica(C, promised=(3, A))
    assert voter.hear(B, ask(3)) == ["to B: refused 3, promised 3"]
    assert voter.hear(A, ask(3)) == ["to A: promised 3"]


def test_nobody_promises_to_a_shorter_log() -> None:
    voter = Replica(C, tail=[entry(2, 1), entry(3, 2)], promised=(3, A))
    assert voter.hear(A, ask(4, (2, 9))) == ["to A: refused 4, promised 3"]
    assert voter.hear(A, ask(4, (3, 1))) == ["to A: refused 4, promised 3"]
    assert voter.hear(A, ask(4, (3, 2))) == ["promise 4 to A", "to A: promised 4"]


def test_what_is_written_and_not_flushed_counts_in_a_promise() -> None:
    voter = Replica(C)
    voter.append(A, 1, (0, 0), entry(1, 1))
    voter.now_ms += LEASE_MS
    assert voter.hear(B, ask(2)) == ["to B: refused 2, promised 1"]


def test_a_lease_blocks_promises_until_it_ends() -> None:
    voter = Replica(C)
    voter.append(A, 1, (0, 0), entry(1, 1))
    voter.now_ms += LEASE_MS - 1
    assert voter.hear(B, ask(2, (1, 1))) == ["to B: refused 2, promised 1"]
    assert voter.hear(B, ask(2, (1, 1), trial=True)) == ["to B: refused 2, promised 1"]
    voter.now_ms += 1
    assert voter.hear(B, ask(2, (1, 1))) == ["promise 2 to B", "to B: promised 2"]


def test_the_lease_does_not_block_its_own_primary() -> None:
    voter = Replica(C)
    voter.append(A, 1, (0, 0), entry(1, 1))
    assert voter.hear(A, ask(2, (1, 1))) == ["promise 2 to A", "to A: promised 2"]


def test_a_voter_does_not_stand_while_its_lease_runs() -> None:
    voter = Replica(B)
    voter.append(A, 1, (0, 0), entry(1, 1))
    voter.step(Campaign())
    assert voter.hear(C, promised(1, trial=True)) == []
    assert voter.core.role is Role.FOLLOWER


def test_a_restarted_replica_waits_one_lease() -> None:
    voter = Replica(C, waited=False)
    voter.now_ms += LEASE_MS - 1
    assert voter.hear(B, ask(2)) == ["to B: refused 2, promised 0"]
    voter.now_ms += 1
    assert voter.hear(B, ask(2)) == ["promise 2 to B", "to B: promised 2"]


def test_a_trial_binds_nobody() -> None:
    voter = Replica(C, promised=(4, A))
    assert voter.hear(B, ask(5, trial=True)) == ["to B: would promise 4"]
    assert voter.core.promised.epoch == 4
    assert voter.hear(A, ask(5)) == ["promise 5 to A", "to A: promised 5"]


def test_a_trial_is_refused_by_a_primary_with_a_lease_and_does_not_hurt_it() -> None:
    replica = primary()
    assert replica.hear(C, ask(9, (9, 9), trial=True)) == ["to C: refused 9, promised 1"]
    assert replica.core.role is Role.PRIMARY
    assert replica.step(Campaign()) == []
    replica.now_ms += LEASE_MS
    assert replica.hear(C, ask(9, (9, 9), trial=True)) == ["to C: would promise 1"]
    assert replica.core.role is Role.PRIMARY
    assert replica.hear(C, ask(9, (9, 9))) == ["promise 9 to C", "demoted", "to C: promised 9"]


def test_a_candidate_asks_again_and_gives_up_in_time() -> None:
    replica = Replica()
    replica.step(Campaign())
    assert replica.tick(ASK_AGAIN_MS) == ["to B: try 1", "to C: try 1"]
    replica.hear(B, promised(0, trial=True))
    assert replica.tick(ASK_AGAIN_MS) == ["to B: ask 1", "to C: ask 1"]
    replica.tick(ELECTION_MS)
    assert replica.core.role is Role.FOLLOWER
    assert replica.hear(B, promised(1)) == []


def test_only_voters_stand_and_only_voters_count() -> None:
    assert Replica(D).step(Campaign()) == []
    replica = Replica()
    replica.step(Campaign())
    assert replica.hear(D, promised(0, trial=True)) == []


def test_answers_leave_only_while_the_lease_holds() -> None:
    replica = primary()
    began_ms = replica.now_ms
    assert replica.core.may_answer(began_ms + LEASE_MS * 9 // 10 - 1)
    assert not replica.core.may_answer(began_ms + LEASE_MS * 9 // 10)
    replica.now_ms += LEASE_MS
    assert replica.step(RenewLease()) == [
        "to B: append [] after 1.1, commit 1",
        "to C: append [] after 0.0, commit 1",
    ]
    assert not replica.core.may_answer(replica.now_ms)
    asked_ms = replica.now_ms
    replica.now_ms += 200  # The lease counts from the question, however late the answer.
    replica.hear(B, Appended(1, 1, asked_ms, 1))
    assert replica.core.may_answer(asked_ms + LEASE_MS * 9 // 10 - 1)
    assert not replica.core.may_answer(asked_ms + LEASE_MS * 9 // 10)


def test_a_primary_whose_lease_nobody_renews_steps_down() -> None:
    replica = primary()
    replica.tick(LEASE_MS)
    replica.step(RenewLease())
    assert "demoted" not in replica.tick(STEP_DOWN_MS)
    assert replica.tick(1)[-1] == "demoted"


def test_a_primary_alone_needs_nobody_for_its_lease() -> None:
    replica = primary(members_of((A,)))
    replica.step(RenewLease())
    assert replica.tick(STEP_DOWN_MS + 1) == []
    assert replica.core.may_answer(replica.now_ms)


def test_only_a_serving_primary_renews_its_lease() -> None:
    with pytest.raises(NotPrimary):
        Replica().step(RenewLease())


# Replicas that lost what they had acknowledged


def test_a_suspect_replica_does_not_stand_and_says_what_it_is() -> None:
    replica = Replica(C, tail=[entry(1, 1)], promised=(1, A), high_water=3)
    assert replica.core.suspect
    assert replica.step(Campaign()) == []
    assert replica.hear(B, ask(2, (1, 1))) == ["promise 2 to B", "to B: promised 2 suspect up to 3"]
    follower = Replica(C, tail=[entry(1, 1)], promised=(1, A), high_water=3)
    assert follower.append(A, 1, (1, 3)) == ["to A: gap from 2 suspect"]


def test_a_suspect_counts_in_no_majority() -> None:
    candidate = Replica()
    candidate.step(Campaign())
    candidate.hear(B, promised(0, trial=True, suspect_upto=3))
    assert candidate.core.role is Role.CANDIDATE
    assert candidate.hear(C, promised(0, trial=True))[0] == "promise 1 to A"
    reigning = primary()
    reigning.propose(b"a")
    reigning.flush()
    assert reigning.appended(B, 2, suspect=True) == []
    assert reigning.appended(C, 2) == ["commit 1.2"]


def test_two_sound_replicas_of_four_do_not_elect_with_a_suspect_third() -> None:
    """What five committed on three, one of which forgot it, may be missing on all of these."""
    candidate = Replica(A, members_of((A, B, C, D)))
    candidate.step(Campaign())
    candidate.hear(B, promised(0, trial=True))
    assert candidate.hear(C, promised(0, trial=True, suspect_upto=0)) == []
    assert candidate.hear(D, promised(0, trial=True))[0] == "promise 1 to A"


def test_all_together_elect_one_that_has_all_that_was_acknowledged() -> None:
    def elect(suspect_upto: int) -> list[str]:
        candidate = Replica(tail=[entry(1, 1), entry(1, 2)], promised=(1, A))
        candidate.step(Campaign())
        candidate.hear(B, promised(1, trial=True, suspect_upto=suspect_upto))
        return candidate.hear(C, promised(1, trial=True, suspect_upto=1))

    assert elect(2)[0] == "promise 2 to A"
    assert elect(3) == []


def test_a_suspect_counts_again_once_it_has_what_it_had() -> None:
    replica = Replica(C, tail=[entry(1, 1)], promised=(1, A), high_water=3)
    replica.append(A, 1, (1, 1), entry(1, 2))
    assert replica.flush() == ["to A: appended 2 suspect"]
    replica.append(A, 1, (1, 2), entry(1, 3))
    assert replica.flush() == ["to A: appended 3"]
    assert not replica.core.suspect
    assert replica.core.last == Position(1, 3)


def test_a_suspect_counts_again_once_it_has_an_entry_of_a_later_reign() -> None:
    replica = Replica(C, tail=[entry(1, 1)], promised=(1, A), high_water=9)
    replica.append(B, 2, (1, 1), entry(2, 2))
    assert replica.flush() == ["high water 2", "to B: appended 2"]
    assert not replica.core.suspect
