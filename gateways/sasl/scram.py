"""SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677): the password never comes.

Pure: what the server adds to the nonce is an argument.

App passwords   cannot be used: the server keeps a digest of them alone, and no keys. Clients that
                are given one say PLAIN or LOGIN.
Channels        are not bound: `n` and `y` are taken, `p=…` is refused. No -PLUS mechanism is
                offered, so that a client that says `y` is right (RFC 5802 §6).
Preparation     names are compared as addresses are. The keys are made of the password as RFC 8265
                prepares it, in NFC; clients prepare it by the older SASLprep, in NFKC. A password
                for which these differ (a ligature, letters of full width, single Jamo) is right
                by PLAIN and wrong here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from actors.account_commands import ScramKeys
from gateways.sasl.steps import Challenge, FindKeys, Malformed, Proven, Step, is_same_name, text_of
from mail.errors import SignInRefused

_PRINTABLE = r"[!-+\--~]{1,512}"  # RFC 5802 §7: of ASCII, without the comma; 24 are common
_SASLNAME = r"(?:[^,=\x00]|=2C|=3D)+"
_CLIENT_FIRST = re.compile(
    rf"((?P<flag>[ny]|p=[A-Za-z0-9.-]+),(?:a=(?P<acts_for>{_SASLNAME}))?,)"
    rf"(?P<bare>(?P<must>m=[^,]*,)?n=(?P<name>{_SASLNAME}),r=(?P<nonce>{_PRINTABLE})(?:,.*)?)",
    re.DOTALL,
)
_CLIENT_FINAL = re.compile(
    rf"(?P<said>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>{_PRINTABLE})(?:,.*)?)"
    r",p=(?P<proof>[A-Za-z0-9+/=]+)",
    re.DOTALL,
)


class ScramSha256:
    """Client-first, server-first, client-final, server-final, and an empty response."""

    def __init__(self, nonce: str) -> None:
        assert re.fullmatch(_PRINTABLE, nonce) is not None
        self._own_nonce = nonce
        self._header = ""  # gs2-header, as the client sent it
        self._nonce = ""  # the client's and ours
        self._said = ""  # AuthMessage, as far as it has got
        self._keys: ScramKeys | None = None
        self._proven = False

    def respond(self, response: bytes | None) -> Step:
        """Take the next message of the client."""
        if response is None:
            return Challenge(b"")
        if self._proven:
            if response:
                raise Malformed("Nothing is left to say")
            return Proven()
        if self._nonce:
            return self._final(text_of(response))
        return self._first(text_of(response))

    def found(self, keys: ScramKeys) -> Challenge:
        """Take the keys of the name, and return server-first."""
        assert self._nonce
        assert self._keys is None
        self._keys = keys
        salt = base64.b64encode(keys.salt).decode()
        first = f"r={self._nonce},s={salt},i={keys.iterations}"
        self._said += f",{first}"
        return Challenge(first.encode())

    def _first(self, message: str) -> Step:
        match = _CLIENT_FIRST.fullmatch(message)
        if match is None:
            raise Malformed("That is not a first message of SCRAM")
        if match["flag"].startswith("p"):
            raise Malformed("This server binds no channel")
        if match["must"] is not None:
            raise Malformed("An extension that is not known here")  # RFC 5802 §5.1, `m`
        name = _name(match["name"])
        if match["acts_for"] is not None and not is_same_name(_name(match["acts_for"]), name):
            raise SignInRefused  # Nobody acts for anybody else here.
        self._header = match[1]
        self._nonce = match["nonce"] + self._own_nonce
        self._said = match["bare"]
        return FindKeys(name)

    def _final(self, message: str) -> Step:
        keys = self._keys
        assert keys is not None
        match = _CLIENT_FINAL.fullmatch(message)
        if match is None:
            raise Malformed("That is not a final message of SCRAM")
        if _octets(match["binding"]) != self._header.encode() or match["nonce"] != self._nonce:
            raise SignInRefused
        said = f"{self._said},{match['said']}".encode()
        signature = hmac.digest(keys.stored_key, said, "sha256")
        proof = _octets(match["proof"])
        if len(proof) != len(signature):
            raise SignInRefused
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key):
            raise SignInRefused
        self._proven = True
        verifier = base64.b64encode(hmac.digest(keys.server_key, said, "sha256"))
        return Challenge(b"v=" + verifier)


def _name(encoded: str) -> str:
    return encoded.replace("=2C", ",").replace("=3D", "=")


def _octets(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Malformed("That is not base64") from None
