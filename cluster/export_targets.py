"""ExportTargets: a mailbox as files: a Maildir, mboxes, or a file a message.

A message is written beside its place and then renamed, so what has its name is complete, and an
export that is given again writes only what is missing. Files are for their owner alone.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from actors.transfer_commands import FolderRow, MessageRow
from cluster.import_sources import SIDECAR, quoted
from mail import maildir, mbox
from mail.folder_path import FolderPath

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
NAME_BYTES_MAX = 255  # Of a file's name in the file systems in use.


class Target(Protocol):
    """Where a mailbox is written to; folder by folder, each in the order of UIDs."""

    notes: list[str]  # what could not be kept

    def begin(self, folder: FolderRow) -> bool:
        """Prepare a folder; say whether there may be something to write."""

    def has(self, row: MessageRow) -> bool:
        """Say whether a message is there. Asked of every one, before any later one is written."""

    def write(self, row: MessageRow, octets: bytes) -> None:
        """Write a message that is not there."""

    def end(self) -> None:
        """Complete the folder."""


class MaildirTarget:
    """A Maildir, with Maildir++ folders and the keywords of Dovecot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = path
        self._uid_validity = 0
        self._names: dict[str, str] = {}  # in cur, by the part that does not change
        self._letters: dict[str, str] = {}
        self.notes: list[str] = []

    def begin(self, folder: FolderRow) -> bool:
        name = maildir.directory_of(folder.path)
        if len(name.encode()) > NAME_BYTES_MAX:
            name = f"{name[:200]}~{folder.folder}"
            self.notes.append(f"the name of {folder.path} is too long: it is {name}")
        self._directory = self._path / name
        for part in ("cur", "new", "tmp"):
            (self._directory / part).mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        if name:
            (self._directory / "maildirfolder").touch(FILE_MODE)
        self._uid_validity = folder.uid_validity
        with os.scandir(self._directory / "cur") as entries:
            self._names = {maildir.unique_of(entry.name): entry.name for entry in entries}
        self._letters = {}
        with contextlib.suppress(FileNotFoundError):
            text = (self._directory / maildir.KEYWORDS_FILE).read_text(errors="replace")
            self._letters = maildir.read_letters(text)
        return True

    def has(self, row: MessageRow) -> bool:
        unique, name = self._name(row)
        present = self._names.get(unique)
        if present is None:
            return False
        directory = self._directory / "cur"
        if present != name:  # It was marked otherwise since.
            os.rename(directory / present, directory / name)
            self._names[unique] = name
        if (directory / name).stat().st_size == row.size_bytes:
            return True
        del self._names[unique]  # The machine went down before it was on the disk.
        (directory / name).unlink()
        return False

    def write(self, row: MessageRow, octets: bytes) -> None:
        unique, name = self._name(row)
        written = _write(self._directory / "tmp" / unique, octets, row.received_at_ms)
        os.rename(written, self._directory / "cur" / name)

    def end(self) -> None:
        pass

    def _name(self, row: MessageRow) -> tuple[str, str]:
        unique = (
            f"{row.received_at_ms // 1000}.V{self._uid_validity}U{row.uid}"
            f"_{row.digest[:8].hex()}.heliograph,S={row.size_bytes}"
        )
        self._give_letters(row.keywords)
        return unique, maildir.with_flags(unique, maildir.flags_for(row.keywords, self._letters))

    def _give_letters(self, keywords: tuple[str, ...]) -> None:
        known = self._letters.values()
        new = [word for word in keywords if not maildir.has_flag(word) and word not in known]
        if not new:
            return
        before = len(self._letters)
        free = (chr(ord("a") + number) for number in range(maildir.LETTERS_MAX))
        free = (letter for letter in free if letter not in self._letters)
        self._letters |= dict(zip(list(free), new, strict=False))
        if len(self._letters) - before < len(new):
            note = f"{self._directory}: a Maildir folder has {maildir.LETTERS_MAX} keywords at most"
            if note not in self.notes:
                self.notes.append(note)
        if len(self._letters) > before:
            text = maildir.write_letters(self._letters).encode()
            _replace(self._directory / maildir.KEYWORDS_FILE, text)


class EmlTarget:
    """A directory a folder, a file a message; beside them what the files cannot tell."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = path
        self._sidecar: BinaryIO | None = None
        self.notes: list[str] = []

    def begin(self, folder: FolderRow) -> bool:
        self._directory = self._path.joinpath(*map(quoted, folder.path.names))
        self._directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        self._sidecar = _create(self._directory / f".{SIDECAR}.part")
        return True

    def has(self, row: MessageRow) -> bool:
        assert self._sidecar is not None, "a folder was begun"
        line = f"{self._name(row)}\t{row.received_at_ms}\t{' '.join(row.keywords)}\n"
        self._sidecar.write(line.encode())
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / self._name(row)).stat().st_size == row.size_bytes
        return False

    def write(self, row: MessageRow, octets: bytes) -> None:
        name = self._name(row)
        written = _write(self._directory / f".{name}.part", octets, row.received_at_ms)
        os.rename(written, self._directory / name)

    def end(self) -> None:
        assert self._sidecar is not None, "a folder was begun"
        self._sidecar.close()
        os.rename(self._directory / f".{SIDECAR}.part", self._directory / SIDECAR)

    def _name(self, row: MessageRow) -> str:
        when = datetime.fromtimestamp(row.received_at_ms // 1000, UTC)
        return f"{row.uid:08d}_{when:%Y%m%dT%H%M%SZ}_{row.digest[:8].hex()}.eml"


class MboxTarget:
    """A file a folder. One that is there is complete and stays as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path
        self._opened: BinaryIO | None = None
        self.notes: list[str] = []

    def begin(self, folder: FolderRow) -> bool:
        self._file = self._path.joinpath(*map(quoted, folder.path.names[:-1]), _mbox_name(folder))
        if self._file.exists():
            self.notes.append(f"{self._file} is there already and was left as it is")
            return False
        self._file.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        self._opened = _create(self._part)
        return True

    @property
    def _part(self) -> Path:
        return self._file.with_name(f".{self._file.name}.part")

    def has(self, row: MessageRow) -> bool:
        return False

    def write(self, row: MessageRow, octets: bytes) -> None:
        assert self._opened is not None, "a folder was begun"
        self._opened.write(
            mbox.entry(
                octets,
                sender=row.sender,
                received_at_ms=row.received_at_ms,
                keywords=row.keywords,
            )
        )

    def end(self) -> None:
        assert self._opened is not None, "a folder was begun"
        self._opened.close()
        os.rename(self._part, self._file)


def _mbox_name(folder: FolderRow) -> str:
    path: FolderPath = folder.path
    return f"{quoted(path.names[-1])}.mbox"


def _create(file: Path) -> BinaryIO:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    return os.fdopen(handle, "wb")


def _write(file: Path, octets: bytes, changed_at_ms: int) -> Path:
    with _create(file) as opened:
        opened.write(octets)
    os.utime(file, ns=(changed_at_ms * 1_000_000,) * 2)
    return file


def _replace(file: Path, octets: bytes) -> None:
    part = file.with_name(f".{file.name}.part")
    with _create(part) as opened:
        opened.write(octets)
    os.rename(part, file)
