"""Frames: what one release writes, another reads; what is not a frame is refused."""

from __future__ import annotations

import msgspec
import pytest

from actors import wire
from actors.commands import Deliver, Done, Failed, GetBlob, MailboxId, RequestId, ShowShard
from mail import errors
from mail.summary import SearchText, Summary


def test_commands_and_replies_come_back() -> None:
    commands = [
        Deliver(MailboxId(3), RequestId(b"r" * 16), b"raw", Summary("s"), SearchText(), 7),
        ShowShard(),
    ]
    assert wire.decode_commands(wire.encode(commands)) == commands
    assert wire.decode_replies(wire.encode([Done()])) == [Done()]


def test_fields_that_are_missing_or_unknown_are_read() -> None:
    shorter = bytes((wire.VERSION,)) + msgspec.msgpack.encode([["GetBlob", 1, "G"]])
    assert wire.decode_commands(shorter) == [GetBlob(MailboxId(1), "G")]
    longer = bytes((wire.VERSION,)) + msgspec.msgpack.encode([["GetBlob", 1, "G", 2, 3, "new"]])
    assert wire.decode_commands(longer) == [GetBlob(MailboxId(1), "G", 2, 3)]


@pytest.mark.parametrize("frame", [b"", b"\x07\x90", b"\x01", b"\x01\xc1", b"\x01\x91\xa1x"])
def test_what_is_not_a_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(errors.Invalid):
        wire.decode_commands(frame)


def test_errors_keep_their_kind_and_unknown_ones_are_temporary() -> None:
    for cls in (errors.NoSuchMailbox, errors.Overloaded, errors.MessageTooLarge):
        assert type(wire.raised(wire.failed(cls("why")))) is cls
    assert wire.failed(ValueError("a secret")).text == "internal error"
    assert type(wire.raised(Failed("NotYetKnown", "t"))) is errors.Unavailable
    assert type(wire.raised(Failed("smtp_reply", "t"))) is errors.Unavailable
    with pytest.raises(errors.Unavailable):
        wire.result(Done(), Failed.__class__)
