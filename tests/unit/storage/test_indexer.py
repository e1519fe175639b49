"""The index follows the log: exact at once, complete after a restart, made anew when it fails."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from actors import mailbox_turns
from actors.commands import Done
from actors.request_ids import new_request_id
from mail import message as message_module
from mail.errors import Unavailable
from storage import indexer as indexer_module
from storage.indexer import Indexer
from storage.mailbox_writer import MailboxWriter
from storage.records import Damaged
from storage.search_index import IndexFailed, SearchIndex
from storage.shard import Shard
from tests.unit.storage.shard_fixture import deliver, letter, opened


async def follow(shard: Shard, path: Path) -> Indexer:
    found = Indexer(shard, path)
    found.start()
    shard.replica.on_applied = found.applied
    return found


async def destroy(shard: Shard, email_id: int) -> None:
    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        writer.destroy_email(email_id)
        return mailbox_turns.encoded(Done())

    await shard.run(1, new_request_id(), mailbox_turns.mailbox_plan(1, turn))


async def test_a_search_holds_the_newest_mail_and_none_that_is_destroyed(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        first = await deliver(shard, letter("apple"))
        assert await indexer.search(1, ["subject"], "appl") == {first.email_id}
        second = await deliver(shard, letter("apple pie"))
        assert await indexer.search(1, ["subject"], "apple") == {first.email_id, second.email_id}
        await destroy(shard, first.email_id)
        assert await indexer.search(1, ["subject"], "apple") == {second.email_id}
        assert await indexer.search(2, ["subject"], "apple") == set()
        assert await indexer.search(1, ["subject"], " ") is None
        await indexer.catch_up()
        assert shard.replica.indexed_index == shard.applied.index
        await indexer.close()


async def test_a_search_reads_a_few_new_emails_and_commits_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit takes tens of milliseconds, which nobody who searches has to wait for."""
    monkeypatch.setattr(indexer_module, "TAIL_EMAILS_MAX", 3)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        found = set()

        async def come(mailbox: int = 1) -> int:
            command = letter("회의 apple", mailbox=mailbox)
            reply = await deliver(shard, command)
            indexer.expect(mailbox, reply.email_id, command.search_text)
            return reply.email_id

        for _ in range(3):
            found.add(await come())
            await come(mailbox=2)
            assert await indexer.search(1, ["subject", "body"], "appl 의") == found
            assert indexer.pending == 2 * len(found)
        gone = found.pop()
        await destroy(shard, gone)
        assert await indexer.search(1, ["subject"], "apple") == found
        assert indexer.pending == 6
        found |= {await come(), await come()}
        assert await indexer.search(1, ["subject"], "apple") == found
        assert indexer.pending == 3  # those of the other mailbox still wait
        assert shard.replica.indexed_index < shard.applied.index
        assert len(await indexer.search(2, ["subject"], "apple") or ()) == 3
        await indexer.catch_up()
        assert shard.replica.indexed_index == shard.applied.index
        assert len(indexer._texts) == indexer._texts.held_bytes == 0
        await indexer.close()


async def test_a_search_during_a_commit_has_what_is_being_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        command = letter("apple")
        reply = await deliver(shard, command)
        indexer.expect(1, reply.email_id, command.search_text)
        real, going = indexer_module.SearchIndex.commit, threading.Event()

        def slow(self: SearchIndex, *, complete: bool = True) -> None:
            going.wait(10)
            real(self, complete=complete)

        monkeypatch.setattr(indexer_module.SearchIndex, "commit", slow)
        commit = asyncio.create_task(indexer.catch_up())
        for _ in range(100):
            await asyncio.sleep(0)
        assert indexer.pending == 0
        assert await indexer.search(1, ["subject"], "apple") == {reply.email_id}
        assert not commit.done()
        going.set()
        await commit
        assert await indexer.search(1, ["subject"], "apple") == {reply.email_id}
        await indexer.close()


async def test_what_was_not_indexed_is_found_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        one = await deliver(shard, letter("one"))
        await indexer.catch_up()
        two = await deliver(shard, letter("two"))
        await destroy(shard, one.email_id)
        await indexer.close()
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        assert indexer.pending == 2
        assert await indexer.search(1, ["subject"], "two") == {two.email_id}
        assert await indexer.search(1, ["subject"], "one") == set()
        await indexer.close()


@pytest.mark.parametrize("loss", ["removed", "damaged"])
async def test_a_lost_index_is_made_anew(tmp_path: Path, loss: str) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        replies = [await deliver(shard, letter("kept")) for _ in range(20)]
        await indexer.catch_up()
        await indexer.close()
    if loss == "removed":
        shutil.rmtree(tmp_path / "i")
    else:
        (tmp_path / "i" / "meta.json").write_text("{")
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        found = await indexer.search(1, ["subject"], "kept")
        assert found == {reply.email_id for reply in replies}
        await indexer.close()


async def test_an_index_that_fails_is_made_anew_and_at_last_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        reply = await deliver(shard, letter("first"))
        await indexer.catch_up()
        real = indexer_module.SearchIndex.commit
        failures = 2

        def fails(self: object, *, complete: bool = True) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise IndexFailed("no")
            real(self, complete=complete)  # type: ignore[arg-type]

        monkeypatch.setattr(indexer_module.SearchIndex, "commit", fails)
        await deliver(shard, letter("second"))
        assert await indexer.search(1, ["subject"], "first") == {reply.email_id}
        failures = 10**9
        await deliver(shard, letter("third"))
        with pytest.raises(Unavailable):
            await indexer.search(1, ["subject"], "third")
        await indexer.close()


async def test_the_index_follows_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_module, "QUIET_S", 0.01)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        await deliver(shard, letter("soon"))
        for _ in range(500):
            if not indexer.pending and shard.replica.indexed_index == shard.applied.index:
                break
            await asyncio.sleep(0.01)
        assert indexer.pending == 0
        assert shard.replica.indexed_index == shard.applied.index
        await indexer.close()


async def until_indexed(shard: Shard) -> None:
    """Wait until the indexer has followed by itself, ten seconds at most."""
    for _ in range(1000):
        if shard.replica.indexed_index == shard.applied.index:
            break
        await asyncio.sleep(0.01)


async def test_gives_memory_back_after_much_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = 0

    def give_back() -> None:
        nonlocal given_back
        given_back += 1

    monkeypatch.setattr(indexer_module, "give_back", give_back)
    monkeypatch.setattr(indexer_module, "GIVE_BACK_EMAILS", 6)
    monkeypatch.setattr(indexer_module, "QUIET_S", 0.0)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        for count, expected in ((2, 0), (4, 1)):
            for _ in range(count):
                await deliver(shard, letter("word"))
            await until_indexed(shard)
            await asyncio.sleep(0.01)
            assert min(given_back, 1) == expected
        await indexer.close()


async def test_at_rest_after_much_mail_nothing_waits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "WRITE_OUT_EMAILS", 3)
    monkeypatch.setattr(indexer_module, "QUIET_S", 0.0)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        tables = shard_tables(tmp_path / "s")
        for count, written in ((2, False), (2, True)):
            for _ in range(count):
                await deliver(shard, letter("word"))
            await until_indexed(shard)
            await asyncio.sleep(0.2)
            assert (shard_tables(tmp_path / "s") > tables) == written
        await indexer.close()


def shard_tables(path: Path) -> int:
    return len([*path.rglob("*.sst")])


async def test_an_index_made_anew_in_the_middle_of_a_search_is_filled_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "COMMIT_DOCUMENTS_MAX", 2)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        found = {(await deliver(shard, letter("kept"))).email_id for _ in range(9)}
        await indexer.catch_up()
        found.add((await deliver(shard, letter("kept"))).email_id)
        _fail_once(monkeypatch, "commit")
        assert await indexer.search(1, ["subject"], "kept") == found
        assert indexer.failures == 1
        await indexer.close()


def _fail_once(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    real = getattr(indexer_module.SearchIndex, method)

    def fails(self: object, *args: object, **options: object) -> object:
        monkeypatch.setattr(indexer_module.SearchIndex, method, real)
        raise IndexFailed("no")

    monkeypatch.setattr(indexer_module.SearchIndex, method, fails)


async def test_a_search_given_up_leaves_the_index_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = indexer_module.SearchIndex.commit

    def slow(self: indexer_module.SearchIndex, *, complete: bool = True) -> None:
        committing.set()
        time.sleep(0.05)
        real(self, complete=complete)

    monkeypatch.setattr(indexer_module.SearchIndex, "commit", slow)
    committing = threading.Event()
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        for number in range(1, 6):
            await deliver(shard, letter("apple"))
            committing.clear()
            search = asyncio.create_task(indexer.search(1, ["subject"], "apple"))
            await asyncio.to_thread(committing.wait, 5)
            search.cancel()
            await asyncio.gather(search, return_exceptions=True)
            assert len(await indexer.search(1, ["subject"], "apple") or ()) == number
        assert indexer.failures == 0
        await indexer.close()


async def test_texts_leave_when_they_are_indexed(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        command = letter("once")
        reply = await deliver(shard, command)
        for _ in range(3):  # The answer was lost twice.
            indexer.expect(1, reply.email_id, command.search_text)
        await indexer.catch_up()
        indexer.expect(1, reply.email_id, command.search_text)
        assert len(indexer._texts) == indexer._texts.held_bytes == 0
        await indexer.close()


async def test_a_message_that_cannot_be_read_keeps_no_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(raw: bytes) -> object:
        if b"poison" in raw:
            raise RuntimeError("a bug of ours")
        return message_module.parse(raw)

    monkeypatch.setattr(indexer_module, "parse", parse)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        await deliver(shard, letter("poison"))
        good = await deliver(shard, letter("good"))
        assert await indexer.search(1, ["subject"], "good") == {good.email_id}
        assert indexer.failed == 1
        await indexer.close()


async def test_what_nobody_foresaw_does_not_end_the_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "QUIET_S", 0.01)
    monkeypatch.setattr(indexer_module, "FOLLOW_AGAIN_S", 0.01)
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        real, troubles = shard.blobs.read, [Damaged("a block"), OSError("a disk")]

        def read(digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
            if troubles:
                raise troubles.pop()
            return real(digest, offset, length)

        monkeypatch.setattr(shard.blobs, "read", read)
        await deliver(shard, letter("soon"))
        for _ in range(500):
            if not indexer.pending and shard.replica.indexed_index == shard.applied.index:
                break
            await asyncio.sleep(0.01)
        assert (indexer.pending, troubles) == (0, [])
        await indexer.close()


@pytest.mark.parametrize("when", ["at the start", "when made anew"])
async def test_an_index_that_cannot_be_opened_is_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(path: Path, *, anew: bool = False) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if when == "at the start":
            patch.setattr(indexer_module.SearchIndex, "open", full)
        async with opened(tmp_path / "s") as shard:
            indexer = await follow(shard, tmp_path / "i")
            reply = await deliver(shard, letter("kept"))
            if when == "when made anew":
                _fail_once(patch, "commit")
                patch.setattr(indexer_module.SearchIndex, "open", full)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await indexer.search(1, ["subject"], "kept")
            patch.undo()
            assert await indexer.search(1, ["subject"], "kept") == {reply.email_id}
            await indexer.close()


async def test_failures_count_against_an_index_only_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "s") as shard:
        indexer = await follow(shard, tmp_path / "i")
        real = indexer_module.SearchIndex.commit
        fail_next = False

        def fails_once(self: SearchIndex, *, complete: bool = True) -> None:
            nonlocal fail_next
            if fail_next:
                fail_next = False
                raise IndexFailed("no")
            real(self, complete=complete)

        monkeypatch.setattr(indexer_module.SearchIndex, "commit", fails_once)
        for number in range(1, indexer_module.FAILURES_MAX + 3):
            await deliver(shard, letter("found"))
            fail_next = True
            found = await indexer.search(1, ["subject"], "found")
            assert found is not None
            assert len(found) == number
        await indexer.close()
