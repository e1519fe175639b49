"""`/jmap/api`: a whole JMAP request is one call to the mailbox actor (RFC 8620 §3).

Nothing of the request is evaluated here; what the actor answers is passed on as it is.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from actors.account_commands import SCOPE_SUBMIT, Access
from actors.commands import JmapAnswer
from gateways.http.context import Context
from gateways.http.problem import NOT_JSON, Problem, limit_problem
from gateways.http.session import session_state
from gateways.http.signin import require_mail


async def api_response(request: Request, context: Context, access: Access) -> Response:
    """Return the answer to one JMAP request.

    Raises Problem for what never reaches the actor (RFC 8620 §3.6.1), Unavailable.
    """
    require_mail(access)
    if media_type_of(request.headers.get("content-type", "")) != "application/json":
        raise Problem(400, "notJSON", kind=NOT_JSON, detail="Send application/json.")
    bytes_max = context.settings.request_bytes_max
    too_large = limit_problem("maxSizeRequest", f"At most {bytes_max} octets.")
    with context.requests.one(access.account.mailbox), context.bodies.body() as body:
        octets = await body.read(request, bytes_max=bytes_max, too_large=too_large)
        answer = await evaluate(context, access, octets)
    media_type = "application/json" if answer.status == 200 else "application/problem+json"
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=media_type,
        headers={"Cache-Control": "no-store"},
    )


async def evaluate(context: Context, access: Access, request: bytes) -> JmapAnswer:
    """Return what the mailbox answers to a Request object, within what this sign-in may do."""
    return await context.mail.jmap(
        access.account,
        request,
        session_state=session_state(access, context.settings),
        read_only=access.is_read_only,
        may_submit=access.allows(SCOPE_SUBMIT),
    )


def media_type_of(content_type: str) -> str:
    """Return `type/subtype` of a Content-Type in lower case (RFC 9110 §8.3.1)."""
    return content_type.partition(";")[0].strip().lower()
