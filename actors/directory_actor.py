"""DirectoryActor: the directory's shard inside its Ray actor.

A module of its own, since a process that serves mailboxes starts sooner without the directory's
imports, and somebody waits for it.
"""

from __future__ import annotations

from actors.directory import Directory
from actors.shard_actor import ShardActor


class DirectoryActor(ShardActor):
    """A Directory that opens itself."""

    host_class = Directory
