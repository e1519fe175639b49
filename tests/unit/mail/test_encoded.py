"""Encoded-words and parameters, as standards have them and as senders do."""

from __future__ import annotations

import base64
import quopri
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.encoded import charset_hint, decode_parameter, decode_text, parse_parameters, unfold

NAME = "보고서 최종본 (2024).hwp"
CHARSETS = {"utf-8": "utf-8", "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "gb18030": "gb18030"}


def b_word(data: bytes, charset: str) -> bytes:
    """Return a B encoded-word."""
    return b"=?" + charset.encode() + b"?B?" + base64.b64encode(data) + b"?="


def q_word(data: bytes, charset: str) -> bytes:
    """Return a Q encoded-word."""
    text = b"".join(b"=%02X" % octet for octet in data)
    return b"=?" + charset.encode() + b"?Q?" + text + b"?="


def test_examples_of_rfc_2047() -> None:
    for value, text in (
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
    ):
        assert decode_text(value) == text


@pytest.mark.parametrize("charset", sorted(CHARSETS))
def test_characters_split_between_words(charset: str) -> None:
    data = NAME.encode(CHARSETS[charset])
    for word in (b_word, q_word):
        for step in (1, 2, 3, 5):
            pieces = [word(data[i : i + step], charset) for i in range(0, len(data), step)]
            for glue in (b" ", b"\t ", b""):
                assert decode_text(glue.join(pieces)) == NAME


def test_base64_that_goes_on_in_the_next_word() -> None:
    encoded = base64.b64encode("한국어 제목".encode())
    value = b"=?utf-8?B?" + encoded[:7] + b"?= =?utf-8?B?" + encoded[7:] + b"?="
    assert decode_text(value) == "한국어 제목"


def test_words_among_text() -> None:
    word = b_word("한글".encode(), "utf-8")
    assert decode_text(b"Re: " + word + b" (x)") == "Re: 한글 (x)"
    assert decode_text(b"[" + word + b"]") == "[한글]"
    assert decode_text(b'"' + word + b'"') == '"한글"'
    assert decode_text(word + b" x " + word) == "한글 x 한글"


def test_words_that_are_none_stay() -> None:
    for value in (b"=?utf-8?X?a?=", b"=?utf-8?B?", b"=??B?a?=", b"=?a b?Q?x?=", b"a =? b", b"?="):
        assert decode_text(value) == value.decode()


def test_unknown_charsets_and_broken_octets_give_text() -> None:
    assert decode_text(b"=?x-unknown?Q?caf=C3=A9?=") == "café"
    assert decode_text(b"=?utf-8?Q?a=FFb?=") in ("aÿb", "a\ufffdb")
    assert decode_text(b"=?utf-8?B?!!!?=") == ""
    assert decode_text(b"=?utf-8?Q?a=00=0A=7Fb?=") == "ab"


def test_raw_octets() -> None:
    for codec in ("utf-8", "cp949"):
        assert decode_text(NAME.encode(codec)) == NAME
    assert decode_text(NAME.encode("cp949") + b" " + b_word("끝".encode(), "utf-8")) == f"{NAME} 끝"
    assert decode_text("żółć".encode("iso8859_2"), "iso-8859-2") == "żółć"
    assert decode_text("日本語のメール".encode("iso2022_jp")) == "日本語のメール"
    assert decode_text(b"a\x00b") == "ab"


def test_text_is_in_nfc() -> None:
    decomposed = unicodedata.normalize("NFD", "한글 é")
    assert decode_text(decomposed.encode()) == "한글 é"
    assert decode_text(b_word(decomposed.encode(), "utf-8")) == "한글 é"


def test_unfold() -> None:
    assert unfold(b" a\r\n b\r\n\tc\r\n") == b" a b\tc"
    assert unfold(b"a\n b\r\r\n c\rd") == b"a b c d"


def test_charset_hint() -> None:
    assert charset_hint(b"x =?EUC-KR*ko?B?vsiz?=") == "EUC-KR"
    assert charset_hint(b"x") is None


@pytest.mark.parametrize(
    ("value", "main", "parameters"),
    [
        (b"text/plain", "text/plain", {}),
        (b" Text/HTML ; CharSet=UTF-8", "text/html", {"charset": b"UTF-8"}),
        (b'text/plain; charset="utf-8"; x=1', "text/plain", {"charset": b"utf-8", "x": b"1"}),
        (b"text/plain (c) ; charset=us-ascii (Plain)", "text/plain", {"charset": b"us-ascii"}),
        (b'a/b; name="x; y=z"; q=1', "a/b", {"name": b"x; y=z", "q": b"1"}),
        (b'a/b; name="q\\"q\\\\"', "a/b", {"name": b'q"q\\'}),
        (b'a/b; name="C:\\dir\\f.txt"', "a/b", {"name": b"C:\\dir\\f.txt"}),
        (b"a/b; name=two words.txt ; x=y", "a/b", {"name": b"two words.txt", "x": b"y"}),
        (b'a/b; name="never closed', "a/b", {"name": b"never closed"}),
        (b"a/b; a=1; a=2;; ;c=;d", "a/b", {"a": b"1", "c": b""}),
        (b"a/b;\r\n\tname=\"x\r\n y\"", "a/b", {"name": b"x y"}),
        (b"", "", {}),
        (b";", "", {}),
    ],
)  # fmt: skip
def test_parameters(value: bytes, main: str, parameters: dict[str, bytes]) -> None:
    assert parse_parameters(value) == (main, parameters)


def percent(data: bytes) -> bytes:
    """Return octets percent-encoded."""
    return b"".join(b"%%%02x" % octet for octet in data)


def name_of(value: bytes, hint: str | None = None) -> str | None:
    """Return the decoded file name of a Content-Disposition value."""
    return decode_parameter(parse_parameters(value)[1], "filename", hint)


@pytest.mark.parametrize(("charset", "codec"), sorted(CHARSETS.items()))
def test_file_names_in_every_form(charset: str, codec: str) -> None:
    data = NAME.encode(codec)
    label = charset.encode()
    folded = b"\r\n ".join(b_word(data[i : i + 7], charset) for i in range(0, len(data), 7))
    pieces = [data[i : i + 5] for i in range(0, len(data), 5)]
    extended = b";\r\n ".join(
        b"filename*%d*=" % i + (label + b"'ko'" if i == 0 else b"") + percent(piece)
        for i, piece in enumerate(pieces)
    )
    for value in (
        b'attachment; filename="' + b_word(data, charset) + b'"',
        b"attachment; filename=" + q_word(data, charset),
        b'attachment; filename="' + folded + b'"; size=3',
        b"attachment; filename*=" + label + b"''" + percent(data),
        b"attachment; filename*=\"" + label + b"''" + percent(data) + b'"',
        b"attachment; filename=ascii.hwp; filename*=" + label + b"''" + percent(data),
        b"attachment; " + extended,
    ):  # fmt: skip
        assert name_of(value) == NAME


def test_raw_file_names() -> None:
    for codec in ("utf-8", "cp949"):
        assert name_of(b'attachment; filename="' + NAME.encode(codec) + b'"') == NAME
        assert name_of(b"attachment; filename=" + NAME.encode(codec) + b"; x=y") == NAME
        short = "한글.txt"
        assert name_of(b'attachment; filename="' + short.encode(codec) + b'"') == short
    assert name_of('x; filename="予定表.txt"'.encode("cp932"), "shift_jis") == "予定表.txt"


def test_continuations_mix_encoded_and_plain_pieces() -> None:
    value = b"a; filename*0*=UTF-8''%ed%95; filename*1*=%9c; filename*2=\"a%20.hwp\""
    assert name_of(value) == "한a%20.hwp"
    assert name_of(b'a; filename*0="one "; filename*1="two.txt"') == "one two.txt"
    assert name_of(b'a; filename*0="=?utf-8?B?7ZWc"; filename*1="6riA?=.txt"') == "한글.txt"
    assert name_of(b"a; filename*1=lost.txt") is None


def test_names_without_a_charset_or_with_junk() -> None:
    assert name_of(b"a; filename*=" + percent("한글".encode())) == "한글"
    assert name_of(b"a; filename*=''" + percent("한글".encode("cp949"))) == "한글"
    assert name_of(b"a; filename*=x-none''" + percent("한글".encode())) == "한글"
    assert name_of(b"a; filename*=utf-8''%zz%e") == "%zz%e"
    assert name_of(b'a; filename="a\r\n\tb\x00c"') == "abc"
    assert name_of(b"a; filename=") == ""
    assert name_of(b"a") is None


HEADERISH = st.lists(
    st.sampled_from(
        [b"=?", b"?=", b"utf-8", b"?B?", b"?Q?", b"7ZWc", b"=ED", b" ", b"\r\n ", b'"', b";",
         b"=", b"\x1b$B", b"filename", b"*0", b"*", b"''", b"%ed", b"\\", b"(", b")", b"\xed",
         b"\xc7\xd1"]
    )
    | st.binary(max_size=3),
    max_size=15,
).map(b"".join)  # fmt: skip


@given(HEADERISH)
def test_any_octets_become_text(value: bytes) -> None:
    decode_text(unfold(value)).encode()
    _, parameters = parse_parameters(b"a/b; " + value)
    for name in ("filename", "name", "charset"):
        (decode_parameter(parameters, name) or "").encode()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_encoding_and_decoding_meet(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    data = text.encode()
    assert decode_text(b_word(data, "utf-8")) == text
    assert decode_text(q_word(data, "utf-8")) == text
    assert quopri.decodestring(quopri.encodestring(data, header=True), header=True) == data
    assert name_of(b"x; filename*=utf-8''" + percent(data)) == text.strip()
