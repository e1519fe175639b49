"""Fields of a small request body: JSON, or a form where a standard has one, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from gateways.http.api import media_type_of
from gateways.http.context import Context
from gateways.http.problem import Problem, limit_problem

BODY_BYTES_MAX = 16_384
FIELDS_MAX = 64
FORM = "application/x-www-form-urlencoded"


async def read_fields(request: Request, context: Context, *, form: bool = False) -> dict[str, Any]:
    """Return the members of the body. Raises Problem 400, 408, 413, 503."""
    media_type = media_type_of(request.headers.get("content-type", ""))
    too_large = limit_problem("maxSizeRequest", f"At most {BODY_BYTES_MAX} octets.", status=413)
    with context.bodies.body() as body:
        octets = await body.read(request, bytes_max=BODY_BYTES_MAX, too_large=too_large)
    if form and media_type == FORM:
        return _form(octets)
    if media_type != "application/json":
        kinds = f"application/json or {FORM}" if form else "application/json"
        raise invalid(f"Send {kinds}.")
    try:
        fields = msgspec.json.decode(octets, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise invalid("The body is not a JSON object.") from None
    return fields


def _form(octets: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            octets.decode(),
            keep_blank_values=True,
            max_num_fields=FIELDS_MAX,
            errors="strict",
            encoding="utf-8",
        )
    except ValueError:
        raise invalid("The body is not a form.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):  # RFC 6749 §3.2: no parameter more than once
        raise invalid("A parameter is there twice.")
    return fields


def text_of(fields: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    """Return a member that is a string; what has a default may be missing. Raises Problem 400."""
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (default is None and not value):
        raise invalid(f"{name} is missing, or not a string.")
    return value


def names_of(fields: Mapping[str, Any], name: str) -> list[str]:
    """Return a member that is a list of strings, or one with spaces between. Raises Problem 400."""
    value = fields.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise invalid(f"{name} is a list of strings.")


def invalid(detail: str) -> Problem:
    """Return the problem of a body that is not what is asked for."""
    return Problem(400, "invalidArguments", detail=detail)
