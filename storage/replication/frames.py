"""Frames: what the drivers of a shard's replicas send each other, around the core's messages.

A frame is for one replica and names its sender; one that went astray, to a process that took
over a port, is not for it and is dropped. On the wire: one version byte and a msgpack array.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from mail.errors import Unavailable
from storage.replication.messages import ReplicaId

VERSION: Final = 1


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Base of the frames."""

    to: bytes
    sender: bytes


class Said(Frame, frozen=True, array_like=True, tag="said"):
    """A message of the core, and the small blobs that its entries name."""

    message: bytes
    blobs: tuple[tuple[bytes, bytes], ...] = ()
    gone: tuple[bytes, ...] = ()  # named by an entry here, and dropped by a later committed one


class Part(Frame, frozen=True, array_like=True, tag="part"):
    """A slice of a large blob, ahead of the entry that names it."""

    digest: bytes
    chunk: int
    chunks: int
    octets: bytes


class Lacking(Frame, frozen=True, array_like=True, tag="lacking"):
    """An append cannot be taken: these blobs are not here."""

    digests: tuple[bytes, ...]


class SnapshotFile(msgspec.Struct, frozen=True, array_like=True):
    name: str
    size_bytes: int
    modified: bool = False  # may differ from one of the same name in another snapshot


class Offer(Frame, frozen=True, array_like=True, tag="offer"):
    """A primary has a snapshot for a follower whose log it cannot fill."""

    snapshot: bytes  # names it
    epoch: int  # of the reign
    applied_epoch: int
    applied_index: int
    files: tuple[SnapshotFile, ...]


class Wanted(Frame, frozen=True, array_like=True, tag="wanted"):
    """The follower wants octets of a file next; an empty name: all of it is here and in force."""

    snapshot: bytes
    name: str
    offset: int


class Slice(Frame, frozen=True, array_like=True, tag="slice"):
    """Octets of a snapshot's file."""

    snapshot: bytes
    name: str
    offset: int
    octets: bytes
    crc32: int


AnyFrame: TypeAlias = Said | Part | Lacking | Offer | Wanted | Slice

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyFrame] = msgspec.msgpack.Decoder(AnyFrame)


def encode_frame(frame: AnyFrame) -> bytes:
    """Return the octets of a frame."""
    return bytes((VERSION,)) + _encoder.encode(frame)


def decode_frame(octets: bytes) -> AnyFrame:
    """Return the frame. Raises Unavailable for what this release cannot read."""
    if not octets or octets[0] != VERSION:
        raise Unavailable("a replica's frame of an unknown version")
    try:
        return _decoder.decode(memoryview(octets)[1:])
    except msgspec.DecodeError:
        raise Unavailable("a replica's frame that cannot be read here") from None


def addressee(frame: AnyFrame) -> ReplicaId:
    """Return the replica that a frame is for."""
    return ReplicaId(frame.to)
