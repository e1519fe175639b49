"""ImportSources: messages as other systems keep them, one after the other.

A source yields every message with its folders, keywords and the time it was received, and what
it could not read. It holds one message at a time; of a Maildir folder also the names.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mail import header_scan, maildir, mbox
from mail.errors import Invalid
from mail.folder_path import INBOX_PATH, FolderPath, folder_path, with_roles
from mail.gmail_labels import read_labels
from mail.keywords import SEEN, check_keyword
from mail.line_ends import to_crlf

READ_BYTES = 1 << 20
SIDECAR = "heliograph.tsv"  # Beside exported .eml files: name, time received, keywords.
# What people's mail programs keep beside their mboxes.
NOT_MBOX = frozenset((".msf", ".dat", ".html", ".json", ".log", ".sqlite", ".mozmsgs"))


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """One message that can be imported."""

    name: str
    octets: bytes
    received_at_ms: int
    folders: tuple[FolderPath, ...]
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceTrouble:
    """One message, file or folder that cannot; `deleted`: its owner has deleted it."""

    name: str
    text: str
    deleted: bool = False


SourceItem = SourceMessage | SourceTrouble


class Source(Protocol):
    """Where messages come from. `total` and `done` are octets of mbox files, else messages."""

    total: int
    done: int
    folders: list[FolderPath]  # that are to be there even when nothing is put into them

    def items(self) -> Iterator[SourceItem]:
        """Yield every message, in the order in which they were put there."""


def _deleted(name: str) -> SourceTrouble:
    return SourceTrouble(name, "is marked as deleted", deleted=True)


def below(root: FolderPath | None, path: FolderPath) -> FolderPath:
    """Return where a folder of a source goes: itself, or below the folder that was asked for."""
    if root is None:
        return path
    return root if path == INBOX_PATH else folder_path((*root.names, *path.names))


class MaildirSource:
    """A Maildir with its Maildir++ folders, or with folders as directories."""

    def __init__(self, path: Path, root: FolderPath | None, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._troubles: list[SourceTrouble] = []
        directories: list[Path] = []
        paths: list[FolderPath] = []
        for directory in _maildirs(path):
            try:
                paths.append(below(root, _maildir_folder(directory.relative_to(path))))
                directories.append(directory)
            except Invalid as error:
                self._troubles.append(SourceTrouble(str(directory), error.text))
        if not directories and not self._troubles:
            raise Invalid(f"{path} is no Maildir: it has neither cur nor new")
        self.folders = with_roles(paths)
        self._folders = list(zip(directories, self.folders, strict=True))
        self.total = sum(_count(one / part) for one in directories for part in ("cur", "new"))
        self.done = 0

    def items(self) -> Iterator[SourceItem]:
        yield from self._troubles
        for directory, folder in self._folders:
            try:
                text = (directory / maildir.KEYWORDS_FILE).read_text(errors="replace")
                letters = maildir.read_letters(text)
            except OSError:
                letters = {}
            for file in _in_order(directory):
                self.done += 1
                item = self._item(file, folder, letters)
                if item is not None:
                    yield item

    def _item(self, file: Path, folder: FolderPath, letters: dict[str, str]) -> SourceItem | None:
        flags = maildir.flags_of(file.name)
        if maildir.DELETED in flags:
            return _deleted(str(file))
        keywords = maildir.keywords_of(flags, letters)
        if file.parent.name == "new":
            keywords = tuple(word for word in keywords if word != SEEN)
        found = _read(file, self._bytes_max)
        if found is None and (moved := _moved(file)) is not None:
            return self._item(moved, folder, letters)
        if found is None or isinstance(found, SourceTrouble):
            return found
        octets, received_at_ms = found
        return SourceMessage(str(file), to_crlf(octets), received_at_ms, (folder,), keywords)


def _maildirs(path: Path) -> list[Path]:
    found: list[Path] = []
    for directory, names, _ in os.walk(path):
        names.sort()
        if "cur" in names or "new" in names:
            found.append(Path(directory))
        names[:] = [name for name in names if name not in ("cur", "new", "tmp")]
    return found


def _maildir_folder(relative: Path) -> FolderPath:
    parts = relative.parts
    if len(parts) == 1 and parts[0].startswith("."):
        return maildir.folder_of(_text(parts[0]))
    if not parts:
        return INBOX_PATH
    names = (maildir.folder_of(f".{_text(part).lstrip('.')}").names for part in parts)
    return folder_path(name for several in names for name in several)


def _in_order(directory: Path) -> Iterator[Path]:
    """Yield a folder's files by the time that their names begin with."""
    names: list[tuple[int, str, str]] = []
    for part in ("cur", "new"):
        with contextlib.suppress(FileNotFoundError), os.scandir(directory / part) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file():
                    digits = re.match(r"\d{1,15}", entry.name)
                    names.append((int(digits[0]) if digits else 0, entry.name, part))
    names.sort()
    for _, name, part in names:
        yield directory / part / name


def _moved(file: Path) -> Path | None:
    """Return where a message is whose flags were changed while we read."""
    unique = maildir.unique_of(file.name)
    with contextlib.suppress(OSError), os.scandir(file.parent.parent / "cur") as entries:
        for entry in entries:
            if maildir.unique_of(entry.name) == unique and entry.name != file.name:
                return Path(entry.path)
    return None


def _count(directory: Path) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(not entry.name.startswith(".") for entry in entries)
    except OSError:
        return 0


def _read(file: Path, bytes_max: int) -> tuple[bytes, int] | SourceTrouble | None:
    """Return a file's octets and the time of its last change, None when it is gone."""
    try:
        with file.open("rb") as opened:
            facts = os.fstat(opened.fileno())
            if facts.st_size > bytes_max:
                return SourceTrouble(str(file), f"is larger than {bytes_max} bytes")
            octets = opened.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return SourceTrouble(str(file), f"cannot be read: {error.strerror}")
    if not octets.strip():
        return SourceTrouble(str(file), "is empty")
    return octets, max(0, facts.st_mtime_ns // 1_000_000)


class MboxSource:
    """A mbox file, or a directory of them as Thunderbird, Apple Mail or this program keeps them."""

    def __init__(self, path: Path, root: FolderPath | None, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._by_labels = root is None
        self._troubles: list[SourceTrouble] = []
        files: list[Path] = []
        paths: list[FolderPath] = []
        for file, names in _mboxes(path):
            try:
                single = root is not None and file == path
                found = INBOX_PATH if single else folder_path(map(_text, names))
                paths.append(below(root, found))
                files.append(file)
            except Invalid as error:
                self._troubles.append(SourceTrouble(str(file), error.text))
        if not files and not self._troubles:
            raise Invalid(f"there is no mbox in {path}")
        self._files = list(zip(files, with_roles(paths), strict=True))
        self.folders = [folder for file, folder in self._files if not file.stat().st_size]
        self.total = sum(file.stat().st_size for file in files)
        self.done = 0

    def items(self) -> Iterator[SourceItem]:
        yield from self._troubles
        before = 0
        for file, folder in self._files:
            splitter = mbox.MboxSplitter(self._bytes_max)
            try:
                with file.open("rb") as opened:
                    now_ms = max(0, os.fstat(opened.fileno()).st_mtime_ns // 1_000_000)
                    while data := opened.read(READ_BYTES):
                        for message in splitter.receive_data(data):
                            self.done = before + message.offset
                            yield self._item(file, message, folder, now_ms)
                for message in splitter.close():
                    yield self._item(file, message, folder, now_ms)
            except OSError as error:
                yield SourceTrouble(str(file), f"cannot be read: {error.strerror}")
            except Invalid as error:
                yield SourceTrouble(str(file), error.text)
            before += file.stat().st_size if file.exists() else 0
            self.done = before

    def _item(
        self, file: Path, message: mbox.MboxMessage, folder: FolderPath, file_ms: int
    ) -> SourceItem:
        name = f"{file}, octet {message.offset}"
        if message.octets is None:
            return SourceTrouble(name, f"is larger than {self._bytes_max} bytes")
        found = mbox.read(message)
        if found.deleted:
            return _deleted(name)
        if not found.octets.strip():
            return SourceTrouble(name, "is empty")
        received_at_ms = mbox.from_line_ms(message.from_line)
        if received_at_ms is None:
            received_at_ms = header_scan.received_ms(found.octets)
        folders: tuple[FolderPath, ...] = (folder,)
        keywords = found.keywords
        labels = None
        if self._by_labels and not found.ours:
            labels = header_scan.field(found.octets, b"X-Gmail-Labels")
        if labels is not None:
            folders, words = read_labels(labels)
            keywords = tuple(sorted({*keywords, *words}))
        when_ms = file_ms if received_at_ms is None else received_at_ms
        return SourceMessage(name, found.octets, when_ms, folders, keywords)


def _mboxes(path: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """Yield mbox files with the names of their folders."""
    if path.is_file():
        yield path, (_folder_name(path.name),)
        return
    for directory, names, files in os.walk(path):
        names.sort()
        parts = Path(directory).relative_to(path).parts
        for file in sorted(files):
            found = Path(directory, file)
            if file.startswith(".") or found.suffix.lower() in NOT_MBOX or not _is_mbox(found):
                continue
            if file == "mbox" and parts and parts[-1].endswith(".mbox"):  # Apple Mail.
                yield found, tuple(map(_folder_name, parts))
            else:
                yield found, (*map(_folder_name, parts), _folder_name(file))


def _is_mbox(file: Path) -> bool:
    """Say whether a file of a directory is one; an empty one is an empty folder."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64).lstrip(b"\r\n")
    except OSError:
        return True  # It will be told when it is read.
    return not start or start.startswith(b"From ")


def _folder_name(name: str) -> str:
    for suffix in (".sbd", ".mbox", ".mbx"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return unquoted(name)


class EmlSource:
    """Files of one message each: one, or all of a directory, whose directories are folders."""

    def __init__(self, path: Path, root: FolderPath | None, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._troubles: list[SourceTrouble] = []
        if not path.exists():
            raise Invalid(f"{path} is not there")
        directories: list[Path] = []
        paths: list[FolderPath] = []
        for directory in [path.parent] if path.is_file() else _directories(path):
            try:
                names = () if path.is_file() else directory.relative_to(path).parts
                texts = [_text(unquoted(name)) for name in names]
                paths.append(below(root, folder_path(texts) if texts else INBOX_PATH))
                directories.append(directory)
            except Invalid as error:
                self._troubles.append(SourceTrouble(str(directory), error.text))
        self._folders = list(zip(directories, with_roles(paths), strict=True))
        ours = (folder for directory, folder in self._folders if (directory / SIDECAR).exists())
        self.folders = list(ours)
        self.total = sum(len(self._files(directory)) for directory in directories)
        if not self.total and not self._troubles:
            raise Invalid(f"there is no .eml in {path}")
        self.done = 0

    def _files(self, directory: Path) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        with os.scandir(directory) as entries:
            names = [one.name for one in entries if one.is_file() and one.name[0] != "."]
        return [directory / name for name in sorted(names) if name.lower().endswith(".eml")]

    def items(self) -> Iterator[SourceItem]:
        yield from self._troubles
        for directory, folder in self._folders:
            sidecar = _read_sidecar(directory / SIDECAR)
            for file in self._files(directory):
                self.done += 1
                item = self._item(file, folder, sidecar.get(file.name))
                if item is not None:
                    yield item

    def _item(
        self, file: Path, folder: FolderPath, known: tuple[int, tuple[str, ...]] | None
    ) -> SourceItem | None:
        found = _read(file, self._bytes_max)
        if found is None or isinstance(found, SourceTrouble):
            return found
        octets, changed_at_ms = to_crlf(found[0]), found[1]
        if known is None:  # Who keeps a message as a file has seen it.
            received_at_ms = header_scan.received_ms(octets)
            known = (changed_at_ms if received_at_ms is None else received_at_ms, (SEEN,))
        return SourceMessage(str(file), octets, known[0], (folder,), known[1])


def _directories(path: Path) -> list[Path]:
    found: list[Path] = []
    for directory, names, _ in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found.append(Path(directory))
    return found


def _read_sidecar(file: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return time and keywords by file name; what cannot be read is left out."""
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    for line in lines:
        name, received, words = (*line.split("\t"), "", "")[:3]
        with contextlib.suppress(Invalid):
            if received.isdecimal() and len(received) < 16:
                found[name] = (int(received), tuple(sorted(map(check_keyword, words.split()))))
    return found


# Names of folders as names of files.

_QUOTED = re.compile("%(25|2F|2E)")


def quoted(name: str) -> str:
    """Return a folder's name as a name of a file or directory; `unquoted` undoes it."""
    name = name.replace("%", "%25").replace("/", "%2F")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def unquoted(name: str) -> str:
    """Return the name of the folder that a file or directory of that name is."""
    return _QUOTED.sub(lambda match: chr(int(match[1], 16)), name)


def _text(name: str) -> str:
    """Return a file's name as text; octets that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")
