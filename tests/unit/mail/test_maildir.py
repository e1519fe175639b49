"""Maildir: names of files and folders, and what they say."""

import pytest

from mail import maildir
from mail.errors import Invalid
from mail.folder_path import FolderPath


def test_flags_both_ways() -> None:
    letters = maildir.read_letters("0 Work\n1 $Label1\n26 no\nbad\n2 bad*word\n")
    assert letters == {"a": "work", "b": "$label1"}
    name = "1.a,S=12:2,FRSPbz"
    assert maildir.unique_of(name) == "1.a,S=12"
    keywords = maildir.keywords_of(maildir.flags_of(name), letters)
    assert keywords == ("$answered", "$flagged", "$forwarded", "$label1", "$seen")
    flags = maildir.flags_for((*keywords, "$draft", "unknown"), letters)
    assert flags == "DFPRSb"
    assert maildir.with_flags("1.a", flags) == "1.a:2,DFPRSb"
    assert maildir.flags_of("1.a") == maildir.flags_of("1.a:1,x") == ""
    assert maildir.read_letters(maildir.write_letters(letters)) == letters


@pytest.mark.parametrize(
    "directory, path",
    [
        ("", FolderPath(("Inbox",), "inbox")),
        (".Sent", FolderPath(("Sent",), "sent")),
        (".Work.R&-D", FolderPath(("Work", "R&D"))),
        (".&vPSwuA-", FolderPath(("보낸",))),
        (".보낸", FolderPath(("보낸",))),
        (".A & B", FolderPath(("A & B",))),
        (".a&AC4-b&AC8-c", FolderPath(("a.b/c",))),
    ],
)
def test_folders(directory: str, path: FolderPath) -> None:
    assert maildir.folder_of(directory) == path
    assert maildir.folder_of(maildir.directory_of(path)) == path
    assert "/" not in maildir.directory_of(path)


def test_a_folder_that_has_no_name() -> None:
    with pytest.raises(Invalid):
        maildir.folder_of(".a..b")
