"""Exchange: one sign-in by a mechanism, with what it needs of the directory.

The protocol around it carries octets: a challenge to the client, its response back, until an
Access comes. Whether that Access allows what the protocol serves is for the protocol to ask.

On failure  Malformed: not what the mechanism says. SignInRefused: the name, the password or the
            proof is wrong, with no word which. Unavailable and its kind: nobody can tell now.
"""

from __future__ import annotations

import secrets

from actors.account_commands import Access, ScramKeys
from actors.ports import SignIns
from gateways.sasl.passwords import Login, Plain
from gateways.sasl.scram import ScramSha256
from gateways.sasl.steps import Challenge, CheckPassword, FindKeys, Mechanism, Proven
from mail.errors import Invalid, SignInRefused

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")  # the strongest first
NONCE_BYTES = 18  # RFC 5802 §5.1 asks for one that nobody guesses; 24 characters of base64
LINE_BYTES_MAX = 12288  # RFC 4954 §4: of one line of base64, enough for all mechanisms


class NoSuchMechanism(Invalid):
    """That mechanism is not known here."""

    smtp = "504 5.5.4"


class Exchange:
    """One attempt to sign in. Raises NoSuchMechanism."""

    def __init__(self, mechanism: str, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins
        self._mechanism = _mechanism(mechanism.upper())
        self._keys: ScramKeys | None = None

    async def respond(self, response: bytes | None) -> Challenge | Access:
        """Take a response, decoded; None at the start, when none came with the request."""
        step = self._mechanism.respond(response)
        match step:
            case Challenge():
                return step
            case CheckPassword(name, password):
                return await self._sign_ins.sign_in(name, password)
            case FindKeys(name):
                assert isinstance(self._mechanism, ScramSha256)
                self._keys = await self._sign_ins.scram_keys(name)
                return self._mechanism.found(self._keys)
            case Proven():
                if self._keys is None or self._keys.access is None:
                    raise SignInRefused
                # The password may have been changed since the keys were asked for.
                return await self._sign_ins.confirm(self._keys.access)


def _mechanism(name: str) -> Mechanism:
    match name:
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "SCRAM-SHA-256":
            return ScramSha256(secrets.token_urlsafe(NONCE_BYTES))
        case _:
            raise NoSuchMechanism
