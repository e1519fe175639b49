"""ShadowIndex: a search index made anew beside the live one, and put in its place.

    index/       the live index; searches use it all the time
    index.new/   the shadow, while it is made
    index.old/   what was live, for the moment in which they change places

A crash leaves the live index, or the one that was about to be: `settle`, at the next start,
throws the rest away (R9).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from storage import keys
from storage.files import sync_directory
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.search_index import SearchIndex
from storage.transaction import State

EmailKey = tuple[int, int]  # mailbox, email


class ShadowIndex:
    """The shadow of the index at `path`, and the emails that changed since it was begun."""

    def __init__(self, path: Path) -> None:
        """Make an empty shadow. Blocks. Raises IndexFailed, IndexInUse, OSError."""
        self._path = path
        self.changed: dict[EmailKey, None] = {}
        self.index = SearchIndex.open(_new(path), anew=True)

    def take_place(self, live: SearchIndex) -> SearchIndex:
        """Put the finished shadow in the place of the live index; return it, open.

        Nothing may be written to either meanwhile; searches in the old one go on until it is
        closed. Blocks. Raises IndexFailed, OSError: then open whatever is there.
        """
        live.seal()  # Its last merges must not write into the new one's place.
        self.index.close()
        self._path.rename(_old(self._path))
        _new(self._path).rename(self._path)
        sync_directory(self._path.parent)
        opened = SearchIndex.open(self._path)
        shutil.rmtree(_old(self._path), ignore_errors=True)
        return opened

    def throw_away(self) -> None:
        """Close and remove the shadow, unless it took its place. Blocks."""
        self.index.close()
        shutil.rmtree(_new(self._path), ignore_errors=True)


def settle(path: Path) -> None:
    """End what a crash has left half-way. Raises OSError."""
    if _old(path).exists() and not path.exists():
        _old(path).rename(path)
    shutil.rmtree(_new(path), ignore_errors=True)
    shutil.rmtree(_old(path), ignore_errors=True)


def emails_in(state: State, count: int) -> Iterator[list[EmailKey]]:
    """Yield all emails of a shard, `count` at a time; each list is of its own moment."""
    for mailbox in list(mailboxes(state)):
        after = -1
        while True:
            start = keys.email_state(mailbox, after + 1)
            end = keys.after(keys.kind(mailbox, b"k"))
            found = [key for key, _ in islice(state.scan(start, end), count)]
            emails = [(mailbox, int.from_bytes(key[9:], "big")) for key in found]
            if not emails:
                break
            yield emails
            after = emails[-1][1]


def count_emails(state: State) -> int:
    """Return how many emails a shard has, as its mailboxes count them."""
    readers = (MailboxReader(mailbox, state) for mailbox in mailboxes(state))
    return sum(reader.info.emails for reader in readers if reader.exists)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")
