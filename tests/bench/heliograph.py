"""Heliograph as a system under test: `helio`, SMTP, JMAP.

Whole mailboxes by the thousand are looked at over the control listener, as `helio mailbox show`
does it, without a process for each of them.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory
from tests.bench.accounting import MARK_VARIABLE, process_tree
from tests.bench.push import ArrivalLog, basic_authorization, jmap_listener
from tests.bench.system import DOMAIN, PASSWORD, START_MAX_S, STOP_MAX_S, BenchError

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
READY_POLL_S = 0.005  # Below what a start differs from the next.
INDEX_PENDING = "heliograph_shard_index_pending"
REQUEST_MAX_S = 60.0
COMMAND_MAX_S = 120.0
ACCOUNTS_MAX_S = 600.0
PASSWORDS_MAX = 64  # Accounts with a password: each is hashed, slowly on purpose.
IMPORT_MAX_S = 1800.0
LOG_TAIL_CHARS = 2000
COUNTS_AT_ONCE = 8
JMAP_USING = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail")


class Heliograph:
    """SystemUnderTest made of `helio up` with its defaults, on free ports."""

    name = "Heliograph"

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are variables of its environment beside the ports."""
        self.smtp_port = 0
        self.http_port = 0
        self.users: Sequence[str] = ()
        self._settings = dict(settings or {})
        self._directory = Path()
        self._mark = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._account_ids: dict[str, str] = {}

    def start(self, directory: Path, users: Sequence[str]) -> None:
        """Start a one-node cluster, wait for its ready line, make the domain and the accounts."""
        self.launch(directory)
        self.users = ()
        self._helio("domain", "add", DOMAIN)
        self.add_accounts(users)

    def launch(self, directory: Path) -> float:
        """Start on what `directory` holds; return the seconds until `ready`."""
        if not HELIO.exists():
            raise BenchError(f"{HELIO} is missing: run make install, or give --system postfix")
        self._directory = directory
        self._mark = uuid.uuid4().hex
        self._account_ids.clear()
        with (
            (directory / "out.log").open("wb") as out,
            (directory / "error.log").open("wb") as error,
        ):
            began_s = time.monotonic()
            self._process = subprocess.Popen(
                [str(HELIO), "up", "--data", str(self._data)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                env=self._environment(),
                start_new_session=True,
            )
        self._wait_until_ready(self._process)
        took_s = time.monotonic() - began_s
        ports = {entry["name"]: entry["port"] for entry in self.status()["listeners"]}
        self.smtp_port, self.http_port = ports["smtp"], ports["http"]
        return took_s

    def add_accounts(self, users: Sequence[str]) -> None:
        """Make accounts; the first have the one password, the others nobody signs in to."""
        if not users:
            return
        with_password = max(0, PASSWORDS_MAX - len(self.users))
        lines = [f"{user},{PASSWORD}" for user in users[:with_password]] + [*users[with_password:]]
        file = self._directory / "accounts"
        file.write_text("\n".join(lines) + "\n")
        self._helio("account", "add", "--file", str(file), timeout_s=ACCOUNTS_MAX_S)
        self.users = (*self.users, *users)

    def import_maildir(self, user: str, maildir: Path) -> None:
        """Bring the mail of a Maildir, with its flags, into a mailbox."""
        self._helio("import", user, "--maildir", str(maildir), timeout_s=IMPORT_MAX_S)

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
        return f"Heliograph {self.status()['version']}"

    def delivered(self) -> int:
        """Return the messages of all accounts, Junk included."""
        return sum(self.counts().values())

    def backlog(self) -> int:
        """Return what the queues hold: a message is in its mailbox before its 250, or there."""
        return sum(int(length) for length in self.status()["queues"].values())

    def counts(self) -> Mapping[str, int]:
        """Return the messages of each mailbox, Junk included."""
        control = self._control()

        def count(user: str) -> int:
            return int(control.ask("GET", "mailboxes", user)["messages"])

        with ThreadPoolExecutor(COUNTS_AT_ONCE) as threads:
            return dict(zip(self.users, threads.map(count, self.users), strict=True))

    def pids(self) -> Sequence[int]:
        """Return `helio up`, its descendants, and Ray's processes, found by our mark."""
        if self._process is None:
            return []
        return process_tree([self._process.pid], self._mark)

    def roles(self) -> Mapping[int, str]:
        """Return which shard's actor a process is."""
        return {
            shard["pid"]: "directory" if shard["kind"] == "directory" else f"mailbox {shard['id']}"
            for shard in self.status()["shards"]
            if shard["pid"] is not None
        }

    def push_listener(self, user: str) -> AbstractContextManager[ArrivalLog]:
        """Listen on the WebSocket of `user`."""
        return jmap_listener(port=self.http_port, user=user, password=PASSWORD)

    def status(self) -> Mapping[str, Any]:
        """Return what `helio status --json` prints."""
        return self._control().ask("GET", "status")

    def shard(self, user: str) -> int:
        """Return the shard of a mailbox, from the directory: asking the shard would wake it."""
        accounts = self._control().ask("GET", "accounts")["accounts"]
        return next(int(one["shard"]) for one in accounts if one["address"] == user)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _control(self) -> ControlClient:
        return ControlClient(DataDirectory(self._data))

    def _environment(self) -> dict[str, str]:
        ports = {f"HELIO_{name}__PORT": "0" for name in PORT_SETTINGS}
        return {**os.environ, **ports, **self._settings, MARK_VARIABLE: self._mark}

    def _helio(self, *arguments: str, stdin: str = "", timeout_s: float = COMMAND_MAX_S) -> str:
        command = [str(HELIO), *arguments, "--data", str(self._data)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode != 0:
            raise BenchError(
                f"helio {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + START_MAX_S
        out = self._directory / "out.log"
        while time.monotonic() < deadline_s and process.poll() is None:
            if any(
                line.startswith("ready") for line in out.read_text(errors="replace").splitlines()
            ):
                return
            time.sleep(READY_POLL_S)
        said = (self._directory / "error.log").read_text(errors="replace")[-LOG_TAIL_CHARS:]
        raise BenchError(f"helio up gave no ready line (exit code {process.poll()}): {said}")

    def emails_to_index(self) -> int:
        """Return how many messages wait to be indexed, in all shards; 0 at rest."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}/metrics", timeout=REQUEST_MAX_S
        ) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(INDEX_PENDING))

    def account_id(self, user: str) -> str:
        """Return the JMAP account of a user (RFC 8620 §2)."""
        if user not in self._account_ids:
            session = self._request(user, "GET", "/jmap/session")
            self._account_ids[user] = session["primaryAccounts"][JMAP_USING[1]]
        return self._account_ids[user]

    def jmap(self, user: str, method: str, arguments: Mapping[str, object]) -> Any:
        """Return the response to one method call. Raises BenchError when it is an error."""
        call = [method, {"accountId": self.account_id(user), **arguments}, "0"]
        body = {"using": JMAP_USING, "methodCalls": [call]}
        name, result, _ = self._request(user, "POST", "/jmap/api", body)["methodResponses"][0]
        if name != method:
            raise BenchError(f"{method} for {user} was answered with {name}: {result}")
        return result

    def _request(self, user: str, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=REQUEST_MAX_S)
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
