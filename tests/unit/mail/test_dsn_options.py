"""RET, ENVID, NOTIFY and ORCPT: read, refused, written again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.dsn_options import (
    ENVID_CHARS_MAX,
    ORCPT_CHARS_MAX,
    MailOptions,
    Notify,
    OriginalRecipient,
    RcptOptions,
    Ret,
    decode_utf8_address,
    decode_xtext,
    encode_utf8_address,
    encode_xtext,
    mail_parameters,
    parse_orcpt,
    rcpt_parameters,
    take_mail_options,
    take_rcpt_options,
)
from mail.errors import Invalid, smtp_reply

KINDS = ("", "rfc822;", "utf-8;")
T = TypeVar("T")


def attempt(call: Callable[[], T]) -> T | str:
    """Return what the call returns, or the reply when it refuses."""
    try:
        return call()
    except Invalid as error:
        return smtp_reply(error)


def refused(error: BaseException) -> bool:
    return smtp_reply(error).startswith("501 5.5.4 ")


def test_mail() -> None:
    parameters: dict[str, str | None] = {"RET": "full", "SIZE": "1", "ENVID": "QQ+2B314+20x"}
    assert take_mail_options(parameters) == MailOptions(Ret.FULL, "QQ+314 x")
    assert parameters == {"SIZE": "1"}
    assert take_mail_options({"RET": "HDRS"}) == MailOptions(Ret.HDRS)
    assert take_mail_options({}) == MailOptions()


@pytest.mark.parametrize(
    "parameters",
    [
        {"RET": None},
        {"RET": "ALL"},
        {"ENVID": None},
        {"ENVID": ""},
        {"ENVID": "x" * (ENVID_CHARS_MAX + 1)},
        {"ENVID": "a=b"},
        {"ENVID": "a+"},
        {"ENVID": "a+4"},
        {"ENVID": "a+0D+0Ab"},
        {"ENVID": "a+00"},
        {"ENVID": "a+E9"},
        {"ENVID": "é"},
    ],
)
def test_mail_refuses(parameters: dict[str, str | None]) -> None:
    with pytest.raises(Invalid) as raised:
        take_mail_options(parameters)
    assert refused(raised.value)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("NEVER", ()),
        ("never", ()),
        ("Success", (Notify.SUCCESS,)),
        ("DELAY,FAILURE", (Notify.FAILURE, Notify.DELAY)),
        ("FAILURE,FAILURE", (Notify.FAILURE,)),
        ("DELAY,SUCCESS,FAILURE", (Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)),
    ],
)
def test_notify(text: str, wish: tuple[Notify, ...]) -> None:
    parameters: dict[str, str | None] = {"NOTIFY": text, "X": "1"}
    assert take_rcpt_options(parameters, smtputf8=False) == RcptOptions(wish)
    assert parameters == {"X": "1"}


def test_nothing_said_is_not_never() -> None:
    assert take_rcpt_options({}, smtputf8=False) == RcptOptions(None, None)


@pytest.mark.parametrize(
    "text", [None, "", "NEVER,FAILURE", "ALWAYS", "SUCCESS,", ",", "SUCCESS FAILURE", "SUCCESS\n"]
)
def test_notify_refuses(text: str | None) -> None:
    with pytest.raises(Invalid) as raised:
        take_rcpt_options({"NOTIFY": text}, smtputf8=True)
    assert refused(raised.value)


@pytest.mark.parametrize(
    ("text", "address_type", "address"),
    [
        ("rfc822;bob@example.org", "rfc822", "bob@example.org"),
        ("Rfc822;bob+2Bx@example.org", "Rfc822", "bob+x@example.org"),
        ("rfc822;bob+2bx@example.org", "rfc822", "bob+x@example.org"),
        ("x400;/G+3DBob/S+3D+20X/", "x400", "/G=Bob/S= X/"),
        ("rfc822;a;b", "rfc822", "a;b"),
        (r"utf-8;\x{D55C}+@b.test".replace("+", r"\x{2B}"), "utf-8", "한+@b.test"),
        ("UTF-8;bob@example.org", "UTF-8", "bob@example.org"),
        (r"utf-8;\x{d55c}@b.test", "utf-8", "한@b.test"),
        (r"utf-8;\x{1F4E7}@b.test", "utf-8", "📧@b.test"),
    ],
)
def test_orcpt(text: str, address_type: str, address: str) -> None:
    options = take_rcpt_options({"ORCPT": text}, smtputf8=False)
    assert options.original_recipient == OriginalRecipient(address_type, address)


def test_orcpt_beyond_ascii_needs_smtputf8() -> None:
    found = parse_orcpt("utf-8;한@b.test", smtputf8=True)
    assert found == OriginalRecipient("utf-8", "한@b.test")
    with pytest.raises(Invalid):
        parse_orcpt("utf-8;한@b.test", smtputf8=False)
    with pytest.raises(Invalid):
        parse_orcpt("rfc822;한@b.test", smtputf8=True)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "bob@example.org",
        "rfc822;",
        ";bob@example.org",
        "rfc 822;bob@example.org",
        "rfc822;bob+x@example.org",
        "rfc822;bob+0D+0AX: y@example.org",
        "rfc822;" + "x" * ORCPT_CHARS_MAX,
        "utf-8;bob",
        "utf-8;bob+2Bx@example.org",
        r"utf-8;\x{0D}\x{0A}@b.test",
        r"utf-8;\x{D800}@b.test",
        r"utf-8;\x{110000}@b.test",
        r"utf-8;\x{00E9}@b.test",
        r"utf-8;\x{62}ob@b.test",
        r"utf-8;\x{85}@b.test",
        r"utf-8;\x{2028}@b.test",
        r"utf-8;\x{D55C@b.test",
        r"utf-8;a\b@b.test",
    ],
)
def test_orcpt_refuses(text: str | None) -> None:
    with pytest.raises(Invalid) as raised:
        take_rcpt_options({"ORCPT": text}, smtputf8=True)
    assert refused(raised.value)


def test_what_is_written_for_the_next_server() -> None:
    assert mail_parameters(MailOptions()) == ()
    assert mail_parameters(MailOptions(Ret.HDRS, "a b+c")) == ("RET=HDRS", "ENVID=a+20b+2Bc")
    assert rcpt_parameters(RcptOptions(), smtputf8=True) == ()
    assert rcpt_parameters(RcptOptions(()), smtputf8=True) == ("NOTIFY=NEVER",)
    wish = (Notify.SUCCESS, Notify.DELAY)
    options = RcptOptions(wish, OriginalRecipient("utf-8", "한+x@b.test"))
    assert rcpt_parameters(options, smtputf8=False) == (
        "NOTIFY=SUCCESS,DELAY",
        r"ORCPT=utf-8;\x{D55C}\x{2B}x@b.test",
    )
    assert rcpt_parameters(options, smtputf8=True)[1] == r"ORCPT=utf-8;한\x{2B}x@b.test"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_xtext_there_and_back(text: str) -> None:
    encoded = encode_xtext(text)
    assert decode_xtext(encoded) == text
    assert not set(encoded) & set(" =")


@given(st.text())
def test_xtext_is_always_safe_to_write(text: str) -> None:
    assert all("!" <= c <= "~" and c != "=" for c in encode_xtext(text))


@given(
    st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cc", "Cs"]), min_size=1),
    st.booleans(),
)
def test_utf8_addresses_there_and_back(text: str, smtputf8: bool) -> None:
    encoded = encode_utf8_address(text, smtputf8=smtputf8)
    assert decode_utf8_address(encoded) == text
    assert smtputf8 or encoded.isascii()
    if encoded.isascii():  # Who knows only xtext does it no harm.
        assert decode_xtext(encoded) == encoded


@given(st.text(st.sampled_from(r"+=\x{}0D2A;,é") | st.characters(), max_size=40), st.booleans())
def test_hostile_parameters(text: str, smtputf8: bool) -> None:
    wordings: list[dict[str, str | None]] = [{"NOTIFY": text}]
    wordings += ({"ORCPT": kind + text} for kind in KINDS)
    for parameters in wordings:
        options = attempt(partial(take_rcpt_options, parameters, smtputf8=smtputf8))
        if isinstance(options, str):
            assert options.startswith("501 5.5.4 ")
            continue
        for word in rcpt_parameters(options, smtputf8=smtputf8):
            assert not {" ", "\r", "\n", "\0"} & set(word)
            name, _, value = word.partition("=")
            assert take_rcpt_options({name: value}, smtputf8=smtputf8) == options
    mail = attempt(lambda: take_mail_options({"ENVID": text}))
    if isinstance(mail, str):
        assert mail.startswith("501 5.5.4 ")
    else:
        assert not {"\r", "\n", "\0"} & set(mail.envid)
        assert mail.envid.isascii()


def test_on_disk() -> None:
    options = RcptOptions((Notify.DELAY,), OriginalRecipient("utf-8", "한@b.test"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=RcptOptions) == options
    mail = MailOptions(Ret.FULL, "x")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(mail), type=MailOptions) == mail
