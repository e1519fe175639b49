"""Messages for tests: real ones from tests/data/messages, and builders of awkward ones."""

from __future__ import annotations

import base64
from pathlib import Path

MESSAGES_DIR = Path(__file__).parents[2] / "data" / "messages"
REAL_PATHS = sorted(path for path in MESSAGES_DIR.rglob("*") if path.suffix == ".eml")


def real(name: str) -> bytes:
    """Return the octets of a real message, `flanker/…` or `mikel/…`."""
    return (MESSAGES_DIR / name).read_bytes()


def message(*fields: bytes, body: bytes = b"") -> bytes:
    """Return a message of these header fields and this body."""
    return b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def multipart(*parts: bytes, subtype: bytes = b"mixed", boundary: bytes = b"=_b") -> bytes:
    """Return a multipart message; each part is its header, a blank line and its body."""
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return message(
        b"From: alice@example.test",
        b"Subject: parts",
        b"MIME-Version: 1.0",
        b"Content-Type: multipart/" + subtype + b'; boundary="' + boundary + b'"',
        body=body + b"--" + boundary + b"--\r\n",
    )


def attachment(
    data: bytes, *, disposition: bytes = b"attachment", content_type: bytes = b"application/x"
) -> bytes:
    """Return a base64 part with these raw header values."""
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    return message(
        b"Content-Type: " + content_type,
        b"Content-Disposition: " + disposition,
        b"Content-Transfer-Encoding: base64",
        body=encoded,
    )
