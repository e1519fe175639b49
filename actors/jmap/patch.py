"""Patch: PatchObjects, which name what changes by JSON pointer (RFC 8620 §5.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PATH_TOKENS_MAX = 32  # Every beginning of a path is looked up; ours have two tokens.
_TILDE = re.compile(r"~(?![01])")


class InvalidPatch(Exception):
    """The PatchObject breaks a rule of RFC 8620 §5.3."""


def parse_patch(patch: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return the values by path. Raises InvalidPatch when one path is the prefix of another."""
    values: dict[tuple[str, ...], Any] = {}
    for pointer, value in patch.items():
        if _TILDE.search(pointer) is not None:
            raise InvalidPatch(f"{pointer[:100]} is no JSON pointer")
        if pointer.count("/") >= PATH_TOKENS_MAX:
            raise InvalidPatch(f"{pointer[:100]} leads too deep")
        path = tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/"))
        values[path] = value
    for path in values:
        if any(path[:length] in values for length in range(1, len(path))):
            raise InvalidPatch(f"two patches for {path[0][:100]}")
    return values
