"""Request: evaluate one whole JMAP request next to the data (RFC 8620 §3).

Method calls run in order; an error in one does not end the others. A call that changes
something does so in one turn under an id made from the request's and the call's position,
so that a repeated request has one effect (R8).

On failure  NotPrimary, OutcomeUnknown: nothing is answered, and the caller repeats the whole
            request with the same id. Everything else is an answer: 400 with a problem for the
            request, an `error` response for a method call, a SetError for an object.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.commands import JmapAnswer
from actors.jmap.arguments import Arguments
from actors.jmap.context import Budget, Context, MailboxAccess
from actors.jmap.limits import CALLS_IN_REQUEST_MAX, CAPABILITIES, CONTAINERS_IN_REQUEST_MAX
from actors.jmap.methods import METHODS
from actors.jmap.problems import MethodError, RequestProblem, method_error
from actors.jmap.references import Answered, References
from mail.errors import MailError, NotPrimary, OutcomeUnknown

log = logging.getLogger(__name__)

# The last words of the methods that change something, ours and those still to come.
WRITING = frozenset(("set", "import", "copy", "upload", "send"))
SUBMITTING = "EmailSubmission/set"
_TIME_BYTES = 6  # of a UUIDv7 (RFC 9562 §5.7), kept so that remembered replies sort by age


@dataclass(frozen=True, slots=True)
class Call:
    """One method call (RFC 8620 §3.2)."""

    name: str
    arguments: dict[str, Any]
    call_id: str


@dataclass(frozen=True, slots=True)
class Request:
    """A Request object that is valid in itself (RFC 8620 §3.3)."""

    using: frozenset[str]
    calls: tuple[Call, ...]
    created_ids: dict[str, str] | None = field(default=None)


async def evaluate(
    access: MailboxAccess,
    request: bytes,
    *,
    request_id: bytes,
    session_state: str,
    read_only: bool = False,
    may_submit: bool = True,
) -> JmapAnswer:
    """Evaluate the JSON of a Request object and return the Response object, or a problem.

    What changes something fails when it is `read_only`, sending does unless one `may_submit`.
    Raises NotPrimary and OutcomeUnknown.
    """
    try:
        parsed = parse_request(request)
    except RequestProblem as problem:
        return JmapAnswer(400, msgspec.json.encode(problem.details()))
    created_ids = dict(parsed.created_ids or {})
    budget = Budget()
    responses: list[Answered] = []
    references = References(responses)
    for position, call in enumerate(parsed.calls):
        context = Context(access, call_request_id(request_id, position), created_ids, budget)
        refusal = _not_allowed(call, read_only=read_only, may_submit=may_submit)
        name, body = await _answer(context, parsed.using, call, references, refusal)
        responses.append(Answered(name, body, call.call_id))
    answer: dict[str, object] = {
        "methodResponses": [response.invocation() for response in responses],
        "sessionState": session_state,
    }
    if parsed.created_ids is not None:
        answer["createdIds"] = created_ids
    return JmapAnswer(200, msgspec.json.encode(answer))


def call_request_id(request_id: bytes, position: int) -> bytes:
    """Return the id under which the call at `position` makes its turn: 16 octets."""
    digest = hashlib.sha256(request_id + position.to_bytes(4, "big")).digest()
    return request_id[:_TIME_BYTES] + digest[: 16 - _TIME_BYTES]


async def _answer(
    context: Context,
    using: frozenset[str],
    call: Call,
    references: References,
    refusal: MethodError | None,
) -> tuple[str, bytes]:
    """Return the name of one response and its arguments as JSON."""
    try:
        if refusal is not None:
            raise refusal
        return call.name, msgspec.json.encode(await _evaluate(context, using, call, references))
    except MethodError as error:
        refusal = error
    except (NotPrimary, OutcomeUnknown):
        raise
    except MailError as error:
        refusal = method_error(error)
    except RecursionError:
        refusal = MethodError("invalidArguments", "nested too deeply")
    except Exception as error:
        log.exception("%s failed in mailbox %d", call.name, context.access.mailbox_id)
        refusal = MethodError("serverFail", type(error).__name__)
    return "error", msgspec.json.encode(refusal.arguments())


def _not_allowed(call: Call, *, read_only: bool, may_submit: bool) -> MethodError | None:
    """Return why this sign-in may not make a call (RFC 8620 §3.6.2), None if it may."""
    if read_only and call.name.rpartition("/")[2] in WRITING and call.name in METHODS:
        return MethodError("accountReadOnly")
    if not may_submit and call.name == SUBMITTING:
        return MethodError("forbidden", "this sign-in may not send mail")
    return None


async def _evaluate(
    context: Context, using: frozenset[str], call: Call, references: References
) -> Mapping[str, object]:
    method = METHODS.get(call.name)
    if method is None or method.capability not in using:
        raise MethodError("unknownMethod")
    return await method.evaluate(context, Arguments(references.resolve(call.arguments)))


def parse_request(octets: bytes) -> Request:
    """Return the Request object in `octets`. Raises RequestProblem (RFC 8620 §3.6.1)."""
    if _containers(octets) > CONTAINERS_IN_REQUEST_MAX:
        raise RequestProblem("limit", "Too many arrays and objects.", limit="maxSizeRequest")
    try:
        value = msgspec.json.decode(octets)
    except RecursionError:
        raise RequestProblem("notRequest", "The JSON is nested too deeply.") from None
    except (msgspec.DecodeError, ValueError):
        raise RequestProblem("notJSON", "The request is not I-JSON.") from None
    if not isinstance(value, dict):
        raise RequestProblem("notRequest", "A Request object is expected.")
    using = value.get("using")
    if not isinstance(using, list) or not all(isinstance(name, str) for name in using):
        raise RequestProblem("notRequest", "using: an array of Strings is expected.")
    calls = _calls(value.get("methodCalls"))
    created_ids = value.get("createdIds")
    if created_ids is not None and not _is_id_map(created_ids):
        raise RequestProblem("notRequest", "createdIds: a map of Id to Id is expected.")
    for name in using:
        if name not in CAPABILITIES:
            raise RequestProblem(
                "unknownCapability", f"The capability {name[:200]!r} is not supported."
            )
    if len(calls) > CALLS_IN_REQUEST_MAX:
        raise RequestProblem("limit", "Too many method calls.", limit="maxCallsInRequest")
    return Request(frozenset(using), calls, created_ids)


def _containers(octets: bytes) -> int:
    """Return how many arrays and objects valid JSON has; at most so many if there are few."""
    count = octets.count(b"[") + octets.count(b"{")
    if count > CONTAINERS_IN_REQUEST_MAX:  # They may be letters of a text.
        octets = octets.replace(b"\\\\", b"").replace(b'\\"', b"")
        bare = b"".join(octets.split(b'"')[::2])
        count = bare.count(b"[") + bare.count(b"{")
    return count


def _calls(value: object) -> tuple[Call, ...]:
    if not isinstance(value, list):
        raise RequestProblem("notRequest", "methodCalls: an array is expected.")
    calls = []
    for item in value:
        match item:
            case [str(name), dict(arguments), str(call_id)]:
                calls.append(Call(name, arguments, call_id))
            case _:
                raise RequestProblem(
                    "notRequest", "A method call is [name, arguments, method call id]."
                )
    return tuple(calls)


def _is_id_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
