"""Ids and blobs (RFC 8620 §1.2, §6.2)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jmap import ids
from actors.jmap.ids import BlobName
from mail.errors import NotFound
from tests.unit.actors.jmap.memory_access import NOW_MS, MemoryAccess, message

DAY_MS = 24 * 3600 * 1000
NESTED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n"
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv\r\n--b--\r\n"
)


@given(st.integers(0, 2**64 - 1))
def test_numbers(number: int) -> None:
    for make, parse in (
        (ids.account_id_of, ids.parse_account_id),
        (ids.email_id_of, ids.parse_email_id),
        (ids.thread_id_of, ids.parse_thread_id),
    ):
        text = make(number)
        assert ids.is_id(text)
        assert parse(text) == number
    folder = number % 2**32 or 1
    assert ids.parse_folder_id(ids.folder_id_of(folder)) == folder


@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(1, 999), max_size=5))
def test_blob_names(digest: bytes, numbers: list[int]) -> None:
    part_id = ".".join(map(str, numbers)) or None
    text = ids.blob_id_of(digest, part_id)
    assert ids.is_id(text)
    assert ids.parse_blob_id(text) == BlobName(digest, part_id)


@given(st.text(max_size=12))
def test_foreign_ids_are_none(text: str) -> None:
    for parse, letter in (
        (ids.parse_account_id, "A"), (ids.parse_email_id, "M"), (ids.parse_thread_id, "T"),
        (ids.parse_folder_id, "F"),
    ):  # fmt: skip
        for candidate in (text, letter + text):
            number = parse(candidate)
            assert number is None or candidate == f"{letter}{number:x}"
    assert ids.parse_blob_id(text) is None


@pytest.mark.parametrize("text", ["", "M", "M01", "MA", "M1 ", "M-1", "M" + "f" * 17, "m1", "M１"])
def test_only_one_spelling(text: str) -> None:
    assert ids.parse_email_id(text) is None


def test_all_mail_is_no_folder() -> None:
    assert ids.parse_folder_id("F0") is None


def _read(access: MemoryAccess, blob_id: str, now_ms: int = NOW_MS) -> bytes:
    return ids.read_blob(access.reader(), access.blobs, blob_id, now_ms=now_ms)


async def test_messages_and_their_parts(access: MemoryAccess) -> None:
    access.add(NESTED)
    digest = hashlib.sha256(NESTED).digest()
    assert _read(access, ids.blob_id_of(digest)) == NESTED
    assert _read(access, ids.blob_id_of(digest, "1")) == b"one"
    assert _read(access, ids.blob_id_of(digest, "2")) == b"two"
    for missing in (ids.blob_id_of(digest, "3"), ids.blob_id_of(bytes(32)), "G1", "", "M1"):
        with pytest.raises(NotFound):
            _read(access, missing)


async def test_blob_of_another_mailbox(access: MemoryAccess) -> None:
    other = message("not yours")
    digest = hashlib.sha256(other).digest()
    access.memory_blobs.octets[digest] = other
    with pytest.raises(NotFound):
        _read(access, ids.blob_id_of(digest))


async def test_upload_expires(access: MemoryAccess) -> None:
    digest = hashlib.sha256(b"upload").digest()
    access.memory_blobs.octets[digest] = b"upload"
    access.run(lambda writer: writer.own_upload(digest, 6, NOW_MS))
    blob_id = ids.blob_id_of(digest)
    assert _read(access, blob_id, NOW_MS + DAY_MS - 1) == b"upload"
    with pytest.raises(NotFound):
        _read(access, blob_id, NOW_MS + DAY_MS)


async def test_message_is_gone_with_its_last_email(access: MemoryAccess) -> None:
    email = access.add(NESTED)
    access.add(NESTED)
    digest = hashlib.sha256(NESTED).digest()
    await access.call("Email/set", destroy=[email])
    assert _read(access, ids.blob_id_of(digest)) == NESTED
    await access.call("Email/set", destroy=["M2"])
    with pytest.raises(NotFound):
        _read(access, ids.blob_id_of(digest))
