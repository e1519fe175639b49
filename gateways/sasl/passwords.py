"""PLAIN (RFC 4616) and LOGIN: mechanisms in which the password comes in whole.

Pure. They are for connections that are encrypted, which the protocol around them sees to.
LOGIN was never made a standard; its prompts are what clients expect word for word.
"""

from __future__ import annotations

from gateways.sasl.steps import Challenge, CheckPassword, Malformed, Step, is_same_name, text_of
from mail.errors import SignInRefused

USERNAME_PROMPT = Challenge(b"Username:")
PASSWORD_PROMPT = Challenge(b"Password:")


class Plain:
    """`[authzid] NUL authcid NUL passwd`, in one response."""

    def respond(self, response: bytes | None) -> Step:
        """Return the name and the password, or ask for them with an empty challenge."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise Malformed("PLAIN is a name and a password, with a NUL before each")
        acts_for, name, password = map(text_of, parts)
        # RFC 4616 §2: nobody acts for anybody else here.
        if not name or not password or (acts_for and not is_same_name(acts_for, name)):
            raise SignInRefused
        return CheckPassword(name, password)


class Login:
    """The name and the password, each asked for."""

    def __init__(self) -> None:
        self._name: str | None = None

    def respond(self, response: bytes | None) -> Step:
        """Return the next prompt, and the name and the password once they are there.

        Many clients send the name along with the request.
        """
        if response is None:
            return USERNAME_PROMPT
        if self._name is None:
            self._name = text_of(response)
            return PASSWORD_PROMPT
        password = text_of(response)
        if not self._name or not password:
            raise SignInRefused
        return CheckPassword(self._name, password)
