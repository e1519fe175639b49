"""Maildir: the names of files and folders in a Maildir, and what they say of a message.

The format is that of qmail's maildir(5), folders are those of Maildir++, and letters of keywords
those of Dovecot, whose `dovecot-keywords` has a line `number keyword` for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mail import modified_utf7
from mail.errors import Invalid
from mail.folder_path import INBOX_PATH, FolderPath, folder_path
from mail.keywords import ANSWERED, DRAFT, FLAGGED, FORWARDED, SEEN, check_keyword

KEYWORDS_FILE = "dovecot-keywords"
LETTERS_MAX = 26

# D draft, F flagged, P passed, R replied, S seen; T, which marks mail for deletion, is `DELETED`.
_FLAGS = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN}
DELETED = "T"
_LETTERS = {keyword: letter for letter, keyword in _FLAGS.items()}
_INFO = ":2,"


def unique_of(name: str) -> str:
    """Return the part of a file's name that does not change with its flags."""
    return name.partition(":")[0]


def flags_of(name: str) -> str:
    """Return the letters of a file's name, "" when it has none."""
    return name.rpartition(_INFO)[2] if _INFO in name else ""


def keywords_of(flags: str, letters: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keywords that flags stand for; `letters` is what `read_letters` found."""
    found = (_FLAGS.get(flag) or letters.get(flag) for flag in flags)
    return tuple(sorted({keyword for keyword in found if keyword is not None}))


def flags_for(keywords: Iterable[str], letters: Mapping[str, str]) -> str:
    """Return the flags for keywords, in the order of their codes as maildir(5) wants them."""
    by_keyword = {keyword: letter for letter, keyword in letters.items()} | _LETTERS
    return "".join(sorted(by_keyword[word] for word in keywords if word in by_keyword))


def with_flags(unique: str, flags: str) -> str:
    """Return the name of a message's file in `cur`."""
    return f"{unique}{_INFO}{flags}"


def has_flag(keyword: str) -> bool:
    """Say whether a keyword needs no line in `dovecot-keywords`."""
    return keyword in _LETTERS


def read_letters(text: str) -> dict[str, str]:
    """Return keywords by letter, as a `dovecot-keywords` file has them; bad lines are nothing."""
    letters: dict[str, str] = {}
    for line in text.splitlines():
        number, _, keyword = line.strip().partition(" ")
        if number.isdecimal() and int(number) < LETTERS_MAX:
            try:
                letters[chr(ord("a") + int(number))] = check_keyword(keyword)
            except Invalid:
                continue
    return letters


def write_letters(letters: Mapping[str, str]) -> str:
    """Return the `dovecot-keywords` file of these letters."""
    return "".join(f"{ord(one) - ord('a')} {word}\n" for one, word in sorted(letters.items()))


def folder_of(directory: str) -> FolderPath:
    """Return the folder of a Maildir++ directory, `""` or `.Work.Reports`. Raises Invalid.

    Names that are not ASCII are UTF-8, as Dovecot can be told to write them.
    """
    if not directory.strip("."):
        return INBOX_PATH
    names = directory.removeprefix(".").split(".")
    if directory.isascii():
        names = [modified_utf7.decode(name) for name in names]
    return folder_path(names)


def directory_of(path: FolderPath) -> str:
    """Return the Maildir++ directory of a folder, "" for the inbox."""
    if path.role == INBOX_PATH.role:
        return ""
    return "".join(f".{modified_utf7.encode(name, also='./')}" for name in path.names)
