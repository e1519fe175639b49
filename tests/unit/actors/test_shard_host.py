"""What a shard's actor does when something is amiss: temporary answers, mail before the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors import wire
from actors.commands import (
    AddDomain,
    Command,
    Deliver,
    Delivered,
    Done,
    Drain,
    Failed,
    MailboxId,
    MailboxShown,
    Reply,
    ShardId,
    ShardShown,
    ShowMailbox,
    ShowShard,
)
from actors.credentials import Hasher
from actors.directory import Directory
from actors.local_ports import LocalTransport
from actors.mailbox import Mailbox
from actors.options import ShardOptions
from actors.request_ids import new_request_id
from mail.errors import OutcomeUnknown, Unavailable
from storage import indexer as indexer_module
from storage import replica as replica_module
from storage.database import CannotOpen
from storage.records import Damaged
from tests.contract.house import CHEAP, letter

ONE = MailboxId(1)


def options(path: Path, kind: str = "mailbox") -> ShardOptions:
    return ShardOptions(ShardId(2), kind, str(path / "s"), "test", create=True)


async def started(path: Path) -> Mailbox:
    mailbox = Mailbox(options(path), LocalTransport())
    await mailbox.start()
    return mailbox


def delivery(number: int = 0) -> Deliver:
    raw = b"Subject: %d\r\n\r\nbody\r\n" % number
    mail = letter(raw)
    return Deliver(ONE, new_request_id(), raw, mail.summary, mail.search_text, 1)


async def ask(mailbox: Mailbox | Directory, command: Command) -> Reply:
    (reply,) = wire.decode_replies(await mailbox.handle(wire.encode([command])))
    return reply


async def test_a_frame_that_cannot_be_read_is_refused_for_now(tmp_path: Path) -> None:
    mailbox = await started(tmp_path)
    for frame in (b"\x07\x90", b"", b"\x01\x91\x91\xa3New"):
        (reply,) = wire.decode_replies(await mailbox.handle(frame))
        assert isinstance(reply, Failed)
        assert isinstance(wire.raised(reply), Unavailable)
    await mailbox.close()


async def test_mail_is_taken_without_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *, anew: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexer_module.SearchIndex, "open", full)
    mailbox = await started(tmp_path)
    assert await ask(mailbox, delivery()) == Delivered(1)
    await mailbox.close()


async def test_a_shard_in_use_elsewhere_is_opened_when_it_is_free(tmp_path: Path) -> None:
    first = await started(tmp_path)
    second = Mailbox(options(tmp_path), LocalTransport())
    with pytest.raises(CannotOpen):
        await second.start()
    assert not second.trouble
    await first.close()
    third = await started(tmp_path)
    assert await ask(third, delivery()) == Delivered(1)
    await third.close()


async def test_a_shard_that_failed_to_open_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opened(self: Mailbox, shard: object) -> None:
        raise RuntimeError("for a passing reason")

    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "opened", opened)
        failed = Mailbox(options(tmp_path), LocalTransport())
        with pytest.raises(RuntimeError):
            await failed.start()
    mailbox = await started(tmp_path)
    assert not mailbox.trouble
    assert await ask(mailbox, delivery()) == Delivered(1)
    await mailbox.close()


async def test_what_is_committed_while_closing_is_answered(tmp_path: Path) -> None:
    mailbox = await started(tmp_path)
    sending = [asyncio.create_task(ask(mailbox, delivery(n))) for n in range(20)]
    await asyncio.sleep(0)
    await ask(mailbox, Drain())
    replies = await asyncio.gather(*sending)
    assert all(isinstance(reply, Delivered | Failed) for reply in replies)
    stored = sum(isinstance(reply, Delivered) for reply in replies)
    again = await started(tmp_path)
    shown = await ask(again, ShowMailbox(ONE))
    assert isinstance(shown, MailboxShown)
    assert shown.messages == stored > 0
    await again.close()


async def test_a_read_that_meets_the_end_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = await started(tmp_path)

    async def late(command: Command) -> Reply:
        await mailbox.close()
        raise Damaged("database: it is closed")

    monkeypatch.setattr(mailbox, "answer", late)
    assert await ask(mailbox, ShowMailbox(ONE)) == Failed("Unavailable", "the shard is closed")
    shown = await ask(mailbox, ShowShard())
    assert isinstance(shown, ShardShown)
    assert shown.trouble == ""


async def test_a_bug_of_ours_leaves_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = await started(tmp_path)

    async def broken(command: Command) -> Reply:
        raise KeyError("after the commit")

    monkeypatch.setattr(mailbox, "answer", broken)
    reply = await ask(mailbox, ShowMailbox(ONE))
    assert isinstance(reply, Failed)
    assert isinstance(wire.raised(reply), OutcomeUnknown)
    await mailbox.close()


async def test_the_directory_does_not_keep_its_log_for_an_index_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "LOG_KEPT_ENTRIES", 5)
    monkeypatch.setattr(replica_module, "LOG_SLACK_ENTRIES", 5)
    for _ in range(2):
        directory = Directory(
            options(tmp_path, "directory"), LocalTransport(), hasher=Hasher(CHEAP)
        )
        await directory.start()
        for _ in range(30):
            name = f"d{new_request_id().hex()}.test"
            assert await ask(directory, AddDomain(new_request_id(), name)) == Done()
        assert directory.shard.applied.index - directory.shard.replica.log.first <= 10
        await directory.close()


async def test_only_a_shard_that_is_well_and_unused_is_idle(tmp_path: Path) -> None:
    mailbox = await started(tmp_path)
    mailbox._used_at -= 100
    assert mailbox.idle_s >= 100
    await ask(mailbox, ShowShard())  # Whoever looks how it is does not use it.
    assert mailbox.idle_s >= 100
    await ask(mailbox, delivery())
    assert mailbox.idle_s < 100
    mailbox._used_at -= 100
    assert mailbox.idle_s == 0  # The search index does not have the message yet.
    await mailbox.indexer.catch_up()
    assert mailbox.idle_s >= 100
    mailbox.out_of_service("a rotten block")
    assert mailbox.idle_s == 0  # Its trouble would not be seen any more.
    await mailbox.close()
