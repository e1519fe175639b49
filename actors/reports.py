"""Reports: what replicas, supervisors and those who look for a primary tell each other.

Supervisors hold no state of their own: every replica reports to the supervisor of its node, and
the supervisors pass it on to each other, so that each sees the whole cluster as it is (R: act
without Ray's control plane). Orders go the other way, from a supervisor to the replicas of its
own node only. A frame is one version byte and a msgpack array that begins with its name.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from actors.commands import ShardId
from actors.link import LinkAddress
from mail.errors import Unavailable

# What supervisors decide with, and they do not know storage.
from storage.records import Members as Members  # noqa: PLC0414
from storage.replication.members import members_of as members_of  # noqa: PLC0414
from storage.replication.members import quorum as quorum  # noqa: PLC0414

VERSION: Final = 1


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of the messages. Fields are only appended, each with a default."""


class Report(Message, frozen=True, array_like=True, tag="report"):
    """What a replica is, in its own words. Absence of a report is never evidence (rule 12)."""

    shard: ShardId
    kind: str
    replica: bytes  # empty while it is not open
    node: str
    address: LinkAddress
    state: str  # "recovering", "following", "serving", "reading", "damaged"
    role: str = "follower"  # or "candidate", "primary"
    epoch: int = 0
    last_epoch: int = 0
    last_index: int = 0
    commit_index: int = 0
    applied_index: int = 0
    indexed_index: int = 0
    members_index: int = 0
    voters: tuple[bytes, ...] = ()
    learners: tuple[bytes, ...] = ()
    primary: bytes = b""  # whom it follows
    suspect: bool = False
    matched: tuple[tuple[bytes, int], ...] = ()  # of a primary: how far each follower is
    pid: int = 0
    idle_s: float = 0.0
    trouble: str = ""
    flushed_index: int = 0  # its log is on disk up to here; may be cut off beyond `commit_index`
    no_room: bool = False  # its disk is nearly full: a primary refuses mail there


def unreachable(report: Report) -> Report:
    """Return the report of a replica that was there and says nothing any more."""
    return msgspec.structs.replace(report, state="unreachable", role="none")


class Beat(Message, frozen=True, array_like=True, tag="beat"):
    """A supervisor is alive. `reports` are of its own node: those that changed since `serial`."""

    node: str
    incarnation: bytes  # of the supervisor's process
    serial: int
    whole: bool  # these are all, not only the changed ones
    reports: tuple[Report, ...]
    address: LinkAddress  # where the supervisor listens
    gone: tuple[ShardId, ...] = ()  # replicas of this node whose process has ended
    disk_free_bytes: int = 0
    release: str = ""
    gateways: tuple[str, ...] = ()


class Introduce(Message, frozen=True, array_like=True, tag="introduce"):
    """To a replica: where the others of its shard listen."""

    addresses: tuple[tuple[bytes, LinkAddress], ...]


class StandForElection(Message, frozen=True, array_like=True, tag="stand"):
    """To a replica: no primary is seen; try to become it. Only a hint (rule 1)."""


class SetMembers(Message, frozen=True, array_like=True, tag="members"):
    """To a primary: replace the replica set that log index `based_on` brought."""

    voters: tuple[bytes, ...]
    learners: tuple[bytes, ...]
    based_on: int


class HandOver(Message, frozen=True, array_like=True, tag="hand over"):
    """To a primary: let this replica lead, once it has all."""

    successor: bytes


class KnowNodes(Message, frozen=True, array_like=True, tag="nodes"):
    """To the directory's primary: the nodes where new shards may go, and how many replicas each.

    Those that are `silent` now are only taken when there are too few others.
    """

    nodes: tuple[str, ...]
    factor: int
    silent: tuple[str, ...] = ()


class Led(Message, frozen=True, array_like=True, tag="led"):
    """To gateways: these shards are led from there now."""

    primaries: tuple[tuple[ShardId, LinkAddress], ...]


class Find(Message, frozen=True, array_like=True, tag="find"):
    """Where is the primary of this shard? It is started when it rests."""

    shard: ShardId


class Found(Message, frozen=True, array_like=True, tag="found"):
    """Where the replicas of a shard listen, the likeliest primary first."""

    addresses: tuple[LinkAddress, ...]


class NodeShown(msgspec.Struct, frozen=True, array_like=True):
    """One node, as a supervisor hears of it."""

    node: str
    silent_ms: int  # since its last beat
    disk_free_bytes: int
    release: str
    gateways: tuple[str, ...]  # its actors' names
    host: str = ""  # where its actors listen for others


class Look(Message, frozen=True, array_like=True, tag="look"):
    """What does the cluster look like?"""


class Picture(Message, frozen=True, array_like=True, tag="picture"):
    """All reports that a supervisor knows, "unreachable" ones too, and which nodes it hears."""

    reports: tuple[Report, ...]
    nodes: tuple[NodeShown, ...]


AnyMessage: TypeAlias = (
    Report
    | Beat
    | Introduce
    | StandForElection
    | SetMembers
    | HandOver
    | KnowNodes
    | Led
    | Find
    | Found
    | Look
    | Picture
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """Return the octets of a message."""
    return bytes((VERSION,)) + _encoder.encode(message)


def decode(octets: bytes) -> AnyMessage:
    """Return the message. Raises Unavailable for what this release cannot read."""
    if not octets or octets[0] != VERSION:
        raise Unavailable("a supervisor's message of an unknown version")
    try:
        return _decoder.decode(memoryview(octets)[1:])
    except msgspec.DecodeError:
        raise Unavailable("a supervisor's message that cannot be read here") from None
