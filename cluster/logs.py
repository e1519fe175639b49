"""Logs: JSON lines, one file a process, bounded; nothing in them that is private.

Files are `logs/NAME.log` below the data directory. What is secret or somebody's mail is dropped
here by the name of its field, whoever logs it; texts of errors never hold it (`mail/errors.py`).
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

FILE_BYTES_MAX = 10 << 20
FILES_KEPT = 3  # Beside the current one: 40 MiB a process at most.
VALUE_CHARS_MAX = 2000  # A log is not a place for bodies, under whatever name.
PRIVATE = frozenset({
    "authorization", "body", "cookie", "credential", "message", "password", "preview", "raw",
    "secret", "subject", "token",
})  # fmt: skip
NOISE = ("_ray_timestamp_ns", "color_message")  # Of Ray and uvicorn, in every event.
QUIET = ("mail.log", "uvicorn", "asyncio")  # aiosmtpd and others, who log each connection.
DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class LogFile:
    """Prepares logging inside an actor's process; crosses processes as plain data."""

    directory: str
    level: str

    def __call__(self, name: str) -> None:
        """Write what this process logs to the file of that name."""
        configure(Path(self.directory) / f"{name}.log", self.level)


def configure(file: Path, level: str) -> None:
    """Send structlog's and the standard library's events of this process to `file` as JSON."""
    with contextlib.suppress(OSError):  # A full disk stops nothing but the log.
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    logging.raiseExceptions = False
    handler = logging.handlers.RotatingFileHandler(
        file, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        drop_private,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=repr),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def drop_private(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace private fields, at any depth, and cut long values. A processor of structlog."""
    for name in NOISE:
        event.pop(name, None)
    for name in list(event):
        event[name] = _clean(name, event[name])
    return event


def _clean(name: object, value: Any) -> Any:
    if isinstance(name, str) and name.lower() in PRIVATE:
        return DROPPED
    match value:
        case bytes() | bytearray() | memoryview():
            return DROPPED
        case Mapping():
            return {key: _clean(key, inner) for key, inner in value.items()}
        case list() | tuple():
            return [_clean(None, inner) for inner in value]
        case str() if len(value) > VALUE_CHARS_MAX and name != "exception":
            return value[:VALUE_CHARS_MAX] + "…"
        case _:
            return value


__all__ = ["LogFile", "configure", "drop_private"]
