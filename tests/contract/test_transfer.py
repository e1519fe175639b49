"""Import and export through the control listener, over the whole house without Ray."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from actors.commands import Account, MailboxShown, SetProfile, ShowMailbox
from actors.request_ids import new_request_id
from actors.transfer_commands import MessageRow
from cluster.administration import Administration
from cluster.cli_transfer import Tally, _export, _import
from cluster.control import Control
from cluster.data_directory import DataDirectory
from cluster.export_targets import EmlTarget, MaildirTarget, MboxTarget, Target
from cluster.import_sources import EmlSource, MaildirSource, MboxSource, Source
from cluster.refusal import Refused
from cluster.transfer import Incoming, Transfer
from cluster.transfer_client import TransferClient
from mail.folder_path import parse_folder_path
from tests.contract.house import House, house

LIMIT = 100_000
RECEIVED_S = 1_704_189_600


class Desk:
    """A house with its control listener, and what an operator does there."""

    def __init__(self, built: House, control: Control, address: str) -> None:
        self.house = built
        self._run = {"control": address, "token": control.token, "pid": os.getpid()}
        self.path = built.path

    def read_run(self) -> dict[str, Any]:
        return self._run

    def client(self, account: Account) -> TransferClient:
        return TransferClient(cast(DataDirectory, self), account.address)

    async def bring(self, account: Account, *sources: Source) -> tuple[Tally, str]:
        tally = Tally()
        client = self.client(account)
        stopped = await asyncio.to_thread(_import, client, list(sources), tally)
        client.close()
        return tally, stopped

    async def write(self, account: Account, target: Target) -> Tally:
        tally = Tally()
        client = self.client(account)
        await asyncio.to_thread(_export, client, target, tally)
        client.close()
        return tally

    async def content(self, account: Account) -> dict[str, list[tuple[Any, ...]]]:
        """Return what is in each folder that has mail: digest, second received, keywords."""
        client = self.client(account)

        def read() -> dict[str, list[tuple[Any, ...]]]:
            return {
                str(folder.path): sorted(
                    (row.digest, row.received_at_ms // 1000, row.keywords)
                    for page in client.messages(folder.folder)
                    for row in page
                )
                for folder in client.folders()
                if folder.emails
            }

        found = await asyncio.to_thread(read)
        client.close()
        return found

    async def folders(self, account: Account) -> set[str]:
        client = self.client(account)
        found = {str(row.path) for row in await asyncio.to_thread(client.folders)}
        client.close()
        return found

    async def shown(self, account: Account) -> MailboxShown:
        (reply,) = await self.house.tell(account, ShowMailbox(account.mailbox))
        assert isinstance(reply, MailboxShown)
        return reply


@asynccontextmanager
async def desk(path: Path, *names: str) -> AsyncIterator[tuple[Desk, list[Account]]]:
    async with house(path / "shards", *names) as (built, accounts):
        control = Control(lambda: None)
        address = await control.open()

        async def status() -> dict[str, Any]:
            return {}

        transfer = Transfer(built.transport, size_bytes_max=LIMIT)
        control.serve(cast(Administration, None), status, transfer)
        try:
            yield Desk(built, control, address), accounts
        finally:
            await control.close()


def message(subject: str, body: str = "body") -> bytes:
    return f"From: a@x.test\nSubject: {subject}\nMessage-ID: <{subject}@x>\n\n{body}\n".encode()


def put(directory: Path, name: str, octets: bytes, *, received_ms: int = RECEIVED_S * 1000) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_bytes(octets)
    os.utime(file, ns=(received_ms * 1_000_000,) * 2)
    return file


def make_maildir(path: Path) -> None:
    put(path / "cur", "1.a:2,FS", message("one"), received_ms=RECEIVED_S * 1000 + 123)
    put(path / "new", "2.b", message("two").replace(b"\n", b"\r\n"))
    put(path / "cur", "3.c:2,ST", message("deleted"))
    put(path / "cur", "4.d:2,RPab", message("four"))
    (path / "dovecot-keywords").write_text("0 work\n1 $Label1\n")
    put(path / ".Sent Items" / "cur", "1.a:2,S", message("sent"))
    put(path / ".Work.&1VyuAA-" / "cur", "1.a:2,S", message("korean", "한글"))
    put(path / ".Work.Both" / "cur", "9.z:2,FS", message("one"), received_ms=RECEIVED_S * 1000)
    put(path / ".Drafts" / "cur", "1.a:2,D", message("draft"))
    put(path / ".Empty" / "cur", ".keep", b"")


def facts(octets: bytes, *keywords: str) -> tuple[bytes, int, tuple[str, ...]]:
    crlf = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
    return hashlib.sha256(crlf).digest(), RECEIVED_S, keywords


async def test_a_maildir_with_folders_flags_and_dates(tmp_path: Path) -> None:
    make_maildir(tmp_path / "mail")
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, stopped = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.placed, tally.deleted, tally.failed) == (6, 1, 1, 0)
        assert not stopped
        assert await at.content(alice) == {
            "Inbox": sorted(
                [
                    facts(message("one"), "$flagged", "$seen"),
                    facts(message("two")),
                    facts(message("four"), "$answered", "$forwarded", "$label1", "work"),
                ]
            ),
            "Sent": [facts(message("sent"), "$seen")],
            "Drafts": [facts(message("draft"), "$draft")],
            "Work/한글": [facts(message("korean", "한글"), "$seen")],
            "Work/Both": [facts(message("one"), "$flagged", "$seen")],
        }
        shown = await at.shown(alice)
        assert (shown.messages, shown.unread) == (6, 2)
        assert "Empty" in await at.folders(alice)


async def test_the_same_import_again_adds_nothing(tmp_path: Path) -> None:
    make_maildir(tmp_path / "mail")
    async with desk(tmp_path, "alice") as (at, (alice,)):
        await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        before = await at.content(alice), await at.shown(alice)
        tally, _ = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.placed, tally.present) == (0, 0, 7)
        assert (await at.content(alice), await at.shown(alice)) == before
        put(tmp_path / "mail" / "new", "99.x", message("late"))
        tally, _ = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.present) == (1, 7)


async def test_what_cannot_be_read_is_told_and_the_rest_comes(tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    put(mail / "cur", "1.a:2,", message("one"))
    put(mail / "cur", "2.b:2,", message("large", "x" * LIMIT))
    put(mail / "cur", "3.c:2,", b"")
    put(mail / f".{'x' * 254}" / "cur", "4.d:2,", message("four"))
    (mail / "cur" / "5.e:2,").symlink_to("nowhere")
    put(mail / ".Bad\x01" / "cur", "4.d:2,", message("five"))
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, stopped = await at.bring(alice, MaildirSource(mail, None, LIMIT))
        assert (tally.stored, tally.failed, stopped) == (2, 3, "")
        assert sorted(text for _, text in tally.failures) == [
            "The folder name has control characters",
            "is empty",
            f"is larger than {LIMIT} bytes",
        ]


async def test_an_import_stops_when_the_mailbox_is_full_and_goes_on(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path / "mail" / "cur", f"{number}.a:2,S", message(str(number), "x" * 1000))
    async with desk(tmp_path, "alice") as (at, (alice,)):
        profile = SetProfile(new_request_id(), alice.address, quota_bytes=5 * 1100)
        await at.house.ask(profile, Account)
        tally, stopped = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert tally.stored == 5
        assert "full" in stopped
        assert (await at.shown(alice)).size_bytes <= 5 * 1100
        await at.house.ask(SetProfile(new_request_id(), alice.address, quota_bytes=0), Account)
        tally, stopped = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.present, stopped) == (15, 5, "")


async def test_a_copy_that_differs_is_a_message_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "mail" / "cur", "1.a:2,S", message("one"))
    put(tmp_path / "mail" / ".Other" / "cur", "1.a:2,", message("one"))
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, _ = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.placed) == (2, 0)
        tally, _ = await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.placed, tally.present) == (0, 0, 2)


async def test_below_a_folder(tmp_path: Path) -> None:
    make_maildir(tmp_path / "mail")
    root = parse_folder_path("Old/2019")
    async with desk(tmp_path, "alice") as (at, (alice,)):
        await at.bring(alice, MaildirSource(tmp_path / "mail", root, LIMIT))
        assert sorted(await at.content(alice)) == [
            "Old/2019",
            "Old/2019/Drafts",
            "Old/2019/Sent Items",
            "Old/2019/Work/Both",
            "Old/2019/Work/한글",
        ]


async def test_a_takeout_of_gmail(tmp_path: Path) -> None:
    def labelled(subject: str, labels: str) -> bytes:
        head = f"From 1@xxx Tue Jan 02 10:00:00 +0000 2024\nX-Gmail-Labels: {labels}\n".encode()
        return head + message(subject) + b"\n"

    octets = (
        labelled("one", "Inbox,Unread,Category Updates,Work/Reports")
        + labelled("two", "Archived,Opened,Starred,Important")
        + labelled("three", "=?UTF-8?Q?=EB=B3=B4=EB=82=B8=ED=8E=B8=EC=A7=80=ED=95=A8?=")
        + labelled("four", '"Spam, and more",\n Spam')
    )
    put(tmp_path, "All mail.mbox", octets)
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, _ = await at.bring(alice, MboxSource(tmp_path / "All mail.mbox", None, LIMIT))
        assert (tally.stored, tally.failed) == (4, 0)
        found = await at.content(alice)
        assert {name: [one[2] for one in rows] for name, rows in found.items()} == {
            "Inbox": [()],
            "Work/Reports": [()],
            "Archive": [("$flagged", "$important", "$seen")],
            "Sent": [("$seen",)],
            "Junk": [("$seen",)],
            "Spam, and more": [("$seen",)],
        }
        assert {one[1] for rows in found.values() for one in rows} == {RECEIVED_S}


async def test_mboxes_of_mail_programs(tmp_path: Path) -> None:
    line = b"From - Tue Jan  2 10:00:00 2024\n"
    profile = tmp_path / "Local Folders"
    put(profile, "Inbox", line + b"X-Mozilla-Status: 0001\n" + message("one") + b"\n")
    put(profile, "Inbox.msf", b"// <!-- <mdb:mork:z")
    put(profile, "filters.txt", b"version=9")
    put(profile / "Work.sbd", "Reports", line + message("two") + b"\n")
    put(profile / "Apple.mbox", "mbox", line + message("three") + b"\n")
    put(profile, "Trash", line + b"X-Mozilla-Status: 0009\n" + message("gone") + b"\n")
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, _ = await at.bring(alice, MboxSource(profile, None, LIMIT))
        assert (tally.stored, tally.deleted, tally.failed) == (3, 1, 0)
        found = await at.content(alice)
        assert sorted(found) == ["Apple", "Inbox", "Work/Reports"]
        assert found["Inbox"][0][2] == ("$seen",)


async def test_files_of_one_message_each(tmp_path: Path) -> None:
    dated = b"Received: from x by y; Tue, 2 Jan 2024 10:00:00 +0000\n"
    put(tmp_path / "mail", "one.EML", dated + message("one"), received_ms=1)
    put(tmp_path / "mail" / "Work", "two.eml", message("two"))
    put(tmp_path / "mail" / "Work", "readme.txt", b"not mail")
    async with desk(tmp_path, "alice") as (at, (alice,)):
        tally, _ = await at.bring(alice, EmlSource(tmp_path / "mail", None, LIMIT))
        assert (tally.stored, tally.failed) == (2, 0)
        assert await at.content(alice) == {
            "Inbox": [facts(dated + message("one"), "$seen")],
            "Work": [facts(message("two"), "$seen")],
        }


@pytest.mark.parametrize("kind", ["maildir", "mbox", "eml"])
async def test_what_was_exported_and_imported_is_the_same(tmp_path: Path, kind: str) -> None:
    make_maildir(tmp_path / "mail")
    put(tmp_path / "mail" / ".a&AC4-b.c&AC8-d.&-%25" / "cur", "1.a:2,S", message("odd"))
    put(tmp_path / "mail" / ".Junk" / "cur", "1.a:2,", message("junk"))
    put(tmp_path / "mail" / ".Spam" / "cur", "1.a:2,", message("spam"))
    put(tmp_path / "mail" / "cur", "7.q:2,S", message("quoted", "From me\n>From you\n\n"))
    out = tmp_path / "out"
    targets = {"maildir": MaildirTarget, "mbox": MboxTarget, "eml": EmlTarget}
    sources = {"maildir": MaildirSource, "mbox": MboxSource, "eml": EmlSource}
    async with desk(tmp_path, "alice", "bob") as (at, (alice, bob)):
        await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        before = await at.content(alice)
        assert {"a.b/c/d/&%25", "Junk", "Spam"} < set(before)
        first = await at.write(alice, targets[kind](out))
        assert (first.stored, first.present, first.failed) == (11, 0, 0)
        again = await at.write(alice, targets[kind](out))
        assert (again.stored, again.present) == (0, 11)
        tally, stopped = await at.bring(bob, sources[kind](out, None, LIMIT))
        assert (tally.failures, stopped) == ([], "")
        assert await at.content(bob) == before
        assert await at.folders(bob) == await at.folders(alice)
        assert await at.shown(bob) == await at.shown(alice)
        if kind == "maildir":
            times = {file.stat().st_mtime_ns for file in (out / "cur").iterdir()}
            assert RECEIVED_S * 10**9 + 123 * 10**6 in times


async def test_an_export_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    for number in range(30):
        put(tmp_path / "mail" / "cur", f"{number}.a:2,S", message(str(number)))

    class Torn(MaildirTarget):
        def write(self, row: MessageRow, octets: bytes) -> None:
            if row.uid == 12:
                raise OSError(28, "No space left on device", "cur")
            super().write(row, octets)

    async with desk(tmp_path, "alice") as (at, (alice,)):
        await at.bring(alice, MaildirSource(tmp_path / "mail", None, LIMIT))
        with pytest.raises(Refused):
            await at.write(alice, Torn(tmp_path / "out"))
        one, *_ = sorted((tmp_path / "out" / "cur").iterdir())
        one.write_bytes(b"")  # As after a power failure.
        tally = await at.write(alice, MaildirTarget(tmp_path / "out"))
        assert (tally.stored, tally.present) == (20, 10)
        assert len(list((tmp_path / "out" / "cur").iterdir())) == 30


async def test_large_messages_travel_in_pieces(tmp_path: Path) -> None:
    octets = message("large", "0123456789\n" * (6 << 20 >> 4) * 2)
    put(tmp_path / "mail" / "cur", "1.a:2,S", octets)
    async with desk(tmp_path, "alice", "bob") as (at, (alice, _)):
        transfer = Transfer(at.house.transport, size_bytes_max=32 << 20)
        source = MaildirSource(tmp_path / "mail", None, 32 << 20)
        (item,) = source.items()
        incoming = Incoming(item.octets, 1, item.folders)  # type: ignore[union-attr]
        (outcome,) = await transfer.store(alice.address, [incoming])
        assert outcome.outcome == "stored"
        await at.write(alice, EmlTarget(tmp_path / "out"))
        (file,) = (tmp_path / "out").rglob("*.eml")
        assert file.read_bytes() == octets.replace(b"\n", b"\r\n")


async def test_an_account_that_is_not_there(tmp_path: Path) -> None:
    async with desk(tmp_path, "alice") as (at, (alice,)):
        nobody = replace_address(alice, "nobody@example.test")
        with pytest.raises(Refused):
            await at.write(nobody, MaildirTarget(tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def replace_address(account: Account, address: str) -> Account:
    return Account(account.mailbox, address, account.shard)
