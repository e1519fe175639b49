"""What replicas say to each other, on the wire."""

from __future__ import annotations

import pytest

from mail.errors import Unavailable
from storage.replication.members import members_of
from storage.replication.messages import (
    VERSION,
    AnyMessage,
    Append,
    Appended,
    AskPromise,
    Gap,
    Promised,
    Refused,
    Released,
    Stale,
    decode_message,
    encode_message,
)
from tests.scenarios.replicas import A, B, entry

MESSAGES: tuple[AnyMessage, ...] = (
    Append(3, 2, 7, (entry(3, 8, b"id"), entry(3, 9, b"", members_of((A,), (B,)))), 6, 1234),
    Append(1 << 40, 0, 0, (), 0, -5),
    Appended(3, 9, 1234, 6),
    Appended(3, 9, 1234, 6, suspect=True),
    Gap(3, 5, 1234, suspect=True),
    Stale(4),
    AskPromise(4, 3, 9, trial=True),
    Promised(4, trial=False, suspect=True, high_water=12),
    Refused(4, 5, trial=False),
    Released(3, B),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message: AnyMessage) -> None:
    octets = encode_message(message)
    assert octets[0] == VERSION
    assert decode_message(octets) == message
    assert decode_message(memoryview(octets)) == message


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        bytes((VERSION + 1,)) + encode_message(Stale(4))[1:],
        bytes((VERSION,)),
        encode_message(Released(3, B))[:-1],
        bytes((VERSION,)) + b"\x92\xa7unknown\x01",
        bytes((VERSION,)) + b"\x91\xa5stale",
    ],
)
def test_what_cannot_be_read_is_a_temporary_error(octets: bytes) -> None:
    with pytest.raises(Unavailable):
        decode_message(octets)


def test_a_newer_release_may_append_fields() -> None:
    assert decode_message(bytes((VERSION,)) + b"\x93\xa5stale\x04\x09") == Stale(4)
