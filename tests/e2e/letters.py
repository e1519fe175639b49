"""Letters for the e2e tests, and an SMTP client that says what was answered."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e.jmap_client import JmapClient


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one message: the reply to its DATA, or none."""

    code: int  # 0: no answer came
    text: str


def send(
    host: str, port: int, recipients: list[str], message: bytes, *, timeout_s: float = 60
) -> Answer:
    """Send one message over a connection of its own, byte for byte but for dot stuffing."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as sock:
            file = sock.makefile("rb")
            _reply(file)
            for line in (
                "EHLO client.example.test",
                "MAIL FROM:<sender@client.example.test> BODY=8BITMIME",
                *(f"RCPT TO:<{recipient}>" for recipient in recipients),
                "DATA",
            ):
                sock.sendall(line.encode() + b"\r\n")
                answer = _reply(file)
                if answer.code >= 400:
                    return answer
            stuffed = message.replace(b"\r\n.", b"\r\n..")
            if stuffed.startswith(b"."):
                stuffed = b"." + stuffed
            end = b".\r\n" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n.\r\n"
            sock.sendall(stuffed + end)
            answer = _reply(file)
            sock.sendall(b"QUIT\r\n")
            return answer
    except (OSError, EOFError) as error:
        return Answer(0, str(error))


def _reply(file: object) -> Answer:
    while True:
        line: bytes = file.readline()  # type: ignore[attr-defined]
        if not line.endswith(b"\n"):
            raise EOFError
        if line[3:4] != b"-":
            return Answer(int(line[:3]), line[4:].decode(errors="replace").strip())


def letter(number: int, *, size_bytes: int = 2000) -> bytes:
    """Return a small message whose subject is its number."""
    head = (
        f"From: sender@client.example.test\r\nTo: someone@example.test\r\n"
        f"Subject: number {number}\r\nMessage-ID: <{number}@client.example.test>\r\n\r\n"
    ).encode()
    line = b"the same line again and again, until there are enough of them\r\n"
    return head + line * (size_bytes // len(line))


def assert_each_once(
    client: JmapClient, user: str, answers: Mapping[tuple[str, int], Answer]
) -> None:
    """Every `letter` to `user` that was answered 250 is there once, the others at most once."""
    found = Counter(
        int(email["subject"].split()[1])
        for email in client.emails(client.query(), "subject")
        if email["subject"].startswith("number ")
    )
    for (address, number), answer in answers.items():
        if address == user and answer.code == 250:
            assert found[number] == 1, (user, number, found[number], answer)
        elif address == user:
            assert found[number] <= 1, (user, number, found[number], answer)
