"""The part that people read."""

from __future__ import annotations

from mail.dsn_people import NOTES_MAX, Note, write
from mail.dsn_texts import ENGLISH, KOREAN

FULL = Note("failed", "bob@b.test", "5.2.2", "mx.b.test", "552 5.2.2 mailbox full")


def test_a_failure_in_plain_words() -> None:
    text = write(ENGLISH, host="a.test", subject="Lunch", notes=[FULL], until_ms=None)
    assert text == (
        'This is the mail server a.test. It writes to you about your message "Lunch".\r\n'
        "\r\n"
        "It could not be delivered to:\r\n"
        "\r\n"
        "  bob@b.test\r\n"
        "    The mailbox is full. Tell the person in another way, and send the\r\n"
        "    message again later.\r\n"
        "    The other server said: 552 5.2.2 mailbox full (mx.b.test)\r\n"
        "\r\n"
        "This server will not try again. Your message, or the beginning of it, is\r\n"
        "attached, so that you can tell which one it was.\r\n"
    )


def test_a_delay_asks_for_nothing() -> None:
    note = FULL._replace(action="delayed", status="4.2.2", said="", remote_mta="")
    text = write(ENGLISH, host="a.test", subject="x", notes=[note], until_ms=1_700_000_000_000)
    assert "The mailbox is full." in text
    assert "again later" not in text
    assert "You need not send it again" in text
    assert "2023-11-14 22:13 UTC" in " ".join(text.split())


def test_every_action_has_its_heading() -> None:
    actions = ("failed", "delayed", "delivered", "relayed", "expanded")
    notes = [FULL._replace(action=action, address=f"{action}@b.test") for action in actions]
    text = write(KOREAN, host="a.test", subject="점심", notes=notes, until_ms=None)
    places = [text.index(part) for a in actions for part in (getattr(KOREAN, a), f"{a}@b.test")]
    assert places == sorted(places)
    assert "점심" in text


def test_many_recipients_are_counted() -> None:
    notes = [FULL._replace(address=f"r{i}@b.test") for i in range(NOTES_MAX + 7)]
    text = write(ENGLISH, host="a.test", subject="x", notes=notes, until_ms=None)
    assert f"r{NOTES_MAX - 1}@b.test" in text
    assert f"r{NOTES_MAX}@b.test" not in text
    assert "and 7 more" in text


def test_braces_are_text() -> None:
    note = FULL._replace(said="550 {host} {0} {")
    text = write(ENGLISH, host="a.test", subject="{until}{", notes=[note], until_ms=None)
    assert '"{until}{"' in text
    assert "550 {host} {0} {" in text
