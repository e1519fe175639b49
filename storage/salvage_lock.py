"""SalvageLock: while a shard is salvaged, nobody opens it.

A file beside the shard's directory, locked (flock) by the process that salvages; a process that
was killed leaves it unlocked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BeingSalvaged(Exception):
    """Another process salvages this shard."""


@contextmanager
def salvaging(shard: Path) -> Iterator[None]:
    """Keep others from opening a shard. Raises BeingSalvaged."""
    file = os.open(_lock(shard), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeingSalvaged(f"shard {shard.name} is being salvaged already") from None
        yield
        _lock(shard).unlink(missing_ok=True)
    finally:
        os.close(file)


def is_being_salvaged(shard: Path) -> bool:
    """Say whether a process holds the lock."""
    try:
        file = os.open(_lock(shard), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.salvage")
