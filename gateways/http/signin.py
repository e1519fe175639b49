"""Sign-in of a request or a WebSocket handshake: HTTP Basic, in UTF-8 (RFC 7617 §2.1).

The router behind `Accounts` caches, so the password is looked at with every request.
A failure is told late (`delays.py`); an unknown name and a wrong password are told alike.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import structlog
from starlette.requests import HTTPConnection

from actors.commands import Account
from gateways.http.context import Context
from gateways.http.delays import DELAY_S_MAX, Attempt, attempt_of
from gateways.http.origin import client_host, may_sign_in
from gateways.http.problem import Problem
from mail.errors import SignInRefused

log = structlog.get_logger(__name__)

CHALLENGE = 'Basic realm="heliograph", charset="UTF-8"'
CREDENTIALS_LENGTH_MAX = 2_048


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password; the password is in no repr."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


def sign_in_required() -> Problem:
    """Return the 401 that tells how to sign in (RFC 9110 §11.6.1)."""
    return Problem(
        401,
        "unauthorized",
        detail="Sign in with your address and password.",
        headers={"WWW-Authenticate": CHALLENGE},
    )


def parse_basic(header: str) -> Credentials | None:
    """Return the credentials of an Authorization header, or None when they are none."""
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic" or len(encoded) > CREDENTIALS_LENGTH_MAX:
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, password = decoded.partition(":")
    has_controls = any(ord(char) < 0x20 or ord(char) == 0x7F for char in decoded)
    if not colon or not name or has_controls:  # RFC 7617 §2: no control characters
        return None
    return Credentials(name, password)


async def sign_in(connection: HTTPConnection, context: Context) -> Account:
    """Return the account whose credentials the request carries.

    Raises Problem 401, after a while when the credentials are wrong; 429 when too many
    attempts are going on; Unavailable when the directory cannot be asked.
    """
    assert may_sign_in(connection), "the frame redirects before any handler runs"
    headers = connection.headers.getlist("authorization")
    credentials = parse_basic(headers[0]) if len(headers) == 1 else None
    if credentials is None:
        raise sign_in_required()
    attempt = attempt_of(client_host(connection), credentials.name)
    if not context.delays.begin(attempt, context.clock.now_s()):
        retry_after = {"Retry-After": str(int(DELAY_S_MAX))}
        raise Problem(429, "tooManyRequests", detail="Try again later.", headers=retry_after)
    try:
        return await _check(credentials, attempt, context)
    finally:
        context.delays.end(attempt)


async def _check(credentials: Credentials, attempt: Attempt, context: Context) -> Account:
    try:
        account = await context.accounts.sign_in(credentials.name, credentials.password)
    except SignInRefused:
        context.metrics.sign_in_failures.inc()
        delay_s = context.delays.failed(attempt, context.clock.now_s())
        log.info("sign-in refused", network=attempt.network, delay_s=round(delay_s, 1))
        await context.clock.sleep(delay_s)
        raise sign_in_required() from None
    context.delays.succeeded(attempt, context.clock.now_s())
    return account
