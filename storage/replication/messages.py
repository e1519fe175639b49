"""Messages: what replicas of one shard say to each other (R4-R6, R14, R16).

Every message may be lost, late, repeated or overtaken: each carries its epoch and indexes, and
the receiver decides by these alone. On the wire a message is one version byte and a msgpack
array that begins with the message's name; fields are only appended, each with a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType, TypeAlias

import msgspec

from mail.errors import Unavailable
from storage.records import Entry

ReplicaId = NewType("ReplicaId", bytes)  # 16 octets, born with the replica's directory

VERSION: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a log ends: epoch first, so that positions compare as elections need (R4)."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class Promise:
    """An epoch, and the one candidate that it was promised to (R14)."""

    epoch: int
    candidate: ReplicaId


class PeerMessage(msgspec.Struct, frozen=True, array_like=True):
    """Base of the messages. `epoch` is the sender's."""

    epoch: int


class Append(PeerMessage, frozen=True, array_like=True, tag="append"):
    """A primary's entries that follow `previous`; without any it only renews the lease."""

    previous_epoch: int
    previous_index: int
    entries: tuple[Entry, ...]
    commit_index: int
    sent_at_ms: int  # the primary's clock; comes back in the answer and says how old a lease is


class Appended(PeerMessage, frozen=True, array_like=True, tag="appended"):
    """The log agrees with the primary's up to `match_index`, which is flushed here."""

    match_index: int
    sent_at_ms: int
    commit_index: int  # so much is known here to be committed
    suspect: bool = False  # counts in no majority: this replica has lost what it acknowledged


class Gap(PeerMessage, frozen=True, array_like=True, tag="gap"):
    """The entries do not follow on what is here; those from `next_index` on may."""

    next_index: int
    sent_at_ms: int
    suspect: bool = False


class Stale(PeerMessage, frozen=True, array_like=True, tag="stale"):
    """The sender of that message reigns no more: `epoch` is promised here."""


class AskPromise(PeerMessage, frozen=True, array_like=True, tag="ask promise"):
    """A candidate wants `epoch`; its log ends at `last`."""

    last_epoch: int
    last_index: int
    trial: bool  # only asks what the answer would be, and binds nobody


class Promised(PeerMessage, frozen=True, array_like=True, tag="promised"):
    """`epoch` is promised to the one who asked; from now on older epochs are refused here."""

    trial: bool
    suspect: bool
    high_water: int  # every entry up to this index was acknowledged here


class Refused(PeerMessage, frozen=True, array_like=True, tag="refused"):
    """`epoch` is not promised. `promised_epoch` is what the next try must exceed."""

    promised_epoch: int
    trial: bool


class Released(PeerMessage, frozen=True, array_like=True, tag="released"):
    """The primary of `epoch` gives up its lease in favour of `successor`."""

    successor: bytes


AnyMessage: TypeAlias = Append | Appended | Gap | Stale | AskPromise | Promised | Refused | Released

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode_message(message: AnyMessage) -> bytes:
    """Return the octets of a message."""
    return bytes((VERSION,)) + _encoder.encode(message)


def decode_message(octets: bytes | memoryview) -> AnyMessage:
    """Return the message. Raises Unavailable for what this release cannot read."""
    if not octets or octets[0] != VERSION:
        raise Unavailable("a replica's message of an unknown version")
    try:
        return _decoder.decode(memoryview(octets)[1:])
    except msgspec.DecodeError:
        raise Unavailable("a replica's message that cannot be read here") from None
