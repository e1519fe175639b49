"""FolderPath: where a folder is, by the names from the root on, and what it is for.

Other systems have their own names for the folders that every mailbox here has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mail.errors import Invalid
from mail.folders import ARCHIVE, DRAFTS, INBOX, JUNK, SENT, TRASH, check_folder_name

# Deeper ones exist nowhere; a bound for what is read from elsewhere.
FOLDER_DEPTH_MAX = 20

# The first name of a role is ours. The others are those of Dovecot's and Cyrus's documentation,
# Outlook, Apple Mail, Thunderbird, Gmail and Korean webmail, without regard to case.
_NAMES: dict[str, tuple[str, ...]] = {
    INBOX: ("inbox", "받은편지함", "받은 편지함"),
    DRAFTS: ("drafts", "draft", "임시보관함", "임시 보관함"),
    SENT: (
        "sent", "sent mail", "sent messages", "sent items", "sent-mail", "보낸편지함",
        "보낸 편지함", "보낸메일함",
    ),
    JUNK: ("junk", "spam", "junk mail", "junk e-mail", "junk email", "bulk mail", "스팸",
           "스팸함", "스팸메일함", "스팸편지함"),
    TRASH: ("trash", "deleted items", "deleted messages", "bin", "휴지통", "지운편지함"),
    ARCHIVE: ("archive", "archives", "보관함", "보관됨"),
}  # fmt: skip
_ROLES = {name: role for role, names in _NAMES.items() for name in names}


class FolderPath(msgspec.Struct, frozen=True, array_like=True):
    """A folder by its names from the root on; one with a role is found by it first."""

    names: tuple[str, ...]
    role: str | None = None

    def __str__(self) -> str:
        return "/".join(self.names)


INBOX_PATH = FolderPath(("Inbox",), INBOX)


def folder_path(names: Iterable[str]) -> FolderPath:
    """Return the path with its names checked, and the role if it is one of ours by name.

    Raises Invalid.
    """
    checked = tuple(check_folder_name(name) for name in names)
    if not 0 < len(checked) <= FOLDER_DEPTH_MAX:
        raise Invalid("The folder path is empty or too deep")
    role = None
    if len(checked) == 1 and (found := role_of(checked[0])) is not None:
        role = found if checked[0].lower() == _NAMES[found][0] else None
    return FolderPath(checked, role)


def parse_folder_path(text: str) -> FolderPath:
    """Return the path that people write with slashes. Raises Invalid."""
    return folder_path(name for name in text.strip("/").split("/"))


def role_of(name: str) -> str | None:
    """Return the role that a folder of that name has elsewhere, None if it has none."""
    return _ROLES.get(name.strip().lower())


def with_roles(paths: Sequence[FolderPath]) -> list[FolderPath]:
    """Return the folders of one source, those known by another name with the role of ours.

    Where the source has a folder of our own name too, the other one is an ordinary folder: it
    must not be poured into the first, nor be emptied with Junk or Trash.
    """
    taken = {path.role for path in paths if path.role is not None}
    found: list[FolderPath] = []
    for path in paths:
        role = role_of(path.names[0]) if len(path.names) == 1 else None
        if path.role is None and role is not None and role not in taken:
            taken.add(role)
            path = FolderPath(path.names, role)
        found.append(path)
    return found
