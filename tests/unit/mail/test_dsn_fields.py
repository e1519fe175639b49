"""Fields of a status part: one field each, whatever the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mail.dsn_fields import one_line, status_field, to_ascii


def test_one_line() -> None:
    assert one_line(" a\r\nBcc: x\tb\x00c\x85d\u2028e ", 99) == "a Bcc: x bc d e"
    assert one_line("\u202egnp.exe\u2066", 99) == "gnp.exe"
    assert one_line("a\ud800b", 99) == "a\ufffdb"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"
    assert one_line(" " * 100 + "x", 6) == "…"


def test_to_ascii() -> None:
    assert to_ascii("한 é…") == r"\x{D55C} \x{E9}..."


def test_folding() -> None:
    assert status_field("Status", "5.1.1") == b"Status: 5.1.1\r\n"
    assert status_field("Diagnostic-Code", "smtp; " + "word " * 30).count(b"\r\n ") == 2
    address = "a" * 200 + "@example.org"
    assert status_field("Final-Recipient", f"rfc822; {address}").endswith(
        f" {address}\r\n".encode()
    )


def test_a_megabyte_takes_little() -> None:
    assert len(one_line("\r\n" * 500_000, 1000)) <= 1
    assert len(one_line("한" * 1_000_000, 1000)) == 1000


@given(st.text(st.sampled_from("\r\n \t한📧:\u2028") | st.characters()), st.integers(1, 3000))
def test_any_text_is_one_field(text: str, times: int) -> None:
    written = status_field("X-Field", one_line(text * times, 4000))
    assert written.endswith(b"\r\n")
    lines = written[:-2].split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
    assert not set(b"\r\n\0") & set(b"".join(lines))
    written.decode()
