"""Turns of transfer: messages from elsewhere into a mailbox, each once.

A message is known by its octets: one that is in its folder already is left as it is there, so
an import that was interrupted can be given again. One that is in the mailbox, but in another
folder, gets a further folder when nothing tells the two apart; else it is stored as a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from actors.commands import Done
from actors.mailbox_turns import WriterPlan, encoded
from actors.transfer_commands import (
    EmailsImported,
    ImportedEmail,
    ImportEmails,
    ImportOutcome,
    MakeFolders,
)
from mail.errors import Invalid, MailError, OverQuota
from mail.folder_path import FolderPath
from mail.folders import INBOX, check_folder_name
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.records import EmailState

# After the folders that every mailbox has.
IMPORTED_SORT_ORDER = 100
# Emails with the same octets that are looked at; more of them tell nothing more.
COPIES_MAX = 100


class Folders:
    """The folders of a mailbox by path."""

    def __init__(self, reader: MailboxReader) -> None:
        self._reader = reader
        self._numbers = {
            (record.parent, record.name): number for number, record in reader.folders().items()
        }

    def find(self, path: FolderPath) -> int | None:
        """Return the number of a folder, None when there is none."""
        if path.role is not None:
            number = self._reader.folder_with_role(path.role)
            if number is not None:
                return number
        number = None
        for name in path.names:
            number = self._child(number, name)
            if number is None:
                return None
        return number

    def make(self, writer: MailboxWriter, path: FolderPath) -> int:
        """Return the number of a folder, which is made if need be, and its parents. May raise."""
        found = self.find(path)
        if found is not None:
            return found
        parent: int | None = None
        for depth, name in enumerate(path.names, 1):
            number = self._child(parent, name)
            if number is None:
                role = path.role if depth == len(path.names) else None
                name = check_folder_name(name)
                number = writer.add_folder(
                    name, role=role, parent=parent, sort_order=IMPORTED_SORT_ORDER
                )
                self._numbers[parent, name] = number
            parent = number
        if parent is None:
            raise Invalid("The folder path is empty")
        return parent

    def _child(self, parent: int | None, name: str) -> int | None:
        if parent is None and name.lower() == INBOX:  # RFC 9051 §5.1: INBOX in any case.
            return self._reader.folder_with_role(INBOX)
        return self._numbers.get((parent, name))


def is_known(reader: MailboxReader, digest: bytes, folders: Iterable[int | None]) -> bool:
    """Say whether a message is in all of these folders, be it as several copies."""
    missing = set(folders)
    for _, state in _copies(reader, digest):
        missing -= {place.folder for place in state.places}
        if not missing:
            return True
    return False


def _copies(reader: MailboxReader, digest: bytes) -> Iterable[tuple[int, EmailState]]:
    owner = reader.blob_owner(digest)
    for email_id in () if owner is None else owner.emails[:COPIES_MAX]:
        state = reader.email_state(email_id)
        assert state is not None, "a blob of an email that is gone"
        yield email_id, state


def import_emails(command: ImportEmails, digests: Sequence[bytes]) -> WriterPlan:
    """Return the turn that stores what is missing of these messages, as far as there is room."""

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        folders = Folders(writer)
        outcomes: list[ImportOutcome] = []
        for email, digest in zip(command.emails, digests, strict=True):
            try:
                outcomes.append(_import(writer, folders, email, digest, command.quota_bytes))
            except MailError as error:
                outcomes.append(ImportOutcome(type(error).__name__, text=error.text))
                if isinstance(error, OverQuota):
                    break
        return encoded(EmailsImported(tuple(outcomes)))

    return turn


def make_folders(command: MakeFolders) -> WriterPlan:
    """Return the turn that makes the folders that are not there yet. Raises Invalid."""

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        folders = Folders(writer)
        for path in command.folders:
            folders.make(writer, path)
        return encoded(Done())

    return turn


def _import(
    writer: MailboxWriter,
    folders: Folders,
    email: ImportedEmail,
    digest: bytes,
    quota_bytes: int,
) -> ImportOutcome:
    found = [folders.find(path) for path in email.folders]
    if found and is_known(writer, digest, found):
        return ImportOutcome("present")
    twin = _twin(writer, email, digest)
    if twin is None:
        writer.expect_room(len(email.raw), quota_bytes)
    wanted = [folders.make(writer, path) for path in email.folders]
    if twin is not None:
        email_id, state = twin
        present = [place.folder for place in state.places]
        writer.update_email(email_id, keywords=None, folders=[*present, *wanted])
        return ImportOutcome("placed", email_id)
    email_id = writer.add_email(
        digest=digest,
        size_bytes=len(email.raw),
        summary=email.summary,
        received_at_ms=email.received_at_ms,
        folders=wanted,
        keywords=email.keywords,
    )
    return ImportOutcome("stored", email_id)


def _twin(
    writer: MailboxWriter, email: ImportedEmail, digest: bytes
) -> tuple[int, EmailState] | None:
    """Return an email from which this one differs by its folders alone."""
    for email_id, state in _copies(writer, digest):
        record = writer.email(email_id)
        assert record is not None
        # Formats keep seconds, some of them.
        same_time = record.received_at_ms // 1000 == email.received_at_ms // 1000
        if same_time and set(state.keywords) == set(email.keywords):
            return email_id, state
    return None
