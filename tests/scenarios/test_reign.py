"""Transcripts of the replication core: inputs, and what it told the driver to do."""

from __future__ import annotations

import pytest

from mail.errors import NotPrimary
from storage.records import ENTRY_EFFECTS, ENTRY_EPOCH, Entry
from storage.replication.core import (
    Campaign,
    Effects,
    Flushed,
    Position,
    Promise,
    PromiseKept,
    Propose,
    ReplicaCore,
    ReplicaId,
    Role,
    commit_index,
    quorum,
)

ME, SECOND, THIRD = (ReplicaId(bytes((n,)) * 16) for n in (1, 2, 3))


def core(*, promised: int = 0, last: tuple[int, int] = (0, 0), committed: int = 0) -> ReplicaCore:
    return ReplicaCore(ME, frozenset((ME,)), Promise(promised, ME), Position(*last), committed)


def draft(name: bytes) -> Entry:
    return Entry(0, 0, mailbox=1, request_id=name, recorded_at_ms=5)


def transcript(effects: Effects) -> list[object]:
    """Return effects in a form that reads."""
    said: list[object] = []
    if effects.promise is not None:
        said.append(("promise", effects.promise.epoch))
    said += [("append", e.epoch, e.index, e.request_id) for e in effects.append]
    said += [("commit", e.epoch, e.index, e.request_id) for e in effects.committed]
    return said


def test_a_reign_begins_with_a_promise_then_an_empty_entry_then_serves() -> None:
    replica = core()
    assert transcript(replica.step(Campaign(0))) == [("promise", 1)]
    with pytest.raises(NotPrimary):
        replica.step(Propose((draft(b"early"),)))
    effects = replica.step(PromiseKept(Promise(1, ME)))
    assert transcript(effects) == [("append", 1, 1, b"")]
    assert effects.append[0].kind == ENTRY_EPOCH
    assert not replica.serving
    assert transcript(replica.step(Flushed(1))) == [("commit", 1, 1, b"")]
    assert replica.serving
    assert replica.role is Role.PRIMARY


def test_entries_commit_only_with_their_flush_and_in_order() -> None:
    replica = core()
    replica.step(Campaign(0))
    replica.step(PromiseKept(Promise(1, ME)))
    replica.step(Flushed(1))
    effects = replica.step(Propose((draft(b"a"), draft(b"b"))))
    assert transcript(effects) == [("append", 1, 2, b"a"), ("append", 1, 3, b"b")]
    assert all(entry.kind == ENTRY_EFFECTS for entry in effects.append)
    replica.step(Propose((draft(b"c"),)))
    assert transcript(replica.step(Flushed(2))) == [("commit", 1, 2, b"a")]
    assert transcript(replica.step(Flushed(2))) == []
    assert transcript(replica.step(Flushed(4))) == [
        ("commit", 1, 3, b"b"),
        ("commit", 1, 4, b"c"),
    ]


def test_older_entries_commit_with_the_new_reign_and_not_before() -> None:
    replica = core(promised=3, last=(3, 7), committed=5)
    replica.recover([Entry(3, 6, 1, b"x", 5), Entry(3, 7, 1, b"y", 5)])
    assert transcript(replica.step(Campaign(0))) == [("promise", 4)]
    assert transcript(replica.step(PromiseKept(Promise(4, ME)))) == [("append", 4, 8, b"")]
    assert transcript(replica.step(Flushed(7))) == []
    assert transcript(replica.step(Flushed(8))) == [
        ("commit", 3, 6, b"x"),
        ("commit", 3, 7, b"y"),
        ("commit", 4, 8, b""),
    ]


def test_a_new_epoch_is_above_every_promised_and_every_written_one() -> None:
    assert transcript(core(promised=9, last=(3, 1)).step(Campaign(0))) == [("promise", 10)]
    assert transcript(core(promised=2, last=(7, 1)).step(Campaign(0))) == [("promise", 8)]


def test_a_promise_to_another_gives_no_reign() -> None:
    replica = core()
    assert transcript(replica.step(PromiseKept(Promise(4, SECOND)))) == []
    assert replica.role is Role.FOLLOWER
    assert transcript(replica.step(Campaign(0))) == [("promise", 5)]


def test_quorum_and_commit_index() -> None:
    assert [quorum(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
    assert commit_index({ME: 4}) == 4
    assert commit_index({ME: 9, SECOND: 4, THIRD: 2}) == 4
