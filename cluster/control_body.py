"""ControlBody: what commands bring to the control listener, bounded and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from mail.errors import Invalid

BODY_BYTES_MAX = 64 << 10


async def read_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Any]:
    """Return the JSON object of a request. Raises Invalid."""
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > bytes_max:
            raise Invalid("the request is too large")
    try:
        body = json.loads(octets)
    except ValueError:
        raise Invalid("the request is not JSON") from None
    if not isinstance(body, dict):
        raise Invalid("the request is not a JSON object")
    return body


def text_of(body: Mapping[str, Any], name: str) -> str:
    """Return a member that must be a text and not empty. Raises Invalid."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid(f"{name} is missing")
    return value


def number_of(body: Mapping[str, Any], name: str, default: int) -> int:
    """Return a member that is a number, not negative. Raises Invalid."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} is a number, not negative")
    return value


def taken(body: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the members that are there and of their kind. Raises Invalid for others."""
    found = {name: value for name, value in body.items() if value is not None}
    for name, value in found.items():
        kind = kinds.get(name)
        if kind is None or not isinstance(value, kind) or (kind is int and value is True):
            raise Invalid(f"{name} is not known here, or not of its kind")
    return found
