"""Charsets: labels, lies, guesses; and text that can always be written as UTF-8."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.charset import CODECS, clean, codec_of, decode, guess

KOREAN = "안녕하세요. 회의 자료를 보내 드립니다."
JAPANESE = "これは日本語のテキストです。"
CHINESE = "中文邮件测试,说明生活。"


def test_every_codec_exists() -> None:
    for codec in set(CODECS.values()):
        codecs.lookup(codec)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (KOREAN, "EUC-KR"), (KOREAN, "ks_c_5601-1987"), (KOREAN, "CP949"), ("똠방각하", "euc-kr"),
        (KOREAN, "iso-2022-kr"), (KOREAN, "johab"), (KOREAN, "utf8"), (KOREAN, '"UTF-8"'),
        (JAPANESE, "iso-2022-jp"), (JAPANESE, "shift_jis"), (JAPANESE, "x-sjis"),
        (JAPANESE, "EUC-JP"), (JAPANESE, "utf-16"), (CHINESE, "gb2312"), (CHINESE, "GBK"),
        ("㐀𠀀", "gb18030"), (CHINESE, "hz-gb-2312"), ("繁體中文", "big5"), ("héllo", "utf-7"),
        ("Größe", "iso-8859-1"), ("€ “x”", "iso-8859-1"), ("żółć", "iso-8859-2"),
        ("Привет", "koi8-r"), ("Привет", "windows-1251"), ("ABC", "us-ascii"),
    ],
)  # fmt: skip
def test_labelled(text: str, label: str) -> None:
    codec = codec_of(label)
    assert codec is not None
    if codec == "iso2022_jp_ext":
        codec = "iso2022_jp"
    assert decode(text.encode(codec), label) == (text, False)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (KOREAN, "cp949"), ("보고서.hwp", "cp949"), ("똠방각하", "cp949"), (KOREAN, "utf-8"),
        (KOREAN, "iso2022_kr"), (JAPANESE, "iso2022_jp"), (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"), (CHINESE, "gb18030"), ("繁體中文郵件測試說明", "big5"),
        ("abc", "ascii"),
    ],
)  # fmt: skip
def test_unlabelled(text: str, codec: str) -> None:
    assert decode(text.encode(codec), None) == (text, False)


def test_western_text_is_not_taken_for_eastern() -> None:
    for text in (
        "Fran\xe7ais \xe9t\xe9",
        "\xc4rger mit \xdcbung",
        "ma\xf1ana",
        "r\xe9sum\xe9 \xe0",
    ):
        assert decode(text.encode("latin-1"), None) == (text, True)


def test_wrong_labels() -> None:
    assert decode(KOREAN.encode(), "euc-kr") == (KOREAN, True)
    assert decode(KOREAN.encode("cp949"), "utf-8") == (KOREAN, True)
    assert decode(KOREAN.encode("cp949"), "us-ascii") == (KOREAN, True)
    assert decode(KOREAN.encode("cp949"), "x-nonsense") == (KOREAN, True)
    assert decode(b"plain", "x-nonsense") == ("plain", True)
    assert decode(KOREAN.encode(), "unknown-8bit") == (KOREAN, True)
    assert decode(JAPANESE.encode("iso2022_jp"), "us-ascii") == (JAPANESE, True)


def test_the_hint_decides_what_the_octets_do_not() -> None:
    data = "żółć".encode("iso8859_2")
    assert decode(data, None, hint="iso-8859-2") == ("żółć", False)


def test_a_few_bad_octets_do_not_change_the_charset() -> None:
    text, problem = decode(KOREAN.encode() + b"\xff" + KOREAN.encode(), "utf-8")
    assert (text, problem) == (KOREAN + "\ufffd" + KOREAN, True)
    text, problem = decode((KOREAN * 3).encode("cp949") + b"\xff", "euc-kr")
    assert (text[:-1], problem) == (KOREAN * 3, True)


def test_a_cut_character_is_left_out() -> None:
    assert decode("한글".encode()[:-1], "utf-8", cut=True) == ("한", False)
    assert decode("한글".encode("cp949")[:-1], "euc-kr", cut=True) == ("한", False)


def test_vendor_rows_of_iso_2022_jp() -> None:
    data = b"\x1b$B-!-j%F\x1b(B abc"  # NEC row 13, which the standard codec refuses.
    assert decode(data, "iso-2022-jp") == ("①㈱テ abc", False)


def test_codecs_that_are_not_charsets_are_unknown() -> None:
    for label in ("punycode", "zlib", "unicode_escape", "idna", "rot13", "x" * 1000, ""):
        assert codec_of(label) is None


def test_clean() -> None:
    assert clean("a\x00b") == "ab"
    assert clean("\ud83d\ude00") == "😀"
    assert clean("x\ud800y") == "x\ufffdy"
    assert decode(b"+2AA-", "utf-7")[0] == "\ufffd"


@given(st.binary(max_size=200), st.sampled_from([None, "x", *sorted(CODECS)]), st.booleans())
def test_any_octets_become_text(data: bytes, label: str | None, cut: bool) -> None:
    for text in (decode(data, label, cut=cut)[0], guess(data, label)[0]):
        assert "\x00" not in text
        text.encode()
