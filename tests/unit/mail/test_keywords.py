"""Keywords: allowed characters, lower case, unread."""

from __future__ import annotations

import pytest

from mail.errors import Invalid
from mail.keywords import check_keyword, is_unread


def test_every_character() -> None:
    refused = '(){]%*"\\'  # RFC 8621 §4.1.1
    for code in range(0x100):
        character = chr(code)
        if 0x21 <= code <= 0x7E and character not in refused:
            assert check_keyword(character) == character.lower()
        else:
            with pytest.raises(Invalid):
                check_keyword(character)


def test_lengths() -> None:
    assert check_keyword("$Seen") == "$seen"
    assert check_keyword("A" * 255) == "a" * 255
    for text in ("", "a" * 256, "중요", "a\n"):
        with pytest.raises(Invalid):
            check_keyword(text)


def test_unread_is_neither_seen_nor_draft() -> None:
    assert is_unread(())
    assert is_unread({"$flagged"})
    assert not is_unread({"$seen"})
    assert not is_unread({"$draft": True})
