"""Chunking: a message that comes by BDAT (RFC 3030): the command, and the octets of its chunks.

Sans-I/O. A chunk says how long it is, so nothing is searched, unstuffed or changed: what is
stored is what was sent, whether BODY is BINARYMIME or text. As with DATA, a bare CR, a bare LF
and NUL are octets of the message like any other.

Memory      the octets once, however small the chunks; beyond `size_bytes_max` nothing is kept.
"""

from __future__ import annotations

import re
from io import BytesIO

from mail.errors import Invalid, MailError, MessageTooLarge

BDAT = re.compile(r"([0-9]{1,20})(?: +(LAST))? *", re.ASCII | re.IGNORECASE)


class UnreadableChunk(Invalid):
    """Its octets cannot be told from commands, so that the session cannot go on."""


def read_bdat(argument: str) -> tuple[int, bool]:
    """Read what follows `BDAT`: octets of the chunk, and whether it is the last (RFC 3030 §2).

    Raises UnreadableChunk: where a chunk of unknown length ends is not known either.
    """
    match = BDAT.fullmatch(argument)
    if match is None:
        raise UnreadableChunk("Syntax: BDAT octets [LAST]")
    return int(match[1]), match[2] is not None


class Chunks:
    """Collects the octets of one message from chunk to chunk; remembers what went wrong first."""

    __slots__ = ("_octets", "failure", "size_bytes", "size_bytes_max")

    def __init__(self, size_bytes_max: int) -> None:
        assert size_bytes_max > 0
        self.size_bytes_max = size_bytes_max
        self.size_bytes = 0  # taken or thrown away
        self.failure: MailError | None = None  # the answer to this chunk and all that follow it
        self._octets = BytesIO()

    def announce(self, chunk_bytes: int) -> None:
        """Take note of a chunk's length before its octets come."""
        if self.size_bytes + chunk_bytes > self.size_bytes_max:
            self.fail(MessageTooLarge())

    def feed(self, octets: bytes) -> None:
        """Take octets of a chunk; after a failure they are only counted."""
        self.size_bytes += len(octets)
        if self.failure is None:
            self._octets.write(octets)

    def fail(self, failure: MailError) -> None:
        """Forget the message and keep none of what still comes."""
        if self.failure is None:
            self.failure = failure
        self._octets = BytesIO()

    def message(self) -> bytes:
        """Return the message; its octets are held once, by the caller, from then on."""
        assert self.failure is None
        octets, self._octets = self._octets, BytesIO()
        return octets.getvalue()
