"""MailReader: a JMAP client that follows an account, marks and destroys, and keeps books.

It asks another node whenever it likes: what one gateway has shown, every other one must show.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.history import Change, History, Look, Outcome, Sync, now_s
from tests.faults.nodes import NUMBERS, PASSWORD, Nodes

TIMEOUT_S = 30.0
LOOKED_AT = 20  # emails, each time
GET_MAX = 400
USING = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail")


class NoAnswer(Exception):
    """The cluster did not answer, or said that it cannot now."""


class Jmap:
    """Requests of one account, to any node."""

    def __init__(self, nodes: Nodes, address: str) -> None:
        self._nodes = nodes
        self._basic = base64.b64encode(f"{address}:{PASSWORD}".encode()).decode()
        self.account = ""

    def call(self, node: int, *calls: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the arguments of each answer. Raises NoAnswer, also for an error of a method."""
        request = {
            "using": USING,
            "methodCalls": [
                [name, {"accountId": self.account, **arguments}, str(place)]
                for place, (name, arguments) in enumerate(calls)
            ],
        }
        found = self._ask(node, "POST", "/jmap/api", json.dumps(request).encode())
        answers = json.loads(found)["methodResponses"]
        for name, arguments, _ in answers:
            if name == "error":
                raise NoAnswer(arguments["type"])
        return [arguments for _, arguments, _ in answers]

    def sign_in(self, node: int) -> None:
        """Find out the account's id."""
        session = json.loads(self._ask(node, "GET", "/.well-known/jmap", None))
        self.account = session["primaryAccounts"]["urn:ietf:params:jmap:mail"]

    def blob(self, node: int, blob_id: str) -> bytes:
        return self._ask(node, "GET", f"/jmap/download/{self.account}/{blob_id}/message", None)

    def _ask(self, node: int, method: str, path: str, body: bytes | None) -> bytes:
        connection = http.client.HTTPConnection(*self._nodes.http(node), timeout=TIMEOUT_S)
        headers = {"Authorization": f"Basic {self._basic}", "Content-Type": "application/json"}
        try:
            with self._nodes.at(node):
                connection.connect()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            octets = answer.read()
            if answer.status in (301, 302, 307, 308):
                return self._ask(node, method, answer.headers["Location"], body)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(repr(error)) from None
        finally:
            connection.close()
        if answer.status != 200:
            raise NoAnswer(f"{answer.status} {octets[:200]!r}")
        return octets


def version_of(keywords: Mapping[str, bool]) -> int:
    """Return the version that an email's keywords say; 0 when it never had one."""
    return max((int(word[1:]) for word in keywords if word[:1] == "v"), default=0)


def token_of(email: Mapping[str, Any]) -> str:
    return str((email.get("messageId") or ["?"])[0])


class MailReader(threading.Thread):
    """Follows one account; with `writes` it also marks and destroys, as the only one there."""

    def __init__(
        self,
        name: str,
        history: History,
        jmap: Jmap,
        address: str,
        *,
        seed: int,
        pause_s: float,
        stopped: threading.Event,
        writes: bool,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._history = history
        self._jmap = jmap
        self._address = address
        self._rng = random.Random(f"{seed}/{name}")
        self._pause_s = pause_s
        self._stopped = stopped
        self._writes = writes
        self._state = ""
        self._ids: list[str] = []
        # What an earlier writer of the account has done: versions only rise.
        before = [one for one in history.changes if one.address == address]
        self._versions = {one.email_id: one.version for one in before if one.version is not None}
        self._ended = {  # emails whose writer has no more to say
            one.email_id for one in before if one.version is None or one.outcome is Outcome.UNKNOWN
        }
        self.answered = 0
        self.unanswered = 0

    def run(self) -> None:
        while not self._stopped.wait(self._rng.uniform(0.0, 2 * self._pause_s)):
            try:
                self._turn(self._rng.choice(NUMBERS))
                self.answered += 1
            except NoAnswer:
                self.unanswered += 1

    def _turn(self, node: int) -> None:
        if not self._jmap.account:
            self._jmap.sign_in(node)
        self._sync(node)
        if self._ids:
            self._look(self._rng.choice(NUMBERS))
            if self._writes:
                self._write(self._rng.choice(NUMBERS))

    # Reading

    def _sync(self, node: int) -> None:
        """Follow `/changes` to its end; nothing is recorded when that fails on the way."""
        began_s = now_s()
        whole = not self._state
        try:
            created, gone, state = self._all(node) if whole else self._changes(node)
        except NoAnswer as error:
            if str(error) == "cannotCalculateChanges":  # RFC 8620 §5.2: begin anew.
                self._state = ""
            raise
        known = self._tokens(node, created)
        vanished = set(created) - {email for email, _ in known}
        ended_s = now_s()
        self._state = state
        # Created and destroyed again before it was asked for: reported as both.
        gone = [*gone, *vanished]
        missing = set(gone)
        before = set(self._ids)
        self._ids = [one for one in self._ids if one not in missing]
        self._ids += [email for email, _ in known if email not in before]
        self._history.add(
            Sync(
                self._address,
                self.name,
                node,
                began_s,
                ended_s,
                tuple(known),
                tuple(gone),
                whole=whole,
            )
        )

    def _changes(self, node: int) -> tuple[list[str], list[str], str]:
        created: dict[str, None] = {}
        gone: dict[str, None] = {}
        state = self._state
        while True:
            (found,) = self._jmap.call(node, ("Email/changes", {"sinceState": state}))
            created |= dict.fromkeys(found["created"])
            gone |= dict.fromkeys(found["destroyed"])
            state = found["newState"]
            if not found["hasMoreChanges"]:
                return [one for one in created if one not in gone], list(gone), state

    def _all(self, node: int) -> tuple[list[str], list[str], str]:
        """Return all ids, and a state from before they were asked for."""
        (empty,) = self._jmap.call(node, ("Email/get", {"ids": []}))
        ids: list[str] = []
        while True:
            (page,) = self._jmap.call(
                node, ("Email/query", {"position": len(ids), "limit": GET_MAX})
            )
            ids += page["ids"]
            if len(page["ids"]) < GET_MAX:
                return list(dict.fromkeys(ids)), [], empty["state"]

    def _tokens(self, node: int, ids: Sequence[str]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for at in range(0, len(ids), GET_MAX):
            wanted = {"ids": ids[at : at + GET_MAX], "properties": ["messageId"]}
            (got,) = self._jmap.call(node, ("Email/get", wanted))
            found += [(email["id"], token_of(email)) for email in got["list"]]
        return found

    def _look(self, node: int) -> None:
        some = self._rng.sample(self._ids, min(LOOKED_AT, len(self._ids)))
        some = [*dict.fromkeys([*some, *self._ids[-5:]])]
        began_s = now_s()
        (got,) = self._jmap.call(node, ("Email/get", {"ids": some, "properties": ["keywords"]}))
        ended_s = now_s()
        versions: dict[str, int | None] = {
            one["id"]: version_of(one["keywords"]) for one in got["list"]
        }
        versions |= dict.fromkeys(got["notFound"])
        self._history.add(
            Look(self._address, self.name, node, began_s, ended_s, tuple(versions.items()))
        )

    # Writing

    def _write(self, node: int) -> None:
        some = [one for one in self._ids[-50:] if one not in self._ended]
        if not some:
            return
        email_id = self._rng.choice(some)
        destroys = self._rng.random() < 0.1
        version = self._versions.get(email_id, 0) + 1
        asked: dict[str, Any] = (
            {"destroy": [email_id]}
            if destroys
            else {"update": {email_id: {"keywords": {f"v{version}": True}}}}
        )
        began_s = now_s()
        try:
            (found,) = self._jmap.call(node, ("Email/set", asked))
            done = email_id in (found.get("destroyed") or found.get("updated") or ())
            outcome = Outcome.DONE if done else Outcome.UNKNOWN
        except NoAnswer:
            outcome = Outcome.UNKNOWN
        # What became of it nobody knows, and it may still happen: others are written to.
        if destroys or outcome is Outcome.UNKNOWN:
            self._ended.add(email_id)
        self._versions[email_id] = version
        self._history.add(
            Change(
                self._address,
                email_id,
                None if destroys else version,
                began_s,
                now_s(),
                outcome,
            )
        )
        if outcome is Outcome.UNKNOWN:
            raise NoAnswer
