"""Clients: senders and readers at work on a cluster, and the state that they compare in the end."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence

from tests.faults.checker import contradictions
from tests.faults.history import History, Outcome, Stored
from tests.faults.mail_reader import GET_MAX, Jmap, MailReader, NoAnswer, token_of, version_of
from tests.faults.mail_sender import MailSender
from tests.faults.nodes import NUMBERS, Nodes

SENDERS = 4
SENDER_PAUSE_S = 0.15
READER_PAUSE_S = 0.4
END_S_MAX = 90.0
READ_S_MAX = 120.0


class Clients:
    """Senders that send to every account, and for each account one who writes and one who reads."""

    def __init__(self, nodes: Nodes, history: History, *, seed: int) -> None:
        """`history` may hold what others did before them; a seed is used once with it."""
        self.history = history
        self._nodes = nodes
        self._stopped = threading.Event()
        self.senders = [
            MailSender(
                f"sender{number}.{seed}",
                self.history,
                nodes,
                nodes.addresses,
                seed=seed,
                pause_s=SENDER_PAUSE_S,
                stopped=self._stopped,
            )
            for number in range(SENDERS)
        ]
        self.readers = [
            MailReader(
                f"{what}.{seed}.{address.partition('@')[0]}",
                self.history,
                Jmap(nodes, address),
                address,
                seed=seed,
                pause_s=READER_PAUSE_S,
                stopped=self._stopped,
                writes=what == "writer",
            )
            for address in nodes.addresses
            for what in ("writer", "reader")
        ]

    def start(self) -> None:
        for thread in (*self.senders, *self.readers):
            thread.start()

    def taken(self) -> int:
        """Return how many messages were acknowledged so far."""
        with self.history.held():
            return sum(one.taken_s is not None for one in self.history.sent)

    def wait_taken(self, more: int, timeout_s: float) -> float:
        """Wait for so many further acknowledgements; return the seconds that it took."""
        began_s = time.monotonic()
        wanted = self.taken() + more
        while self.taken() < wanted:
            if time.monotonic() - began_s > timeout_s:
                raise AssertionError(f"no mail is taken for {timeout_s} s")
            time.sleep(0.05)
        return time.monotonic() - began_s

    def stop(self) -> None:
        self._stopped.set()
        deadline = time.monotonic() + END_S_MAX
        for thread in (*self.senders, *self.readers):
            thread.join(max(0.1, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} hangs"

    def contradictions(self) -> list[str]:
        """Compare what was told with what each node shows now. The clients have stopped."""
        shown = [self._stored(number) for number in NUMBERS]
        found = contradictions(self.history, shown[0])
        for number, stored in zip(NUMBERS, shown, strict=True):
            if stored != shown[0]:
                found.append(f"node {number} shows other mail than node {NUMBERS[0]}")
        return found

    def _stored(self, number: int) -> dict[str, Sequence[Stored]]:
        return {address: self._emails(number, address) for address in self._nodes.addresses}

    def _emails(self, number: int, address: str) -> list[Stored]:
        """Return all emails of an account; the octets are compared of those that node 1 shows."""
        jmap = Jmap(self._nodes, address)
        deadline = time.monotonic() + READ_S_MAX
        while True:
            try:
                jmap.sign_in(number)
                return self._read(jmap, number)
            except NoAnswer:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _read(self, jmap: Jmap, number: int) -> list[Stored]:
        sent = {one.token: one.octets_length for one in self.history.sent}
        found: list[Stored] = []
        position = 0
        while True:
            query = {"position": position, "limit": GET_MAX, "calculateTotal": True}
            (page,) = jmap.call(number, ("Email/query", query))
            wanted = {"ids": page["ids"], "properties": ["messageId", "keywords", "blobId"]}
            (got,) = jmap.call(number, ("Email/get", wanted))
            for email in got["list"]:
                token = token_of(email)
                octets = jmap.blob(number, email["blobId"])
                same = octets[-sent.get(token, 0) :]
                found.append(
                    Stored(
                        email["id"],
                        token,
                        version_of(email["keywords"]),
                        hashlib.sha256(same).hexdigest(),
                    )
                )
            position += len(page["ids"])
            if len(page["ids"]) < GET_MAX:
                break
        (mailboxes,) = jmap.call(number, ("Mailbox/get", {"ids": None}))
        counted = sum(one["totalEmails"] for one in mailboxes["list"])
        assert counted == len(found) == page["total"], (counted, len(found), page["total"])
        return sorted(found, key=lambda one: one.email_id)

    def tally(self) -> dict[str, int]:
        """Return what the clients did, in numbers."""
        with self.history.held():
            attempts = [one for message in self.history.sent for one in message.attempts]
            return {
                "messages": len(self.history.sent),
                "messages taken": sum(one.taken_s is not None for one in self.history.sent),
                "refusals (4xx, no connection)": sum(
                    one.outcome is Outcome.REFUSED for one in attempts
                ),
                "deliveries without an answer": sum(
                    one.outcome is Outcome.UNKNOWN for one in attempts
                ),
                "changes": len(self.history.changes),
                "changes without an answer": sum(
                    one.outcome is Outcome.UNKNOWN for one in self.history.changes
                ),
                "lists read": len(self.history.syncs),
                "lookups": len(self.history.looks),
            }
