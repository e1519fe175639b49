"""Records that rest on disk: older ones are read by newer releases."""

from __future__ import annotations

import msgspec

from mail.summary import EmailAddress, SearchText, Summary


def test_records_survive_the_trip() -> None:
    for record in (
        Summary(subject="x", from_=(EmailAddress(None, "a@b"),), message_id=("i",)),
        SearchText(body="본문"),
    ):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)) == record


def test_shorter_arrays_of_older_releases_are_read() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["x"]), type=Summary) == Summary("x")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([]), type=SearchText) == SearchText()


def test_longer_arrays_of_newer_releases_are_read() -> None:
    newer = msgspec.to_builtins(SearchText(subject="x"))
    assert msgspec.convert([*newer, "later"], type=SearchText) == SearchText(subject="x")
