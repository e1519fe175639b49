"""Modified UTF-7: the examples of RFC 3501 §5.1.3, and names that are none."""

import pytest

from mail import modified_utf7


@pytest.mark.parametrize(
    "name, written",
    [
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("R&D", "R&-D"),
        ("보낸편지함", "&vPSwuNO4ycDVaA-"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("📬 a", "&2D3c7A- a"),
        ("", ""),
    ],
)
def test_both_ways(name: str, written: str) -> None:
    assert modified_utf7.encode(name) == written
    assert modified_utf7.decode(written) == name


def test_characters_that_mean_something_elsewhere() -> None:
    written = modified_utf7.encode("a.b/c", also="./")
    assert written == "a&AC4-b&AC8-c"
    assert modified_utf7.decode(written) == "a.b/c"


@pytest.mark.parametrize("text", ["R&D", "&", "a&b-c&", "&!-", "&A-", "&2D0-", "&U,BTFw"])
def test_what_is_none_stands_for_itself(text: str) -> None:
    assert modified_utf7.decode(text) == text
