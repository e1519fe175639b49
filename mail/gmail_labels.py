"""GmailLabels: the folders and keywords that `X-Gmail-Labels` of Google Takeout stands for.

Takeout writes labels in the language of the account; English and Korean ones are known here,
others become folders of their name.
"""

from __future__ import annotations

import csv

from mail.errors import Invalid
from mail.folder_path import FolderPath, folder_path, role_of
from mail.folders import ARCHIVE, DRAFTS
from mail.headers import as_text
from mail.keywords import DRAFT, FLAGGED, SEEN

FOLDERS_MAX = 50  # Of one message; a bound for what is read from elsewhere.

_UNREAD = frozenset(("unread", "읽지않음", "읽지 않음"))
_FLAGS = {
    "starred": FLAGGED, "별표편지함": FLAGGED, "별표": FLAGGED,
    "important": "$important", "중요": "$important", "중요편지함": "$important",
}  # fmt: skip
# What Gmail makes by itself and people do not file by.
_IGNORED = frozenset(("opened", "archived", "열림", "열린 메일", "보관됨"))
_IGNORED_STARTS = ("category ", "카테고리 ")
_OURS = {
    "inbox": "Inbox", "drafts": "Drafts", "sent": "Sent", "junk": "Junk", "trash": "Trash",
    "archive": "Archive",
}  # fmt: skip


def read_labels(value: bytes) -> tuple[tuple[FolderPath, ...], tuple[str, ...]]:
    """Return folders, at least one, and keywords for the value of the header field."""
    text = " ".join(as_text(value).split())
    folders: dict[FolderPath, None] = {}
    keywords = {SEEN}
    for label in next(csv.reader([text], skipinitialspace=True), []):
        name = label.strip()
        lower = name.lower()
        if lower in _UNREAD:
            keywords.discard(SEEN)
        elif lower in _FLAGS:
            keywords.add(_FLAGS[lower])
        elif lower not in _IGNORED and not lower.startswith(_IGNORED_STARTS):
            try:
                folders[_folder(name)] = None
            except Invalid:
                continue
        if role_of(name) == DRAFTS:
            keywords.add(DRAFT)
    found = tuple(folders)[:FOLDERS_MAX] or (FolderPath((_OURS[ARCHIVE],), ARCHIVE),)
    return found, tuple(sorted(keywords))


def _folder(label: str) -> FolderPath:
    role = role_of(label)
    if role is not None:
        return FolderPath((_OURS[role],), role)
    return folder_path(label.split("/"))
