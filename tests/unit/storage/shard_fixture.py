"""A shard on a real disk, and letters for it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from actors import mailbox_turns
from actors.commands import Deliver, Delivered, MailboxId
from actors.request_ids import new_request_id
from mail.message import parse
from storage.blobs import digest_of
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.shard import Shard

NAME = ReplicaName("a-cluster", 2, "mailbox")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def open_shard(path: Path, **options: object) -> Shard:
    """Open the replica at `path`, made if need be, and recover it. Raises Damaged."""
    directory = ReplicaDirectory(path)
    if not directory.is_made:
        await directory.make(NAME, new_request_id)
    database, hard = directory.open(NAME)
    options = {"clock_ms": now_ms, **options}
    shard = Shard(database, hard, **options)  # type: ignore[arg-type]
    try:
        await shard.recover()
    except BaseException:
        database.close()
        hard.close()
        raise
    return shard


@asynccontextmanager
async def opened(path: Path, **options: object) -> AsyncIterator[Shard]:
    shard = await open_shard(path, **options)
    try:
        yield shard
    finally:
        await shard.close()


def letter(subject: str = "hello", body: bytes | None = None, mailbox: int = 1) -> Deliver:
    """Return a delivery of a small message; every one is different."""
    octets = body if body is not None else os.urandom(200).hex().encode()
    raw = (
        f"From: a@example.test\r\nTo: b@example.test\r\nSubject: {subject}\r\n"
        f"Message-ID: <{os.urandom(8).hex()}@example.test>\r\n\r\n"
    ).encode() + octets
    message = parse(raw)
    return Deliver(
        MailboxId(mailbox),
        new_request_id(),
        raw,
        message.summary,
        message.search_text,
        now_ms(),
    )


async def deliver(shard: Shard, command: Deliver) -> Delivered:
    digest = digest_of(command.raw)
    plan = mailbox_turns.mailbox_plan(command.mailbox, mailbox_turns.deliver(command, digest))
    octets = await shard.run(command.mailbox, command.request_id, plan, blobs={digest: command.raw})
    reply = mailbox_turns.decoded(octets)
    assert isinstance(reply, Delivered)
    return reply
