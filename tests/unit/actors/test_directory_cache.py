"""What a gateway remembers: until when, and what a change takes out."""

from __future__ import annotations

import pytest

from actors import directory_cache
from actors.account_commands import BY_PASSWORD, USER_SCOPES, Access, Held
from actors.commands import Account, MailboxId, ShardId
from actors.directory_cache import DirectoryCache, Name


def account(number: int) -> Account:
    return Account(MailboxId(number), f"u{number}@x.test", ShardId(2))


def access(number: int) -> Access:
    return Access(account(number), USER_SCOPES, Held(MailboxId(number), BY_PASSWORD))


def cache_of(*numbers: int) -> DirectoryCache:
    cache = DirectoryCache()
    cache.changed(1, None)
    for number in numbers:
        cache.put(Name(Account, number), account(number), version=1, until_ms=100)
        cache.put(Name(Access, number), access(number), version=1, until_ms=100)
    return cache


def test_a_change_takes_out_what_it_is_about() -> None:
    cache = cache_of(1, 2, 3)
    cache.changed(2, (MailboxId(2), MailboxId(9)))
    assert cache.get(Name(Account, 2), 0) is None
    assert cache.get(Name(Access, 2), 0) is None
    assert cache.get(Name(Account, 1), 0) == account(1)
    assert cache.get(Name(Access, 3), 0) == access(3)
    cache.changed(3, None)
    assert cache.get(Name(Account, 1), 0) is None
    cache.put(Name(Account, 1), account(1), version=3, until_ms=100)
    cache.changed(4, (MailboxId(1),))
    assert cache.get(Name(Account, 1), 0) is None


def test_nothing_is_served_while_the_watch_is_lost() -> None:
    cache = cache_of(1)
    cache.lost()
    assert cache.get(Name(Account, 1), 0) is None
    cache.changed(1, None)  # Nothing has changed meanwhile.
    assert cache.get(Name(Account, 1), 0) == account(1)


def test_an_answer_older_than_a_change_is_not_kept() -> None:
    cache = cache_of()
    cache.changed(2, ())
    cache.put(Name(Account, 1), account(1), version=1, until_ms=100)
    assert cache.get(Name(Account, 1), 0) is None


def test_an_answer_is_kept_for_its_time() -> None:
    cache = cache_of(1)
    assert cache.get(Name(Account, 1), 99) == account(1)
    assert cache.get(Name(Account, 1), 100) is None
    assert cache.get(Name(Account, 1), 0) is None


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_cache, "CACHE_BYTES_MAX", 5 * directory_cache.ENTRY_BYTES)
    cache = cache_of(1, 2, 3)
    assert cache.counts()["directory_cache_bytes"] <= 5 * directory_cache.ENTRY_BYTES
    assert cache.get(Name(Account, 1), 0) is None
    assert cache.get(Name(Access, 3), 0) == access(3)
    cache.changed(2, (MailboxId(1), MailboxId(2), MailboxId(3)))
    assert cache.get(Name(Access, 3), 0) is None


def test_names_of_sign_ins_hold_no_password() -> None:
    one, other = DirectoryCache(), DirectoryCache()
    assert one.secret_name("a", "secret") == one.secret_name("a", "secret")
    assert one.secret_name("a", "secret") != other.secret_name("a", "secret")
    assert one.secret_name("a", "b") != one.secret_name("a\0b", "")
    assert "secret" not in repr(one.secret_name("a", "secret"))
    one.secret_name("\ud800", "\ud800")


def test_it_tells_how_often_it_was_of_use() -> None:
    cache = cache_of(1)
    cache.get(Name(Account, 1), 0)
    cache.get(Name(Account, 1), 0)
    cache.get(Name(Account, 2), 0)
    counts = cache.counts()
    assert counts["directory_cache_hits_total"] == 2
    assert counts["directory_cache_misses_total"] == 1
    cache.changed(2, None)
    assert cache.counts()["directory_cache_bytes"] == 0
