"""Ids: how numbers and digests are written in JMAP, and what a blob id names.

account A, folder F, email M, thread T and a number in hexadecimal; blob G and the SHA-256
of its octets, for one part of a message followed by `-` and the part id with `_` for `.`.
All of it lies within the characters and the length that RFC 8620 §1.2 allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mail.errors import NotFound
from mail.message import parse
from storage.mailbox_reader import Blobs, MailboxReader

_NUMBER = re.compile(r"0|[1-9a-f][0-9a-f]{0,15}")  # u64
_FOLDER = re.compile(r"[1-9a-f][0-9a-f]{0,7}")  # u32; folder 0 is all mail, no Mailbox
_BLOB = re.compile(r"G([0-9a-f]{64})(?:-([1-9][0-9]{0,8}(?:_[1-9][0-9]{0,8}){0,63}))?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class BlobName:
    """What a blob id names: whole octets, or the decoded body of one part of a message."""

    digest: bytes  # SHA-256 of the whole
    part_id: str | None = None


def is_id(text: str) -> bool:
    """Say whether `text` has the form of an Id (RFC 8620 §1.2)."""
    return _ID.fullmatch(text) is not None


def account_id_of(mailbox_id: int) -> str:
    """Return the id of the account whose mail is in a mailbox."""
    return f"A{mailbox_id:x}"


def folder_id_of(folder: int) -> str:
    """Return the id of a folder, a Mailbox of JMAP."""
    return f"F{folder:x}"


def email_id_of(email: int) -> str:
    """Return the id of an email."""
    return f"M{email:x}"


def thread_id_of(thread: int) -> str:
    """Return the id of a thread."""
    return f"T{thread:x}"


def blob_id_of(digest: bytes, part_id: str | None = None) -> str:
    """Return the id of a message or an upload, or of one part of a message."""
    if part_id is None:
        return f"G{digest.hex()}"
    return f"G{digest.hex()}-{part_id.replace('.', '_')}"


def parse_account_id(text: str) -> int | None:
    """Return the mailbox number, None when the id is none of ours."""
    return _parse(text, "A", _NUMBER)


def parse_folder_id(text: str) -> int | None:
    """Return the folder number, None when the id is none of ours."""
    return _parse(text, "F", _FOLDER)


def parse_email_id(text: str) -> int | None:
    """Return the email number, None when the id is none of ours."""
    return _parse(text, "M", _NUMBER)


def parse_thread_id(text: str) -> int | None:
    """Return the thread number, None when the id is none of ours."""
    return _parse(text, "T", _NUMBER)


def parse_blob_id(text: str) -> BlobName | None:
    """Return what a blob id names, None when the id is none of ours."""
    match = _BLOB.fullmatch(text)
    if match is None:
        return None
    digest, part = match.groups()
    return BlobName(bytes.fromhex(digest), part.replace("_", ".") if part else None)


def _parse(text: str, letter: str, pattern: re.Pattern[str]) -> int | None:
    if not text.startswith(letter) or pattern.fullmatch(text, 1) is None:
        return None
    return int(text[1:], 16)


def resolve_blob(reader: MailboxReader, blobs: Blobs, blob_id: str, *, now_ms: int) -> BlobName:
    """Return what a blob id names, if this mailbox may read it now. Raises NotFound.

    It may when an email of it refers to the blob, or when it uploaded it and the upload has
    not expired (RFC 8620 §6.1). Others are told no more than that it does not exist.
    """
    name = parse_blob_id(blob_id)
    owner = None if name is None else reader.blob_owner(name.digest)
    if name is None or owner is None:
        raise NotFound("no such blob")
    if not owner.emails and owner.upload_expires_ms <= now_ms:
        raise NotFound("no such blob")
    if blobs.size(name.digest) is None:
        raise NotFound("no such blob")
    return name


def read_blob(reader: MailboxReader, blobs: Blobs, blob_id: str, *, now_ms: int) -> bytes:
    """Return all octets of a blob that this mailbox may read. Raises NotFound."""
    name = resolve_blob(reader, blobs, blob_id, now_ms=now_ms)
    octets = blobs.read(name.digest)
    if name.part_id is None:
        return octets
    part = parse(octets).part(name.part_id)
    if part is None:
        raise NotFound("no such part")
    return part.decoded()
