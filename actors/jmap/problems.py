"""Problems: why a request, a method call or one object of a call was refused.

Three levels, as RFC 8620 §3.6 has them. What is not our kind of error is `serverFail`, or
`serverUnavailable` when it may pass (R11).
"""

from __future__ import annotations

from collections.abc import Sequence

from mail.errors import MailError

# What a MailError may become at the level of a method; its other wire forms belong to objects.
_METHOD_KINDS = frozenset(
    (
        "accountNotFound", "accountReadOnly", "cannotCalculateChanges", "forbidden",
        "invalidArguments", "serverFail", "serverUnavailable",
    )
)  # fmt: skip


class RequestProblem(Exception):
    """The whole request is refused (RFC 8620 §3.6.1). `kind` ends the problem's URN."""

    def __init__(self, kind: str, detail: str, *, limit: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.limit = limit

    def details(self) -> dict[str, object]:
        """Return the problem details object (RFC 7807 §3.1)."""
        details: dict[str, object] = {
            "type": f"urn:ietf:params:jmap:error:{self.kind}",
            "status": 400,
            "detail": self.detail,
        }
        if self.limit is not None:
            details["limit"] = self.limit
        return details


class MethodError(Exception):
    """One method call is refused; nothing was changed (RFC 8620 §3.6.2)."""

    def __init__(self, kind: str, description: str | None = None) -> None:
        super().__init__(kind, description)
        self.kind = kind
        self.description = description

    def arguments(self) -> dict[str, object]:
        """Return the arguments of the `error` response."""
        if self.description is None:
            return {"type": self.kind}
        return {"type": self.kind, "description": self.description}


def invalid(description: str) -> MethodError:
    """Return the refusal of an argument of a wrong type or value."""
    return MethodError("invalidArguments", description)


def method_error(error: MailError) -> MethodError:
    """Return what a mail error is at the level of a method."""
    kind = error.jmap if error.jmap in _METHOD_KINDS else "serverFail"
    return MethodError(kind, error.text)


SetError = dict[str, object]


def set_error(
    kind: str, description: str | None = None, *, properties: Sequence[str] = ()
) -> SetError:
    """Return a SetError object (RFC 8620 §5.3)."""
    error: SetError = {"type": kind}
    if description is not None:
        error["description"] = description
    if properties:
        error["properties"] = list(properties)
    return error
