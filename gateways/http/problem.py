"""Problems: errors of a whole request as `application/problem+json` (RFC 9457).

RFC 8620 §3.6.1 names the types of JMAP request errors; it cites RFC 7807, which RFC 9457
replaced without changing the format. Every other problem is `about:blank`, whose title says
what happened. No problem carries the text of an exception that we do not know.

On failure  an error that we do not know is ours and temporary: 503, so a client repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from mail.errors import BlobDamaged, MailError, MessageTooLarge, NotFound, Unavailable

NOT_JSON = "urn:ietf:params:jmap:error:notJSON"
NOT_REQUEST = "urn:ietf:params:jmap:error:notRequest"
LIMIT = "urn:ietf:params:jmap:error:limit"
RETRY_AFTER_S = 1  # a failover takes about a second


class Problem(Exception):
    """A request cannot be answered; carries the response that says so."""

    def __init__(
        self,
        status: int,
        title: str,
        *,
        detail: str = "",
        kind: str = "about:blank",
        limit: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.kind = kind
        self.limit = limit
        self.headers = dict(headers or {})

    def members(self) -> dict[str, Any]:
        """Return the members of the problem object (RFC 9457 §3.1)."""
        members: dict[str, Any] = {"type": self.kind, "status": self.status, "title": self.title}
        if self.detail:
            members["detail"] = self.detail
        if self.limit:
            members["limit"] = self.limit
        return members

    def response(self) -> Response:
        """Return the response; never cached."""
        return Response(
            msgspec.json.encode(self.members()),
            status_code=self.status,
            media_type="application/problem+json",
            headers={"Cache-Control": "no-store", **self.headers},
        )


def limit_problem(limit: str, detail: str, *, status: int = 400) -> Problem:
    """Return the problem of a limit exceeded; `limit` names it (RFC 8620 §3.6.1)."""
    return Problem(status, "limit", kind=LIMIT, limit=limit, detail=detail)


def unavailable_problem(detail: str = "Try again later.") -> Problem:
    """Return the problem of what may well work a moment later."""
    return Problem(
        503, "serverUnavailable", detail=detail, headers={"Retry-After": str(RETRY_AFTER_S)}
    )


def problem_of(error: BaseException) -> Problem:
    """Return the problem that tells a client of `error`."""
    match error:
        case Problem():
            return error
        case NotFound():
            return Problem(404, "notFound", detail=error.text)
        case MessageTooLarge():
            return limit_problem("maxSizeUpload", error.text, status=413)
        case Unavailable():
            return unavailable_problem(error.text)
        case BlobDamaged():  # To be salvaged or restored: not in a second.
            return Problem(503, "serverFail", detail=error.text)
        case MailError() if error.jmap != MailError.jmap:
            return Problem(400, error.jmap, detail=error.text)
        case _:
            return unavailable_problem()
