"""Labels of Google Takeout: folders, keywords, and what nobody files by."""

import pytest

from mail.gmail_labels import read_labels


@pytest.mark.parametrize(
    "value, folders, keywords",
    [
        ("Inbox,Unread", ["Inbox"], []),
        ("Archived,Opened,Category Updates", ["Archive"], ["$seen"]),
        ("", ["Archive"], ["$seen"]),
        ("Drafts,Unread", ["Drafts"], ["$draft"]),
        ("Spam,Starred", ["Junk"], ["$flagged", "$seen"]),
        ("Bin", ["Trash"], ["$seen"]),
        ("Work/Reports,Important", ["Work/Reports"], ["$important", "$seen"]),
        ('"a, b",Sent', ["a, b", "Sent"], ["$seen"]),
        ("받은편지함,읽지않음", ["Inbox"], []),
        ("=?UTF-8?B?67Cb7J2A7Y647KeA7ZWo?=,=?UTF-8?B?67OE7ZGc?=", ["Inbox"], ["$flagged", "$seen"]),
        ("a//b", ["Archive"], ["$seen"]),
    ],
)
def test_labels(value: str, folders: list[str], keywords: list[str]) -> None:
    found, words = read_labels(value.encode())
    assert [str(path) for path in found] == folders
    assert list(words) == keywords
