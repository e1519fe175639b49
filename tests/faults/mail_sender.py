"""MailSender: mail servers that deliver, try again as mail servers do, and keep books."""

from __future__ import annotations

import hashlib
import random
import smtplib
import threading
from collections.abc import Sequence

from tests.faults.history import Attempt, History, Outcome, Sent, now_s
from tests.faults.nodes import NUMBERS, Nodes

TIMEOUT_S = 40.0  # A gateway says 451 before that.
PAUSE_S = 0.3  # between two tries of one message
LARGE_BYTES = 300_000


def text_of(token: str, recipients: Sequence[str], rng: random.Random) -> bytes:
    """Return a message; one in twenty has an attachment that is no text."""
    head = (
        f"From: sender@example.com\r\nTo: {', '.join(recipients)}\r\nSubject: {token}\r\n"
        f"Message-ID: <{token}>\r\nMIME-Version: 1.0\r\n"
    )
    if rng.random() < 0.05:
        octets = rng.randbytes(LARGE_BYTES).hex()
        lines = "\r\n".join(octets[at : at + 76] for at in range(0, len(octets), 76))
        head += "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 7bit\r\n"
        return f"{head}\r\n{lines}\r\n".encode()
    words = " ".join(f"w{rng.randrange(5000)}" for _ in range(rng.randint(10, 300)))
    lines = "\r\n".join(words[at : at + 70] for at in range(0, len(words), 70))
    return f"{head}\r\n{lines}\r\n".encode()


class MailSender(threading.Thread):
    """Delivers one message after the other, each until it is taken."""

    def __init__(
        self,
        name: str,
        history: History,
        nodes: Nodes,
        addresses: Sequence[str],
        *,
        seed: int,
        pause_s: float,
        stopped: threading.Event,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._history = history
        self._nodes = nodes
        self._addresses = list(addresses)
        self._rng = random.Random(f"{seed}/{name}")
        self._pause_s = pause_s
        self._stopped = stopped
        self.count = 0

    def run(self) -> None:
        while not self._stopped.wait(self._rng.uniform(0.0, 2 * self._pause_s)):
            self.count += 1
            self._send(f"{self.name}.{self.count}@faults.test")

    def _send(self, token: str) -> None:
        copies = 2 if self._rng.random() < 0.15 else 1
        recipients = tuple(self._rng.sample(self._addresses, copies))
        octets = text_of(token, recipients, self._rng)
        message = Sent(token, recipients, hashlib.sha256(octets).hexdigest(), len(octets))
        self._history.begin(message)
        # A message whose fate is unknown is tried on after the end has come: briefly.
        while not (self._stopped.is_set() and message.attempts):
            attempt = self._attempt(recipients, octets)
            self._history.add_attempt(message, attempt)
            if attempt.outcome is Outcome.DONE or attempt.text.startswith("5"):
                return
            self._stopped.wait(PAUSE_S)

    def _attempt(self, recipients: Sequence[str], octets: bytes) -> Attempt:
        node = self._rng.choice(NUMBERS)
        began_s = now_s()
        asked = False  # The message has been handed over: from here on its fate may be unknown.
        try:
            with self._nodes.at(node):
                peer = smtplib.SMTP(*self._nodes.smtp(node), timeout=TIMEOUT_S)
            with peer:
                peer.ehlo_or_helo_if_needed()
                for code, text in (
                    peer.mail("sender@example.com", ["BODY=8BITMIME"]),
                    *(peer.rcpt(recipient) for recipient in recipients),
                ):
                    if code >= 400:
                        return Attempt(
                            began_s, now_s(), node, Outcome.REFUSED, f"{code} {text.decode()}"
                        )
                asked = True
                code, text = peer.data(octets)
                ended_s = now_s()
                shown = f"{code} {text.decode()}"
                outcome = Outcome.DONE if code == 250 else Outcome.REFUSED
        except smtplib.SMTPDataError as error:
            shown = f"{error.smtp_code} {error.smtp_error!r}"
            return Attempt(began_s, now_s(), node, Outcome.REFUSED, shown)
        except (OSError, smtplib.SMTPException) as error:
            unknown = asked and not isinstance(error, ConnectionRefusedError)
            outcome = Outcome.UNKNOWN if unknown else Outcome.REFUSED
            return Attempt(began_s, now_s(), node, outcome, repr(error))
        return Attempt(began_s, ended_s, node, outcome, shown)
