"""Salvaging: a damaged shard's directory, saved as far as it goes, and put in its place.

The damaged directory is put aside under a name that tells when, never deleted. Salvaged data
is a new replica; that it takes the shard's place is the operator's decision (R16).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.commands import DIRECTORY_SHARD, ShardId
from actors.request_ids import new_request_id
from mail.errors import Unavailable
from storage import keys, records
from storage.database import CannotOpen, Family, RocksDatabase
from storage.files import sync_directory
from storage.records import AccountRecord, Damaged
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.salvage import Salvage
from storage.salvage_lock import BeingSalvaged, salvaging

REPORT = "salvage.json"


async def salvage_shard(
    source: Path,
    *,
    out: Path | None,
    cluster_id: str,
    shard: ShardId,
    accounts: Mapping[str, int],
    now_ms: int,
    stamp: str,
    release: Callable[[], None],
    progress: Callable[[str, int], None],
) -> dict[str, Any]:
    """Save what is left of a shard and return what became of it, as facts.

    Without `out` the result takes the shard's place, and the damaged directory is beside it
    with `stamp` in its name; `release` makes the running actor let go of the files. Raises
    Unavailable when nothing can be read, or somebody else does it.
    """
    kind = "directory" if shard == DIRECTORY_SHARD else "mailbox"
    target = out if out is not None else source.with_name(f"{source.name}.new")
    if ReplicaDirectory(target).is_made:
        raise Unavailable(f"{target} is there already: move it away first")
    if not await asyncio.to_thread(source.is_dir):
        raise Unavailable(f"{source} is not there")
    salvage = Salvage(
        source,
        target,
        ReplicaName(cluster_id, shard, kind),
        {address.lower(): mailbox for address, mailbox in accounts.items()},
        new_request_id,
        now_ms,
        progress,
    )
    try:
        with salvaging(source):
            release()
            report = await salvage.run()
            facts = asdict(report) | {"directory": str(target)}
            if out is None:
                facts |= {"directory": str(source), "damaged": str(_swap(source, target, stamp))}
                _write_report(Path(str(facts["damaged"])) / REPORT, facts)
    except (BeingSalvaged, Damaged, CannotOpen) as error:
        raise Unavailable(str(error)) from None
    return facts


def _swap(source: Path, target: Path, stamp: str) -> Path:
    aside = source.with_name(f"{source.name}.damaged-{stamp}")
    source.rename(aside)
    target.rename(source)
    sync_directory(source.parent)
    return aside


def _write_report(file: Path, facts: Mapping[str, Any]) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump(facts, stream, indent=1)


def accounts_on_disk(shards: Path, shard: ShardId) -> dict[str, int]:
    """Return the addresses of a shard and their mailboxes, read while nothing runs.

    Empty when the directory's own shard cannot be read: then messages of which no record is
    left cannot be told apart.
    """
    path = ReplicaDirectory(shards / f"{DIRECTORY_SHARD:06d}").database
    found: dict[str, int] = {}
    with suppress(Damaged, CannotOpen):
        database = RocksDatabase(path, create=False, read_only=True)
        try:
            prefix = keys.kind(keys.DIRECTORY, b"A")
            for _, octets in database.scan(Family.STATE, prefix, keys.after(prefix)):
                account = records.decode(octets, AccountRecord)
                if account.shard == shard:
                    names = (account.address, *account.aliases)
                    found |= dict.fromkeys(names, account.account)
        finally:
            database.close()
    return found
