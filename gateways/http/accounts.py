"""`/auth/sessions`, `/auth/app-passwords`, `/auth/signup`: what people do about their own account.

Only a sign-in with the account's own password, or a token of it with all scopes, may look at or
change any of it: an app password that leaked must not be able to make others.

A sign-up that is refused is answered with the same 403 whatever the reason (`actors/sign_up.py`),
and later with each refusal from the same network.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from actors.account_commands import BY_TOKEN, Access, AppPassword, SessionRow
from gateways.http.context import Context
from gateways.http.delays import attempt_of, network_of
from gateways.http.fields import names_of, read_fields, text_of
from gateways.http.ids import make_account_id
from gateways.http.origin import client_host
from gateways.http.problem import Problem
from gateways.http.signin import begin, delay_failure, require_full
from mail.errors import NotFound, SignUpRefused, TooManySignUps

NO_STORE = {"Cache-Control": "no-store"}
RETRY_SIGN_UP_S = 3_600
_SESSION_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


# Sessions


async def sessions_response(request: Request, context: Context, access: Access) -> Response:
    """List the sessions, or (DELETE) end all but the one that asks."""
    require_full(access)
    if request.method == "DELETE":
        await context.accounts.end_session(access, 0)
        return Response(status_code=204, headers=NO_STORE)
    rows = await context.accounts.sessions(access)
    return _json({"sessions": [_session(row, access) for row in rows]})


async def session_response(request: Request, context: Context, access: Access) -> Response:
    """End one session. Raises Problem 403, NotFound."""
    require_full(access)
    session_id: str = request.path_params["id"]
    if not _SESSION_ID.fullmatch(session_id) or not int(session_id, 16):
        raise NotFound("no such session")
    await context.accounts.end_session(access, int(session_id, 16))
    return Response(status_code=204, headers=NO_STORE)


def _session(row: SessionRow, access: Access) -> dict[str, Any]:
    return {
        "id": f"{row.session:016x}",
        "label": row.label,
        "scopes": row.scopes,
        "createdAt": _date(row.created_at_ms),
        "lastUsedAt": _date(row.used_at_ms),
        "expiresAt": _date(row.expires_at_ms),
        "current": access.held.by == BY_TOKEN and access.held.entry == row.session,
    }


# App passwords


async def app_passwords_response(request: Request, context: Context, access: Access) -> Response:
    """List the app passwords, or (POST) make one and show it, once."""
    require_full(access)
    if request.method != "POST":
        found = await context.accounts.app_passwords(access)
        return _json({"appPasswords": [_app_password(one) for one in found]})
    fields = await read_fields(request, context)
    made, text = await context.accounts.add_app_password(
        access,
        label=text_of(fields, "label", default=""),
        scopes=names_of(fields, "scopes") or names_of(fields, "scope"),
    )
    return _json({**_app_password(made), "password": text}, status=201)


async def app_password_response(request: Request, context: Context, access: Access) -> Response:
    """Take an app password away; what is signed in with it ends. Raises Problem 403, NotFound."""
    require_full(access)
    number: str = request.path_params["id"]
    if not _NUMBER.fullmatch(number):
        raise NotFound("no such app password")
    await context.accounts.remove_app_password(access, int(number))
    return Response(status_code=204, headers=NO_STORE)


def _app_password(one: AppPassword) -> dict[str, Any]:
    return {
        "id": str(one.number),
        "label": one.label,
        "scopes": one.scopes,
        "createdAt": _date(one.created_at_ms),
        "lastUsedAt": _date(one.used_at_ms) if one.used_at_ms else None,
    }


# Sign-up


async def signup_response(request: Request, context: Context) -> Response:
    """Make an account: 201 once its mailbox takes mail, 202 when that takes longer.

    Raises Problem 403 for whatever reason, 429 beyond a limit; Invalid for an address or password
    that is wrong in itself; Unavailable.
    """
    fields = await read_fields(request, context)
    address, password = text_of(fields, "address"), text_of(fields, "password")
    invitation = text_of(fields, "invitation", default="")
    display_name = text_of(fields, "displayName", default="")
    network = network_of(client_host(request))
    attempt = attempt_of(client_host(request), f"sign-up from {network}")
    begin(context, attempt)
    try:
        account, serves = await context.accounts.sign_up(
            address,
            password,
            network=network,
            invitation=invitation,
            display_name=display_name,
        )
    except SignUpRefused as error:
        await delay_failure(context, attempt)
        raise Problem(403, "signUpRefused", detail=error.text) from None
    except TooManySignUps as error:
        retry_after = {"Retry-After": str(RETRY_SIGN_UP_S)}
        raise Problem(429, "tooManyRequests", detail=error.text, headers=retry_after) from None
    finally:
        context.delays.end(attempt)
    body = {"address": account.address, "accountId": make_account_id(account.mailbox)}
    return _json(body, status=201 if serves else 202)


def _json(value: object, *, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers=NO_STORE,
    )


def _date(at_ms: int) -> str:
    """Return a time as JMAP's UTCDate (RFC 8620 §1.4)."""
    at = datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
