"""ShardOptions: what a shard actor is told when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.commands import ShardId
from actors.link_options import LinkOptions


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """Whose shard, where it lies, and its bounds. Plain data: it crosses processes."""

    shard: ShardId
    kind: str  # "mailbox" or "directory"
    path: str  # the replica's directory
    cluster_id: str
    create: bool = False  # the directory of a replica that was never made may be made
    voters_at_birth: int = 1  # so many voters a new shard has before it takes its first turn
    founds: bool = True  # and is then the first of its shard; else one that others take in
    mailbox_actors_per_node: int = 32
    node: str = ""
    link: LinkOptions = field(default_factory=LinkOptions)  # to other processes
    version: str = ""
    disk_floor_bytes: int = 256 << 20  # below so much free space writes are refused (R16)
    log_path: str = ""
    block_cache_bytes: int = 8 << 20  # of what was read from this shard's files
    trash_days: int = 0  # mail is destroyed after so many days in Trash or Junk; 0: never
    junk_days: int = 0
    audit_hours: float = 0.0  # every mailbox is audited once in so many hours; 0: when asked
    collect_hours: float = 0.0  # and the blobs that nothing refers to are deleted; 0: when asked
