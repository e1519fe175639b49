"""Threads, repeats and what is forgotten of them, within turns over an empty state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from mail.errors import OverQuota
from mail.summary import Summary
from storage import keys, mailbox_writer
from storage.mailbox_writer import MailboxWriter
from storage.transaction import Overlay
from tests.unit.storage.test_transaction import Bottom

NOW_MS = 1_700_000_000_000


@pytest.fixture
def writer() -> MailboxWriter:
    made = MailboxWriter(1, Overlay(Bottom({})))
    made.create(NOW_MS)
    return made


def add(writer: MailboxWriter, name: str, subject: str, *, answers: Sequence[str] = ()) -> int:
    """Add an email and return its thread."""
    email_id = writer.add_email(
        digest=name.encode().ljust(32),
        size_bytes=10,
        summary=Summary(subject=subject, message_id=(name,), references=tuple(answers) or None),
        received_at_ms=NOW_MS,
        folders=(1,),
    )
    record = writer.email(email_id)
    assert record is not None
    return record.thread_id


def test_a_reply_with_a_new_subject_leaves_the_old_conversation_as_it_was(
    writer: MailboxWriter,
) -> None:
    first = add(writer, "1", "plan")
    other = add(writer, "2", "lunch", answers=["1"])
    assert other != first
    assert add(writer, "3", "Re: plan", answers=["1"]) == first
    assert add(writer, "4", "Re: lunch", answers=["1", "2"]) == other
    assert add(writer, "5", "lunch", answers=["1"]) == other, "they share an id and a subject"


def test_a_full_thread_is_followed_by_another_that_fills_in_turn(
    writer: MailboxWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_writer, "THREAD_EMAILS_MAX", 3)
    threads = [add(writer, "1", "plan")]
    threads += [add(writer, str(n), "plan", answers=["1"]) for n in range(2, 9)]
    assert [threads.count(thread) for thread in dict.fromkeys(threads)] == [3, 3, 2]
    inbox = writer.counters(1)
    assert (inbox.total_emails, inbox.total_threads) == (8, 3)


def test_one_message_twice_has_one_blob_with_two_owners(writer: MailboxWriter) -> None:
    thread = add(writer, "1", "plan")
    assert add(writer, "1", "plan") == thread
    digest = b"1".ljust(32)
    for left in ((2,), ()):
        writer.destroy_email(2 - len(left))
        owner = writer.blob_owner(digest)
        assert (owner.emails if owner is not None else ()) == left
    assert writer.thread(thread) is None
    assert writer.counters(1).total_threads == 0


def test_a_repeat_is_matched_once_and_not_after_its_time(writer: MailboxWriter) -> None:
    writer.expect_repeat(b"f" * 32, 7, NOW_MS, NOW_MS + 10)
    assert writer.take_repeat(b"f" * 32, NOW_MS + 9) == 7
    assert writer.take_repeat(b"f" * 32, NOW_MS + 9) is None
    writer.expect_repeat(b"f" * 32, 7, NOW_MS, NOW_MS + 10)
    assert writer.take_repeat(b"f" * 32, NOW_MS + 10) is None


def test_repeats_that_never_came_are_forgotten(writer: MailboxWriter) -> None:
    for number in range(2_000):
        fingerprint = hashlib.sha256(b"%d" % number).digest()
        writer.expect_repeat(fingerprint, 7, NOW_MS + number * 10, NOW_MS + number * 10 + 200)
    prefix = keys.kind(1, b"x")
    assert len(list(writer._overlay.scan(prefix, keys.after(prefix)))) < 200


def test_unread_mail_is_counted_once_whatever_happens_to_it(writer: MailboxWriter) -> None:
    thread = [add(writer, "1", "plan"), add(writer, "2", "plan", answers=["1"])]
    assert thread[0] == thread[1]
    assert writer.info.unread == 2
    writer.update_email(1, keywords=None, folders=(1, 3))
    assert writer.info.unread == 2
    writer.update_email(1, keywords=("$seen",), folders=None)
    assert writer.info.unread == 1
    writer.update_email(2, keywords=("$draft",), folders=None)
    assert writer.info.unread == 0
    writer.update_email(2, keywords=(), folders=(5,))
    assert writer.info.unread == 1
    writer.destroy_email(1)
    writer.destroy_email(2)
    assert (writer.info.unread, writer.info.emails) == (0, 0)


def test_room(writer: MailboxWriter) -> None:
    add(writer, "1", "plan")
    writer.expect_room(1 << 40, 0)
    writer.expect_room(90, 100)
    with pytest.raises(OverQuota):
        writer.expect_room(91, 100)


def test_a_place_knows_since_when_and_keeps_it(writer: MailboxWriter) -> None:
    add(writer, "1", "plan")
    state = writer.email_state(1)
    assert state is not None
    assert state.places[0].since_ms == 0, "no time was given"
    later = MailboxWriter(1, writer._overlay, NOW_MS + 5)
    writer.finish()
    later.update_email(1, keywords=("$seen",), folders=(1, 5))
    state = later.email_state(1)
    assert state is not None
    assert {place.folder: place.since_ms for place in state.places} == {1: 0, 5: NOW_MS + 5}
