"""The arguments of MAIL and RCPT."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.command import (
    MailCommand,
    read_mail,
    read_rcpt,
    read_submission,
    read_submission_rcpt,
)
from mail.errors import MailError


def mail(argument: str, *, extended: bool = True) -> MailCommand:
    return read_mail(argument, extended=extended, size_bytes_max=1000)


def rcpt(argument: str, *, extended: bool = True, smtputf8: bool = False) -> tuple[str, str]:
    address, path = read_rcpt(argument, extended=extended, smtputf8=smtputf8)
    return address.key, path


@pytest.mark.parametrize(
    ("argument", "read"),
    [
        ("FROM:<>", MailCommand("")),
        ("from:<A@b.test>", MailCommand("A@b.test")),
        ("FROM:<a@b.test> SIZE=1000", MailCommand("a@b.test", 1000)),
        ("FROM:<a@b.test>  size=7  Body=8bitMIME ", MailCommand("a@b.test", 7)),
        ("FROM:<å@b.test> SMTPUTF8", MailCommand("å@b.test", smtputf8=True)),
        ("FROM:<@relay.test,@r2.test:a@b.test>", MailCommand("a@b.test")),
        ('FROM:<"a>b \\" c"@b.test> SIZE=1', MailCommand('"a>b \\" c"@b.test', 1)),
        ("FROM: a@b.test SIZE=1", MailCommand("a@b.test", 1)),
        ("FROM:<a@[192.0.2.1]>", MailCommand("a@[192.0.2.1]")),
    ],
)
def test_mail(argument: str, read: MailCommand) -> None:
    assert mail(argument) == read


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", "501 5.5.4"),
        ("TO:<a@b.test>", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM:<a@b.test", "501 5.5.4"),
        ("FROM:<a@b.test>x", "501 5.5.4"),
        ("FROM:<a b@c.test>", "501 5.1.7"),
        ("FROM:<a>", "501 5.1.7"),
        ("FROM:<a@b.test> SIZE", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=٣", "501 5.5.4"),
        ("FROM:<a@b.test> SIZE=1001", "552 5.3.4"),
        ("FROM:<a@b.test> BODY", "501 5.5.4"),
        ("FROM:<a@b.test> SMTPUTF8=1", "501 5.5.4"),
        ("FROM:<a@b.test> ENVID=x", "555 5.5.4"),
        ("FROM:<a@b.test> AUTH=<>", "555 5.5.4"),
        ("FROM:<å@b.test>", "553 5.6.7"),
    ],
)
def test_mail_refused(argument: str, code: str) -> None:
    with pytest.raises(MailError) as caught:
        mail(argument)
    assert caught.value.smtp == code


def test_parameters_need_ehlo() -> None:
    with pytest.raises(MailError) as caught:
        mail("FROM:<a@b.test> SIZE=1", extended=False)
    assert caught.value.smtp == "555 5.5.4"


@pytest.mark.parametrize(
    ("argument", "key", "path"),
    [
        ("TO:<Alice+x@Example.TEST>", "alice+x@example.test", "Alice+x@Example.TEST"),
        ("TO:<@relay.test:a@b.test>", "a@b.test", "a@b.test"),
        ("TO:<Postmaster>", "postmaster@", "Postmaster"),
        ("to: <a@b.test>", "a@b.test", "a@b.test"),
    ],
)
def test_rcpt(argument: str, key: str, path: str) -> None:
    assert rcpt(argument) == (key, path)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("TO:<>", "501 5.1.3"),
        ("TO:<alice>", "501 5.1.3"),
        ("TO:<å@b.test>", "553 5.6.7"),
        ("TO:<a@b.test> NOTIFY=NEVER", "555 5.5.4"),
        ("FROM:<a@b.test>", "501 5.5.4"),
    ],
)
def test_rcpt_refused(argument: str, code: str) -> None:
    with pytest.raises(MailError) as caught:
        rcpt(argument)
    assert caught.value.smtp == code


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.booleans())
def test_nothing_but_mail_errors(text: str, extended: bool) -> None:
    for argument in (text, "FROM:" + text, f"FROM:<{text}>", f"FROM:<a@b.test> {text}"):
        with contextlib.suppress(MailError):
            mail(argument, extended=extended)

        with contextlib.suppress(MailError):
            read_submission(argument, size_bytes_max=1000)


def test_a_submission() -> None:
    mail_, said = read_submission(
        "FROM:<a@b.test> BODY=8BITMIME RET=full AUTH=x+3Dy ENVID=1 SIZE=9", size_bytes_max=1000
    )
    assert mail_ == MailCommand("a@b.test", 9)
    assert str(said.mail_from) == "a@b.test"
    assert said.eight_bit
    assert (said.options.ret, said.options.envid) == ("FULL", "1")
    mail_, said = read_submission("FROM:<>", size_bytes_max=1000)
    assert (mail_.reverse_path, said.mail_from, said.eight_bit) == ("", None, False)
    address, options = read_submission_rcpt("TO:<@r.test:a@b.test> NOTIFY=NEVER", smtputf8=False)
    assert (str(address), options.notify) == ("a@b.test", ())
