"""Heliograph as a system under test, through its public contract only: `helio`, SMTP, JMAP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.bench.accounting import MARK_VARIABLE, process_tree
from tests.bench.push import ArrivalLog, basic_authorization, jmap_listener
from tests.bench.system import DOMAIN, PASSWORD, START_MAX_S, STOP_MAX_S, USERS, BenchError

HELIO = Path(sys.executable).with_name("helio")
PORT_SETTINGS = (
    "SMTP",
    "SUBMISSION",
    "SUBMISSIONS",
    "HTTP",
    "HTTPS",
    "IMAP",
    "IMAPS",
    "POP3",
    "POP3S",
)
POLL_S = 0.05
REQUEST_MAX_S = 30.0
COMMAND_MAX_S = 120.0
LOG_TAIL_CHARS = 2000
JMAP_USING = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail")


class Heliograph:
    """SystemUnderTest made of `helio up` with its defaults, on free ports."""

    name = "Heliograph"

    def __init__(self) -> None:
        self.smtp_port = 0
        self._http_port = 0
        self._directory = Path()
        self._mark = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._account_ids: dict[str, str] = {}

    def start(self, directory: Path) -> None:
        """Start a one-node cluster, wait for its ready line, make the domain and the accounts."""
        if not HELIO.exists():
            raise BenchError(f"{HELIO} is missing: run make install, or give --system postfix")
        self._directory = directory
        self._mark = uuid.uuid4().hex
        self._account_ids.clear()
        with (
            (directory / "out.log").open("wb") as out,
            (directory / "error.log").open("wb") as error,
        ):
            self._process = subprocess.Popen(
                [str(HELIO), "up", "--data", str(directory / "data")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                env=self._environment(),
                start_new_session=True,
            )
        self._wait_until_ready(self._process)
        ports = {entry["name"]: entry["port"] for entry in self._status()["listeners"]}
        self.smtp_port, self._http_port = ports["smtp"], ports["http"]
        self._helio("domain", "add", DOMAIN)
        for user in USERS:
            self._helio("account", "add", user, "--password-stdin", stdin=PASSWORD + "\n")
            session = self._request(user, "GET", "/jmap/session")
            self._account_ids[user] = session["primaryAccounts"][JMAP_USING[1]]

    def stop(self) -> None:
        """Ask the cluster to drain; whoever of ours is left after that is killed by its id."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=STOP_MAX_S)
        except subprocess.TimeoutExpired:
            print(f"heliograph did not stop within {STOP_MAX_S:.0f} s: killing it", file=sys.stderr)
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def version(self) -> str:
        """Return the cluster's version."""
        return f"Heliograph {self._status()['version']}"

    def delivered(self) -> int:
        """Return the sum of all folders of all accounts, Junk included (RFC 8621 §2)."""
        return sum(self._messages(user) for user in USERS)

    def pids(self) -> Sequence[int]:
        """Return `helio up`, its descendants, and Ray's processes, found by our mark."""
        if self._process is None:
            return []
        return process_tree([self._process.pid], self._mark)

    def push_listener(self, user: str) -> AbstractContextManager[ArrivalLog]:
        """Listen on the WebSocket of `user`."""
        return jmap_listener(port=self._http_port, user=user, password=PASSWORD)

    def _environment(self) -> dict[str, str]:
        ports = {f"HELIO_{name}__PORT": "0" for name in PORT_SETTINGS}
        return {**os.environ, **ports, MARK_VARIABLE: self._mark}

    def _helio(self, *arguments: str, stdin: str = "") -> str:
        command = [str(HELIO), *arguments, "--data", str(self._directory / "data")]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False
        )
        if done.returncode != 0:
            raise BenchError(
                f"helio {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def _status(self) -> Mapping[str, Any]:
        status: Mapping[str, Any] = json.loads(self._helio("status", "--json"))
        return status

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + START_MAX_S
        out = self._directory / "out.log"
        while time.monotonic() < deadline_s and process.poll() is None:
            if any(
                line.startswith("ready") for line in out.read_text(errors="replace").splitlines()
            ):
                return
            time.sleep(POLL_S)
        said = (self._directory / "error.log").read_text(errors="replace")[-LOG_TAIL_CHARS:]
        raise BenchError(f"helio up gave no ready line (exit code {process.poll()}): {said}")

    def _messages(self, user: str) -> int:
        arguments = {
            "accountId": self._account_ids[user],
            "ids": None,
            "properties": ["totalEmails"],
        }
        body = {"using": JMAP_USING, "methodCalls": [["Mailbox/get", arguments, "0"]]}
        name, result, _ = self._request(user, "POST", "/jmap/api", body)["methodResponses"][0]
        if name != "Mailbox/get":
            raise BenchError(f"Mailbox/get for {user} was answered with {name}: {result}")
        return sum(int(mailbox["totalEmails"]) for mailbox in result["list"])

    def _request(self, user: str, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=REQUEST_MAX_S)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={
                    "Authorization": basic_authorization(user, PASSWORD),
                    "Content-Type": "application/json",
                },
            )
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise BenchError(f"{method} {path} was answered with {response.status}: {data[:200]!r}")
        return json.loads(data)
