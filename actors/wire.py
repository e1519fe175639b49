"""Wire: how commands and replies become bytes between actors.

A frame is one version byte and a msgpack array of commands, or of replies in the same
order: one call between actors carries as many as were waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, Union

import msgspec

# All parts must be known before the decoders are made.
from actors import account_commands, transfer_commands, upkeep_commands  # noqa: F401
from actors.commands import Command, Failed, Reply
from mail import errors

VERSION = 1
ReplyT = TypeVar("ReplyT")

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(
    list[Union[tuple(Command.__subclasses__())]]  # type: ignore[misc]  # noqa: UP007
)
_replies: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(
    list[Union[tuple(Reply.__subclasses__())]]  # type: ignore[misc]  # noqa: UP007
)


def encode(items: Sequence[Command] | Sequence[Reply]) -> bytes:
    """Return the frame that carries `items`."""
    return bytes((VERSION,)) + _encoder.encode(items)


def decode_commands(frame: bytes) -> list[Command]:
    """Return the commands of a frame. Raises Invalid when it is not one that we can read."""
    commands: list[Command] = _decode(_commands, frame)
    return commands


def decode_replies(frame: bytes) -> list[Reply]:
    """Return the replies of a frame. Raises OutcomeUnknown when we cannot read it (R11)."""
    try:
        replies: list[Reply] = _decode(_replies, frame)
    except errors.Invalid as error:
        raise errors.OutcomeUnknown(error.text) from None
    return replies


def _decode(decoder: msgspec.msgpack.Decoder[list[Any]], frame: bytes) -> list[Any]:
    if not frame or frame[0] != VERSION:
        raise errors.Invalid("a frame of an unknown version")
    try:
        return decoder.decode(memoryview(frame)[1:])
    except msgspec.DecodeError as error:
        raise errors.Invalid(f"a broken frame: {error}") from None


def failed(error: BaseException) -> Failed:
    """Return the reply that carries `error`; one that we do not know leaves the outcome unknown."""
    if isinstance(error, errors.MailError):
        return Failed(type(error).__name__, error.text)
    return Failed("OutcomeUnknown", "internal error")


def raised(reply: Failed) -> errors.MailError:
    """Return the exception that `reply` carries; an unknown name is temporary (R11)."""
    cls = getattr(errors, reply.error, None)
    if isinstance(cls, type) and issubclass(cls, errors.MailError):
        return cls(reply.text)
    return errors.Unavailable(reply.text)


def result(reply: object, expected: type[ReplyT]) -> ReplyT:
    """Return `reply` if it is of the expected type; raise what it carries if it is a failure."""
    if isinstance(reply, Failed):
        raise raised(reply)
    if not isinstance(reply, expected):
        raise errors.Unavailable(f"unexpected answer {type(reply).__name__}")
    return reply
