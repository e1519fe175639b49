"""Reply lines: one line of ASCII with both codes, whatever an error says."""

from __future__ import annotations

import re

import pytest

from gateways.smtp import replies
from mail.errors import MailError, MessageTooLarge, NoSuchMailbox, TooManyHops, Unavailable


@pytest.mark.parametrize(
    "error", [Unavailable(), NoSuchMailbox(), MessageTooLarge(), TooManyHops(), KeyError("x")]
)
def test_error_replies_have_both_codes(error: Exception) -> None:
    assert re.fullmatch(rb"[45]\d\d [45]\.\d\.\d [\x20-\x7e]+\r\n", replies.error_reply(error))


def test_an_unknown_error_is_temporary_and_tells_nothing() -> None:
    assert replies.error_reply(ValueError("secret")) == f"{replies.LOCAL_ERROR}\r\n".encode()


def test_the_text_of_an_error_cannot_add_a_reply() -> None:
    reply = replies.error_reply(MailError("a\r\n250 2.0.0 fine å\0" + "x" * 1000))
    assert reply.startswith(b"451 4.3.0 a 250 2.0.0 fine ? xxx")
    assert reply.count(b"\r\n") == 1
    assert len(reply) <= 512  # RFC 5321 §4.5.3.1.5


def test_ehlo_offers_starttls_only_when_asked() -> None:
    plain = replies.ehlo_reply("mx.test", 7, starttls=False)
    assert plain.startswith(b"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 7\r\n")
    assert plain.endswith(b"\r\n250 ENHANCEDSTATUSCODES\r\n")
    assert b"\r\n250 STARTTLS\r\n" in replies.ehlo_reply("mx.test", 7, starttls=True)


def test_a_submission_offers_what_it_takes() -> None:
    told = replies.submission_ehlo_reply("mx.test", 7, starttls=False, mechanisms=("A", "B"))
    assert told.endswith(b"\r\n250 AUTH A B\r\n")
    assert b"BINARYMIME" not in told
    assert b"-DSN\r\n" in told
