"""Steps: what a mechanism asks of whoever drives it, and how it fails.

Pure. A mechanism takes the client's responses, octets without the base64 of the protocol around
it, and answers each with a step. It knows no directory: where it needs one it says what for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mail.address import parse_address
from mail.errors import Invalid, InvalidAddress


class Malformed(Invalid):
    """That is no response of this mechanism."""

    smtp = "501 5.5.2"


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this, and come back with the response."""

    octets: bytes


@dataclass(frozen=True, slots=True, repr=False)
class CheckPassword:
    """Whether it succeeds depends on a password that came in whole."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class FindKeys:
    """Call `found` with the keys that are kept for this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The client has proven that it knows the password of the keys that were found."""


Step = Challenge | CheckPassword | FindKeys | Proven


class Mechanism(Protocol):
    """The server's side of one exchange."""

    def respond(self, response: bytes | None) -> Step:
        """Take the next response; None at the start, when none came with the request.

        Raises Malformed, SignInRefused.
        """


def text_of(octets: bytes) -> str:
    """Return what a client wrote in UTF-8 (RFC 4616 §2). Raises Malformed."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise Malformed("That is not UTF-8") from None


def is_same_name(name: str, other: str) -> bool:
    """Say whether two names are the same account's, as far as names alone tell."""
    if name == other:
        return True
    try:
        return parse_address(name).key == parse_address(other).key
    except InvalidAddress:
        return False
