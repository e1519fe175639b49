"""Load: ten `smtp-source` side by side, one mailbox each, four sessions each.

`smtp-source` is Postfix's own generator, written in C: on two cores a generator in Python would
take the time that is to be measured. It ends with an error at the first reply that it does not
expect, so exit code 0 means that every message was answered with 250.
"""

from __future__ import annotations

import enum
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.system import SENDER, BenchError

SMTP_SOURCE = Path("/usr/sbin/smtp-source")
SESSIONS_PER_GENERATOR = 4
MESSAGE_BYTES = 10 * 1024
# A load that is slower than this has stopped: a reply is missing.
LOAD_START_MAX_S = 60.0
MESSAGES_PER_S_MIN = 20.0
STDERR_LINES_MAX = 5  # Of each failed generator, in the error's text.


class Mode(enum.Enum):
    """How a session treats its connection."""

    CONNECTION_PER_MESSAGE = "a connection a message"
    KEPT = "connections kept (-d)"


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What the generators reported."""

    messages: int
    accepted_s: float  # From the first start to the last exit.
    exit_codes: tuple[int, ...]


def generator_command(*, port: int, recipient: str, messages: int, mode: Mode) -> list[str]:
    """Return the command line of one generator."""
    command = [str(SMTP_SOURCE), "-4"]
    if mode is Mode.KEPT:
        command.append("-d")
    command += ["-s", str(SESSIONS_PER_GENERATOR), "-m", str(messages), "-l", str(MESSAGE_BYTES)]
    # -M: without it the generator asks the resolver for this machine's name.
    command += ["-M", "load.example.test", "-f", SENDER, "-t", recipient]
    return [*command, f"127.0.0.1:{port}"]


def run_load(*, port: int, recipients: Sequence[str], messages: int, mode: Mode) -> LoadOutcome:
    """Send `messages` to each recipient, all recipients in parallel; return when all are accepted.

    Raises BenchError when a generator fails or waits for a reply that does not come.
    """
    count = messages * len(recipients)
    limit_s = LOAD_START_MAX_S + count / MESSAGES_PER_S_MIN
    with tempfile.TemporaryFile() as stderr:
        started_s = time.monotonic()
        generators = [
            subprocess.Popen(
                generator_command(port=port, recipient=recipient, messages=messages, mode=mode),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
            for recipient in recipients
        ]
        try:
            for generator in generators:
                generator.wait(timeout=max(0.0, started_s + limit_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            waiting = [
                recipient
                for recipient, generator in zip(recipients, generators, strict=True)
                if generator.poll() is None
            ]
            raise BenchError(
                f"a message was not answered within {limit_s:.0f} s: to one of {', '.join(waiting)}"
            ) from None
        finally:
            accepted_s = time.monotonic() - started_s
            for generator in generators:
                if generator.poll() is None:
                    generator.kill()
                    generator.wait()
        exit_codes = tuple(generator.returncode for generator in generators)
        if any(exit_codes):
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").splitlines()[:STDERR_LINES_MAX]
            raise BenchError(f"smtp-source ended with {exit_codes}: {' | '.join(said)}")
    return LoadOutcome(count, accepted_s, exit_codes)
