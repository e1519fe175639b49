"""Core/echo: return the arguments as they came (RFC 8620 §4)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context


async def core_echo(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return exactly the arguments that were given."""
    return arguments.all()
