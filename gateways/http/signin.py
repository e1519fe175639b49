"""Sign-in of a request or a WebSocket handshake: by HTTP Basic, in UTF-8 (RFC 7617 §2.1), or by
bearer token (RFC 6750 §2.1).

The router behind `SignIns` caches, so the credential is looked at with every request. A failure
of a password is told late (`delays.py`); an unknown name and a wrong password are told alike. A
token cannot be guessed, and clients come with expired ones: it is refused at once, with
`invalid_token`, upon which a client refreshes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from starlette.requests import HTTPConnection

from actors.account_commands import SCOPE_MAIL, SCOPE_MAIL_READ, Access
from gateways.http.context import Context
from gateways.http.delays import DELAY_S_MAX, Attempt, attempt_of
from gateways.http.origin import client_host, may_sign_in
from gateways.http.problem import Problem
from mail.errors import SignInRefused

log = structlog.get_logger(__name__)

REALM = 'realm="heliograph"'
BASIC_CHALLENGE = f'Basic {REALM}, charset="UTF-8"'
BEARER_CHALLENGE = f"Bearer {REALM}"
CREDENTIALS_LENGTH_MAX = 2_048
# Requests with tokens that are being looked at are counted by session: what comes before the
# secret in a token of ours.
TOKEN_NAME_LENGTH = 24

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password; the password is in no repr."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


def sign_in_required(*, token_error: bool = False) -> Problem:
    """Return the 401 that tells how to sign in (RFC 9110 §11.6.1, RFC 6750 §3)."""
    error = ', error="invalid_token"' if token_error else ""
    detail = "The token is not valid." if token_error else "Sign in with your address and password."
    return Problem(
        401,
        "unauthorized",
        detail=detail,
        headers={"WWW-Authenticate": f"{BASIC_CHALLENGE}, {BEARER_CHALLENGE}{error}"},
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


def parse_bearer(header: str) -> str | None:
    """Return the token of an Authorization header (RFC 6750 §2.1), None when it has none."""
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > CREDENTIALS_LENGTH_MAX:
        return None
    return token


async def sign_in(connection: HTTPConnection, context: Context) -> Access:
    """Return what the credentials of a request open.

    Raises Problem 401, after a while when a password is wrong; 429 when too many attempts are
    going on; Unavailable when the directory cannot be asked.
    """
    assert may_sign_in(connection), "the frame redirects before any handler runs"
    headers = connection.headers.getlist("authorization")
    header = headers[0] if len(headers) == 1 else ""
    token = parse_bearer(header)
    if token is not None:
        return await _bear(connection, context, token)
    credentials = parse_basic(header)
    if credentials is None:
        raise sign_in_required()

    async def check() -> Access:
        return await context.accounts.sign_in(credentials.name, credentials.password)

    access = await attempted(connection, context, credentials.name, check)
    if access is None:
        raise sign_in_required()
    return access


async def _bear(connection: HTTPConnection, context: Context, token: str) -> Access:
    attempt = attempt_of(client_host(connection), "token " + token[:TOKEN_NAME_LENGTH])
    begin(context, attempt)
    try:
        return await context.accounts.bear(token)
    except SignInRefused:
        context.metrics.sign_in_failures.inc()
        raise sign_in_required(token_error=True) from None
    finally:
        context.delays.end(attempt)


async def attempted(
    connection: HTTPConnection,
    context: Context,
    name: str,
    check: Callable[[], Awaitable[AnswerT]],
) -> AnswerT | None:
    """Return what a check of a password gives, or None, late, when it is refused.

    Raises Problem 429 when too many attempts are going on, and what `check` raises.
    """
    attempt = attempt_of(client_host(connection), name)
    begin(context, attempt)
    try:
        try:
            answer = await check()
        except SignInRefused:
            await delay_failure(context, attempt)
            return None
        context.delays.succeeded(attempt, context.clock.now_s())
        return answer
    finally:
        context.delays.end(attempt)


def begin(context: Context, attempt: Attempt) -> None:
    """Count an attempt as going on; `context.delays.end` ends it. Raises Problem 429."""
    if not context.delays.begin(attempt, context.clock.now_s()):
        retry_after = {"Retry-After": str(int(DELAY_S_MAX))}
        raise Problem(429, "tooManyRequests", detail="Try again later.", headers=retry_after)


async def delay_failure(context: Context, attempt: Attempt) -> None:
    """Count a failure, and wait as long as it has earned."""
    context.metrics.sign_in_failures.inc()
    delay_s = context.delays.failed(attempt, context.clock.now_s())
    log.info("sign-in refused", network=attempt.network, delay_s=round(delay_s, 1))
    await context.clock.sleep(delay_s)


def require_mail(access: Access) -> None:
    """Refuse a sign-in that may not even read mail. Raises Problem 403."""
    if not access.may_read_mail:
        raise insufficient_scope(SCOPE_MAIL_READ)


def require_writable(access: Access) -> None:
    """Refuse a sign-in that may only read mail. Raises Problem 403."""
    if access.is_read_only:
        raise insufficient_scope(SCOPE_MAIL)


def require_full(access: Access) -> None:
    """Refuse app passwords, and tokens of less than the whole account. Raises Problem 403."""
    if not access.is_full:
        raise Problem(403, "forbidden", detail="Sign in with your own password for this.")


def insufficient_scope(scope: str) -> Problem:
    """Return the 403 for a scope that this sign-in lacks (RFC 6750 §3.1)."""
    challenge = f'{BEARER_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
    return Problem(
        403,
        "forbidden",
        detail=f"This sign-in does not have the scope {scope}.",
        headers={"WWW-Authenticate": challenge},
    )
