"""References: arguments that are taken from the results of earlier calls (RFC 8620 §3.7).

A response is kept as the JSON that the client will get, and decoded when the first
reference asks for it: what a reference sees is what the client sees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from actors.jmap.limits import REFERENCE_TOKENS_MAX, REFERENCED_BYTES_MAX
from actors.jmap.problems import MethodError, invalid

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # RFC 6901 §4: no leading zeros
_TILDE = re.compile(r"~(?![01])")


class Unresolved(Exception):
    """A reference leads nowhere."""


class Answered:
    """One response of this request."""

    __slots__ = ("_value", "body", "call_id", "name")

    def __init__(self, name: str, body: bytes, call_id: str) -> None:
        self.name = name
        self.body = body  # the arguments as JSON
        self.call_id = call_id
        self._value: Any = None

    @property
    def value(self) -> Any:
        """Return the arguments decoded."""
        if self._value is None:
            self._value = msgspec.json.decode(self.body)
        return self._value

    def invocation(self) -> tuple[str, msgspec.Raw, str]:
        """Return the response as it goes into the Response object."""
        return self.name, msgspec.Raw(self.body), self.call_id


class References:
    """Resolves the references of one request, within `REFERENCED_BYTES_MAX` in all."""

    def __init__(self, responses: Sequence[Answered]) -> None:
        self._responses = responses
        self._bytes_left = REFERENCED_BYTES_MAX

    def resolve(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with every reference replaced by its value.

        Raises invalidResultReference; invalidArguments when an argument is given both ways.
        """
        resolved: dict[str, Any] = {}
        for name, value in arguments.items():
            if not name.startswith("#"):
                resolved[name] = value
                continue
            if name[1:] in arguments:
                raise invalid(f"{name[1:101]}: given directly and by reference")
            try:
                resolved[name[1:]] = self._value(value)
            except Unresolved as error:
                raise MethodError("invalidResultReference", f"{name[:100]}: {error}") from None
        return resolved

    def _value(self, reference: object) -> Any:
        match reference:
            case {"resultOf": str(call_id), "name": str(name), "path": str(path)}:
                pass
            case _:
                raise Unresolved("a ResultReference is expected")
        response = next((r for r in self._responses if r.call_id == call_id), None)
        if response is None:
            raise Unresolved("no earlier response has this call id")
        if response.name != name:
            raise Unresolved(f"the response is {response.name}")
        value = evaluate(response.value, path)
        self._bytes_left -= len(msgspec.json.encode(value))
        if self._bytes_left < 0:
            raise Unresolved("the references of this request bring in too much")
        return value


def evaluate(value: Any, path: str) -> Any:
    """Return what a JSON pointer finds in `value`; `*` maps over an array. Raises Unresolved."""
    if not path:
        return value
    first, *tokens = path.split("/")
    if first or len(tokens) > REFERENCE_TOKENS_MAX:
        raise Unresolved("the path is no JSON pointer, or too long")
    if _TILDE.search(path) is not None:
        raise Unresolved("the path has a bare tilde")
    return _walk(value, [token.replace("~1", "/").replace("~0", "~") for token in tokens])


def _walk(value: Any, tokens: list[str]) -> Any:
    for position, token in enumerate(tokens):
        if isinstance(value, dict):
            if token not in value:
                raise Unresolved("the path leads nowhere")
            value = value[token]
        elif isinstance(value, list) and token == "*":
            return _mapped(value, tokens[position + 1 :])
        elif isinstance(value, list):
            if _INDEX.fullmatch(token) is None or int(token) >= len(value):
                raise Unresolved("the path leads nowhere")
            value = value[int(token)]
        else:
            raise Unresolved("the path leads nowhere")
    return value


def _mapped(items: list[Any], tokens: list[str]) -> list[Any]:
    """Apply the rest of a path to every item; arrays among the results are flattened."""
    out: list[Any] = []
    for item in items:
        result = _walk(item, tokens)
        if isinstance(result, list):
            out += result
        else:
            out.append(result)
    return out
