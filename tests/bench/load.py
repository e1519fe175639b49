"""Load: ten `smtp-source` side by side, four sessions each.

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

from tests.bench.corpus import Writer
from tests.bench.system import DOMAIN, MAILBOXES, SENDER, USERS, BenchError

SMTP_SOURCE = Path("/usr/sbin/smtp-source")
SESSIONS_PER_GENERATOR = 4
SMALL_BYTES = 10 * 1024
LARGE_BYTES = 100 * 1024
# A load that is slower than this has stopped: a reply is missing.
LOAD_START_MAX_S = 60.0
MESSAGES_PER_S_MIN = 20.0
STDERR_LINES_MAX = 5  # Of each failed generator, in the error's text.
NUMBERED = tuple(f"box{number}@{DOMAIN}" for number in range(MAILBOXES))


class Mode(enum.Enum):
    """How a session treats its connection."""

    CONNECTION_PER_MESSAGE = "a connection a message"
    KEPT = "connections kept (-d)"


class Body(enum.Enum):
    """What a message consists of."""

    LETTERS = "one letter repeated (-l)"  # Each message has a Message-ID of its own.
    WORDS = "words (-F)"  # Words to index, and no better to compress than mail is.


@dataclass(frozen=True, slots=True)
class Load:
    """What the generators send."""

    mode: Mode
    size_bytes: int
    messages: int  # Of each generator.
    body: Body = Body.LETTERS
    numbered: bool = False  # A mailbox of its own for each message, see `numbered_users`.

    @property
    def label(self) -> str:
        """Return what the load is called in tables."""
        words = ", words" if self.body is Body.WORDS else ""
        return f"{self.size_bytes // 1024} KB{words}, {self.mode.value}"


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What the generators reported."""

    messages: int
    started_s: float  # On the monotonic clock.
    accepted_s: float  # From the first start to the last exit.
    exit_codes: tuple[int, ...]


def numbered_users(count: int) -> list[str]:
    """Return mailboxes such that each generator of a numbered load has its own, round robin.

    `smtp-source -N` puts a number that begins with 1 before the address, one more each message.
    """
    if count % MAILBOXES:
        raise BenchError(f"the number of mailboxes is a multiple of {MAILBOXES}, not {count}")
    return [
        f"{number}{address}" for number in range(1, count // MAILBOXES + 1) for address in NUMBERED
    ]


def generator_command(load: Load, *, port: int, recipient: str, file: Path | None) -> list[str]:
    """Return the command line of one generator."""
    command = [str(SMTP_SOURCE), "-4"]
    if load.mode is Mode.KEPT:
        command.append("-d")
    if load.numbered:
        command.append("-N")
    command += ["-F", str(file)] if file else ["-l", str(load.size_bytes)]
    command += ["-s", str(SESSIONS_PER_GENERATOR), "-m", str(load.messages)]
    # -M: without it the generator asks the resolver for this machine's name.
    command += ["-M", "load.example.test", "-f", SENDER, "-t", recipient]
    return [*command, f"127.0.0.1:{port}"]


def run_load(load: Load, *, port: int) -> LoadOutcome:
    """Run all generators in parallel; return when every message is accepted.

    Raises BenchError when a generator fails or waits for a reply that does not come.
    """
    recipients = NUMBERED if load.numbered else USERS
    with tempfile.TemporaryDirectory() as scratch:
        files: list[Path | None] = [None] * len(recipients)
        if load.body is Body.WORDS:
            files = [
                _message_file(Path(scratch) / str(number), number, load.size_bytes)
                for number in range(len(recipients))
            ]
        commands = [
            generator_command(load, port=port, recipient=recipient, file=file)
            for recipient, file in zip(recipients, files, strict=True)
        ]
        return _run(commands, load.messages * len(recipients))


def _message_file(path: Path, number: int, size_bytes: int) -> Path:
    writer = Writer(number)
    head = f"From: {SENDER}\nTo: load@{DOMAIN}\nSubject: {' '.join(writer.draw(5))}\n\n"
    path.write_text(head + writer.text(size_bytes).replace("\r\n", "\n"))
    return path


def _run(commands: Sequence[list[str]], count: int) -> LoadOutcome:
    limit_s = LOAD_START_MAX_S + count / MESSAGES_PER_S_MIN
    with tempfile.TemporaryFile() as stderr:
        started_s = time.monotonic()
        generators = [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
            for command in commands
        ]
        try:
            for generator in generators:
                generator.wait(timeout=max(0.0, started_s + limit_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            waiting = sum(generator.poll() is None for generator in generators)
            raise BenchError(
                f"a message was not answered within {limit_s:.0f} s: {waiting} generators wait"
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
    return LoadOutcome(count, started_s, accepted_s, exit_codes)
