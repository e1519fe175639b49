"""Upkeep of a shard: audits and repairs while mail flows, collects, makes the index anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors import upkeep as upkeep_module
from actors import wire
from actors.commands import (
    BlobStored,
    Command,
    Deliver,
    Delivered,
    Done,
    Failed,
    GetBlob,
    Jmap,
    JmapAnswer,
    MailboxId,
    PutBlob,
    Reply,
    ShardId,
    ShardShown,
    ShowShard,
)
from actors.jmap.ids import account_id_of, blob_id_of, email_id_of
from actors.local_ports import LocalTransport
from actors.mailbox import Mailbox
from actors.options import ShardOptions
from actors.request_ids import new_request_id
from actors.upkeep_commands import (
    AUDIT,
    COLLECT,
    DONE,
    FAILED,
    REINDEX,
    RUNNING,
    BeginUpkeep,
    ReleaseShard,
    ReopenShard,
    ShowUpkeep,
    UpkeepShown,
)
from mail.errors import BlobDamaged, Invalid, NotFound, ShardDamaged
from mail.folders import Counters
from storage import keys, records
from storage.blobs import digest_of
from storage.database import Batch, Family
from storage.records import CountersRecord, Damaged
from storage.replica_directory import ReplicaDirectory, ReplicaName
from tests.contract.house import letter
from tests.properties import IN_A_HURRY

ONE = MailboxId(1)
# Answered from the columns of the mailbox, and not by walking its listing.
FILTER = {"notKeyword": "$seen"}


@asynccontextmanager
async def started(path: Path, **options: object) -> AsyncIterator[Mailbox]:
    made = ShardOptions(ShardId(2), "mailbox", str(path / "s"), "test", create=True, **options)  # type: ignore[arg-type]
    mailbox = Mailbox(made, LocalTransport())
    await mailbox.start()
    try:
        yield mailbox
    finally:
        await mailbox.close()


async def ask(mailbox: Mailbox, command: Command) -> Reply:
    (reply,) = wire.decode_replies(await mailbox.handle(wire.encode([command])))
    return reply


def delivery(text: str, *, body: bytes = b"") -> Deliver:
    raw = b"Subject: %s\r\nMessage-ID: <%s@x.test>\r\n\r\nbody of it\r\n" % ((text.encode(),) * 2)
    mail = letter(raw + body)
    return Deliver(ONE, new_request_id(), raw + body, mail.summary, mail.search_text, 1)


async def job(mailbox: Mailbox, command: BeginUpkeep) -> UpkeepShown:
    shown = await ask(mailbox, command)
    assert isinstance(shown, UpkeepShown), shown
    while shown.state == RUNNING:
        await asyncio.sleep(0.01)
        found = await ask(mailbox, ShowUpkeep(shown.job))
        assert isinstance(found, UpkeepShown), found
        shown = found
    return shown


def counts(shown: UpkeepShown) -> dict[str, int]:
    assert shown.state == DONE, shown.error
    return dict(shown.counts)


async def jmap(mailbox: Mailbox, *calls: object) -> list[list[object]]:
    using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
    request = json.dumps({"using": using, "methodCalls": calls}).encode()
    answer = await ask(mailbox, Jmap(ONE, new_request_id(), request))
    assert isinstance(answer, JmapAnswer), answer
    found: list[list[object]] = json.loads(answer.body)["methodResponses"]
    return found


async def searched(mailbox: Mailbox, word: str) -> set[int] | None:
    return await mailbox.indexer.search(ONE, ["subject"], word)


def rot(mailbox: Mailbox, digest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a blob be unreadable, as its checksum would have it."""
    database, get = mailbox.shard.database, mailbox.shard.database.get

    def rotten(family: Family, key: bytes) -> bytes | None:
        if family is Family.BLOB and key.startswith(digest):
            raise Damaged("database: Corruption: Blob CRC mismatch")
        return get(family, key)

    monkeypatch.setattr(database, "get", rotten)


# Audits -------------------------------------------------------------------------------------


async def test_an_audit_repairs_while_mail_flows(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        for number in range(20):
            await ask(mailbox, delivery(f"number{number}"))
        batch = Batch()
        wrong = CountersRecord(Counters(9, 9, 9, 9))
        batch.put(Family.STATE, keys.counters(1, 1), records.encode(wrong))
        batch.delete(Family.STATE, keys.uid(1, 1, 3))
        mailbox.shard.database.write(batch)
        await mailbox.indexer.catch_up()
        assert mailbox.indexer._index is not None
        mailbox.indexer._index.remove(1, [7])
        mailbox.indexer._index.commit()

        flowing = asyncio.gather(*(ask(mailbox, delivery(f"more{n}")) for n in range(50)))
        looked = await job(mailbox, BeginUpkeep(AUDIT))
        assert counts(looked)["left"] == counts(looked)["findings"] == 3
        assert {finding.kind for finding in looked.findings} == {
            "uid", "folder counters", "search index",
        }  # fmt: skip
        mended = await job(mailbox, BeginUpkeep(AUDIT, ONE, repair=True))
        assert counts(mended)["left"] == 0
        assert all(finding.repaired for finding in mended.findings)
        await flowing
        assert counts(await job(mailbox, BeginUpkeep(AUDIT)))["findings"] == 0
        assert await searched(mailbox, "number6") == {7}
        shown = await ask(mailbox, ShowShard())
        assert isinstance(shown, ShardShown)
        assert shown.metrics["audits_total"] == 3
        assert shown.metrics["audit_findings_total"] == 6
        assert shown.metrics["audit_repairs_total"] == 3
        assert shown.metrics["audit_findings"] == 0
        assert shown.metrics["audit_last_seconds"] > 1e9


async def test_what_a_repair_makes_right_is_found(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        for text in ("gone", "one", "two"):
            await ask(mailbox, delivery(text))
        gone = [keys.listed(1, folder, 1, 1) for folder in (keys.ALL_MAIL, 1)]
        lines = {key: mailbox.shard.database.get(Family.STATE, key) for key in gone}
        account = account_id_of(1)
        destroy = {"accountId": account, "destroy": [email_id_of(1)]}
        await jmap(mailbox, ["Email/set", destroy, "0"])
        batch = Batch()
        for key, line in lines.items():
            assert line is not None
            batch.put(Family.STATE, key, line)
        mailbox.shard.database.write(batch)
        query = ["Email/query", {"accountId": account, "filter": FILTER}, "0"]

        async def found() -> int:
            ((name, answer, _),) = await jmap(mailbox, query)
            assert name == "Email/query", answer
            assert isinstance(answer, dict)
            return len(answer["ids"])

        assert await found() == 3
        mended = await job(mailbox, BeginUpkeep(AUDIT, ONE, repair=True))
        assert counts(mended)["left"] == 0
        assert await found() == 2


async def test_rounds_come_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "FIRST_S", 0.0)
    monkeypatch.setattr(upkeep_module, "SPREAD_S", 1)
    async with started(tmp_path, audit_hours=24.0, collect_hours=24.0) as mailbox:
        await ask(mailbox, delivery("one"))
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if mailbox.upkeep.last_ms(keys.COLLECTED):
                break
        assert mailbox.metrics()["audits_total"] == 1


async def test_wrong_asks(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        reply = await ask(mailbox, BeginUpkeep("polish"))
        assert isinstance(wire.raised(reply), Invalid)  # type: ignore[arg-type]
        reply = await ask(mailbox, ShowUpkeep(1))
        assert isinstance(wire.raised(reply), NotFound)  # type: ignore[arg-type]
        reply = await ask(mailbox, ReleaseShard())
        assert isinstance(wire.raised(reply), Invalid)  # type: ignore[arg-type]


# One rotten body ----------------------------------------------------------------------------


async def test_one_rotten_body_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(tmp_path) as mailbox:
        rotten = delivery("rotten")
        for command in (rotten, delivery("sound")):
            await ask(mailbox, command)
        digest = digest_of(rotten.raw)
        rot(mailbox, digest, monkeypatch)

        reply = await ask(mailbox, GetBlob(ONE, blob_id_of(digest)))
        assert isinstance(reply, Failed)
        assert isinstance(wire.raised(reply), BlobDamaged)
        account = {"accountId": "A1"}
        body = {"properties": ["subject", "textBody"]}
        (listed, one, both) = await jmap(
            mailbox,
            ["Email/get", account | {"ids": None, "properties": ["subject"]}, "0"],
            ["Email/get", account | body | {"ids": ["M1"]}, "1"],
            ["Email/get", account | body | {"ids": ["M1", "M2"]}, "2"],
        )
        assert sorted(email["subject"] for email in listed[1]["list"]) == ["rotten", "sound"]  # type: ignore[index]
        assert one[:2] == ["error", {"type": "serverFail", "description": BlobDamaged().text}]
        assert both[1]["notFound"] == ["M1"]  # type: ignore[index]
        assert [email["id"] for email in both[1]["list"]] == ["M2"]  # type: ignore[index]
        assert mailbox.metrics()["blobs_unreadable_total"] == 3
        # Nothing but this body is out of service, and the audit names it.
        assert isinstance(await ask(mailbox, delivery("later")), Delivered)
        found = await job(mailbox, BeginUpkeep(AUDIT, repair=True))
        assert [(f.kind, f.email, f.repaired) for f in found.findings] == [
            ("blob damaged", 1, False)
        ]
        assert counts(await job(mailbox, BeginUpkeep(COLLECT)))["rewritten"] == 0


async def test_damage_of_the_state_takes_the_shard_out_until_it_is_reopened(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as mailbox:
        await ask(mailbox, delivery("one"))
        batch = Batch()
        sound = mailbox.shard.database.get(Family.STATE, keys.info(1))
        assert sound is not None
        batch.put(Family.STATE, keys.info(1), b"\x07")
        mailbox.shard.database.write(batch)
        reply = await ask(mailbox, delivery("two"))
        assert isinstance(wire.raised(reply), ShardDamaged)  # type: ignore[arg-type]
        assert isinstance(await ask(mailbox, ReleaseShard()), Done)
        shown = await ask(mailbox, ShowShard())
        assert isinstance(shown, ShardShown)
        assert (shown.state, shown.trouble) == ("damaged", "closed to be salvaged")
        database, hard = ReplicaDirectory(tmp_path / "s").open(ReplicaName("test", 2, "mailbox"))
        batch = Batch()
        batch.put(Family.STATE, keys.info(1), sound)
        database.write(batch)
        database.close()
        hard.close()
        assert isinstance(await ask(mailbox, ReopenShard()), Done)
        assert isinstance(await ask(mailbox, delivery("three")), Delivered)


# The collector ------------------------------------------------------------------------------


async def test_a_collection_takes_what_nothing_refers_to(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        gone, kept = delivery("gone", body=b"x" * 300_000), delivery("kept")
        await ask(mailbox, gone)
        await ask(mailbox, kept)
        upload = await ask(mailbox, PutBlob(ONE, new_request_id(), b"an upload"))
        assert isinstance(upload, BlobStored)
        await jmap(mailbox, ["Email/set", {"accountId": "A1", "destroy": ["M1"]}, "0"])
        dry = counts(await job(mailbox, BeginUpkeep(COLLECT, dry_run=True)))
        assert (dry["blobs"], dry["unused_blobs"], dry["dropped_blobs"]) == (3, 1, 0)
        assert dry["unused_bytes"] == len(gone.raw)
        assert mailbox.shard.blobs.size(digest_of(gone.raw)) == len(gone.raw)
        real = counts(await job(mailbox, BeginUpkeep(COLLECT)))
        assert (real["unused_blobs"], real["dropped_blobs"], real["rewritten"]) == (1, 1, 1)
        assert mailbox.shard.blobs.size(digest_of(gone.raw)) is None
        assert mailbox.shard.blobs.read(digest_of(kept.raw)) == kept.raw
        assert mailbox.shard.blobs.read(digest_of(b"an upload")) == b"an upload"


async def test_an_expired_upload_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(tmp_path) as mailbox:
        await ask(mailbox, delivery("one"))
        await ask(mailbox, PutBlob(ONE, new_request_id(), b"an upload"))
        later = mailbox.shard.clock_ms() + 25 * 3_600_000
        monkeypatch.setattr(mailbox.shard, "clock_ms", lambda: later)
        dry = counts(await job(mailbox, BeginUpkeep(COLLECT, dry_run=True)))
        assert (dry["expired_uploads"], dry["unused_blobs"]) == (1, 1)
        assert counts(await job(mailbox, BeginUpkeep(COLLECT)))["dropped_blobs"] == 1
        assert mailbox.shard.blobs.size(digest_of(b"an upload")) is None


@pytest.mark.parametrize("size", [100, 300_000])
async def test_the_same_octets_that_come_meanwhile_keep_their_blob(
    tmp_path: Path, size: int
) -> None:
    """Destroyed, collected and delivered again, in every order that the loop may take."""
    async with started(tmp_path) as mailbox:
        for delay in range(0, 30, 9 if IN_A_HURRY else 3):
            first = delivery(f"n{delay}", body=b"x" * size)
            stored = await ask(mailbox, first)
            assert isinstance(stored, Delivered)
            await jmap(
                mailbox,
                ["Email/set", {"accountId": "A1", "destroy": [f"M{stored.email_id:x}"]}, "0"],
            )

            async def again(command: Deliver = first, delay: int = delay) -> Reply:
                for _ in range(delay):
                    await asyncio.sleep(0)
                return await ask(mailbox, replace(command, request_id=new_request_id()))

            _, second = await asyncio.gather(job(mailbox, BeginUpkeep(COLLECT)), again())
            assert isinstance(second, Delivered)
            assert mailbox.shard.blobs.read(digest_of(first.raw)) == first.raw
        assert counts(await job(mailbox, BeginUpkeep(AUDIT)))["findings"] == 0


async def test_a_destroyed_message_is_on_the_disk_no_more(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        marker = b"Zq7mxmarker"
        await ask(mailbox, delivery("kept words"))
        await ask(mailbox, delivery("Zq7mxmarker", body=marker * 3))
        await ask(mailbox, delivery("Zq7mxmarker", body=marker + b"x" * 90_000))
        assert await searched(mailbox, "zq7mxmarker") == {2, 3}
        await jmap(mailbox, ["Email/set", {"accountId": "A1", "destroy": ["M2", "M3"]}, "0"])
        assert files_with(tmp_path, marker)
        assert counts(await job(mailbox, BeginUpkeep(COLLECT)))["rewritten"] == 1
        # RocksDB removes files in the background.
        for _ in range(100):
            if not files_with(tmp_path, marker):
                break
            await asyncio.sleep(0.02)
        assert files_with(tmp_path, marker) == []
        assert await searched(mailbox, "kept") == {1}
        assert await searched(mailbox, "zq7mxmarker") == set()


def files_with(path: Path, word: bytes) -> list[str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return [file.name for file in files if word.lower() in file.read_bytes().lower()]


# The index ----------------------------------------------------------------------------------


async def test_the_index_is_made_anew_while_it_is_searched(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        for number in range(60):
            await ask(mailbox, delivery(f"apple number{number}"))
        assert len(await searched(mailbox, "apple") or ()) == 60
        begun = await ask(mailbox, BeginUpkeep(REINDEX))
        assert isinstance(begun, UpkeepShown)
        number, seen = 60, begun
        while seen.state == RUNNING:
            await ask(mailbox, delivery(f"apple number{number}"))
            number += 1
            assert len(await searched(mailbox, "apple") or ()) == number
            found = await ask(mailbox, ShowUpkeep(begun.job))
            assert isinstance(found, UpkeepShown)
            seen = found
        assert seen.state == DONE
        assert seen.done >= 60
        assert len(await searched(mailbox, "apple") or ()) == number
        assert counts(await job(mailbox, BeginUpkeep(AUDIT)))["findings"] == 0
        names = sorted(entry.name for entry in (tmp_path / "s").iterdir() if entry.is_dir())
        assert names == ["db", "index"]
    async with started(tmp_path) as mailbox:
        assert mailbox.indexer.pending == 0
        assert len(await searched(mailbox, "apple") or ()) == number


@pytest.mark.parametrize("left", ["before", "between", "after"])
async def test_a_crash_leaves_one_whole_index(tmp_path: Path, left: str) -> None:
    async with started(tmp_path) as mailbox:
        for number in range(10):
            await ask(mailbox, delivery(f"apple number{number}"))
        await mailbox.indexer.catch_up()
    index = tmp_path / "s" / "index"
    half = index.with_name("index.new")
    half.mkdir()
    (half / "schema").write_text("half")
    if left == "between":
        index.rename(index.with_name("index.old"))
    elif left == "after":
        half.rename(index.with_name("index.old"))
    async with started(tmp_path) as mailbox:
        assert mailbox.indexer.pending == 0
        assert len(await searched(mailbox, "apple") or ()) == 10
        assert not half.exists()
        assert not index.with_name("index.old").exists()


async def test_the_end_of_the_shard_ends_its_upkeep(tmp_path: Path) -> None:
    async with started(tmp_path) as mailbox:
        for number in range(30):
            await ask(mailbox, delivery(f"number{number}"))
        upkeep = mailbox.upkeep
        jobs = [upkeep.begin(BeginUpkeep(work)).job for work in (AUDIT, REINDEX, COLLECT)]
        await asyncio.sleep(0.005)
        await mailbox.close()
        assert upkeep.show(jobs[-1]).state == FAILED
    async with started(tmp_path) as mailbox:
        assert counts(await job(mailbox, BeginUpkeep(AUDIT)))["findings"] == 0
