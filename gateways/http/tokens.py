"""`/auth/token` and `/auth/revoke`: bearer tokens for who knows the password.

The forms are those of OAuth: a password (RFC 6749 §4.3) or a refresh token (RFC 6749 §6) comes as a
form or as JSON with the same names, tokens go as in RFC 6749 §5.1, errors as in RFC 6749 §5.2;
revocation is RFC 7009. There are no clients to register: whoever has the password is the user.
A wrong password is told late, like everywhere (`signin.py`).
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from actors.ports import Tokens
from gateways.http.context import Context
from gateways.http.fields import names_of, read_fields, text_of
from gateways.http.problem import Problem
from gateways.http.signin import attempted
from mail.errors import Invalid, SignInRefused

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 §5.1
LABEL_LENGTH_MAX = 200


async def token_response(request: Request, context: Context) -> Response:
    """Return tokens, or an error of RFC 6749 §5.2. Raises Problem 429, Unavailable."""
    try:
        fields = await read_fields(request, context, form=True)
        scopes = names_of(fields, "scope")
        match text_of(fields, "grant_type"):
            case "password":
                name, password = text_of(fields, "username"), text_of(fields, "password")
                agent = request.headers.get("user-agent", "")
                label = text_of(fields, "label", default=agent)[:LABEL_LENGTH_MAX]

                async def check() -> Tokens:
                    return await context.accounts.issue_token(
                        name, password, scopes=scopes, label=label
                    )

                tokens = await attempted(request, context, name, check)
                if tokens is None:
                    return _error("invalid_grant", "The name or the password is wrong.")
            case "refresh_token":
                token = text_of(fields, "refresh_token")
                tokens = await context.accounts.refresh_token(token, scopes=scopes)
            case _:
                return _error("unsupported_grant_type", "Use password or refresh_token.")
    except SignInRefused:
        return _error("invalid_grant", "The refresh token is not valid.")
    except Invalid as error:
        return _error("invalid_scope", error.text)
    except Problem as problem:
        if problem.status != 400:
            raise
        return _error("invalid_request", problem.detail)
    answer = {
        "access_token": tokens.access,
        "token_type": "Bearer",
        "expires_in": tokens.expires_in_s,
        "refresh_token": tokens.refresh,
        "scope": " ".join(tokens.scopes),
    }
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=NO_STORE)


async def revoke_response(request: Request, context: Context) -> Response:
    """End the session of a token; one that is none is no error (RFC 7009 §2.2)."""
    try:
        fields = await read_fields(request, context, form=True)
        token = text_of(fields, "token")
    except Problem as problem:
        if problem.status != 400:
            raise
        return _error("invalid_request", problem.detail)
    await context.accounts.revoke_token(token)
    return Response(status_code=200, headers=NO_STORE)


def _error(error: str, description: str) -> Response:
    # RFC 6749 §5.2: printable ASCII without quotes and backslashes.
    text = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in description)
    body = {"error": error, "error_description": text}
    return Response(
        msgspec.json.encode(body), status_code=400, media_type="application/json", headers=NO_STORE
    )
