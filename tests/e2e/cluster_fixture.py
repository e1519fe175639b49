"""A real cluster for tests: `helio up` as a process, on free ports, on data of its own.

    with running(tmp_path / "data", demo=True) as cluster:
        cluster.helio("account", "add", "carol@example.test", "--password-stdin", stdin="…")
        cluster.smtp, cluster.http, cluster.https, cluster.ca
        cluster.status()["shards"][0]["pid"]

Ends only what it started: the process by its handle, what is left of its Ray by its runtime
directory (`cluster/processes.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from cluster.processes import Process, end_holders, holders

ROOT = Path(__file__).resolve().parents[2]
HELIO = (sys.executable, "-m", "cluster.cli")
START_S_MAX = 180.0  # Six actors of half a second on a machine that does much else.
STOP_S_MAX = 90.0
COMMAND_S_MAX = 150.0
DEMO = ("alice@example.test", "bob@example.test")


class NotStarted(Exception):
    """`helio up` ended before it was ready; holds its exit code and what it wrote."""

    def __init__(self, exit_code: int | None, stdout: str, stderr: str) -> None:
        super().__init__(f"exit code {exit_code}\n{stdout}\n{stderr}")
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


def environment(data: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: free ports, a small object store, `settings`."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("RAY_", "HELIO_"))
    }
    ports = {f"HELIO_{name}__PORT": "0" for name in ("SMTP", "HTTP", "HTTPS")}
    ours = {
        "HELIO_DATA": str(data),
        "HELIO_RAY__OBJECT_STORE_BYTES": str(96 << 20),
        "RAY_AUTH_MODE": "token",  # Said explicitly in every process, see tests/conftest.py.
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    return kept | ports | ours | dict(settings or {})


def helio(
    data: Path, *arguments: str, stdin: str = "", settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command of `helio` to its end."""
    return subprocess.run(
        (*HELIO, *arguments),
        input=stdin,
        env=environment(data, settings),
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )


class Cluster:
    """One `helio up` and what it said."""

    def __init__(
        self,
        data: Path,
        *,
        demo: bool = False,
        settings: Mapping[str, str] | None = None,
        new_group: bool = False,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """Start; `prefix` is a command that runs another one, with arguments of its own."""
        self.data = data
        self.settings = dict(settings or {})
        self.lines: list[str] = []
        self.ready: dict[str, str] = {}
        data.parent.mkdir(parents=True, exist_ok=True)
        self._stderr = data.with_name(f"{data.name}.stderr")
        with self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                (*prefix, *HELIO, "up", *(("--demo",) if demo else ()), *arguments),
                env=environment(data, settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                process_group=0 if new_group else None,
            )
        self._buffer = b""
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    # What it says

    def wait_ready(self, timeout_s: float = START_S_MAX) -> None:
        """Read lines up to the next `ready …`. Raises NotStarted."""
        deadline = time.monotonic() + timeout_s
        while (line := self._next_line(deadline)) is not None:
            self.lines.append(line)
            if line.startswith("ready "):
                self.ready = dict(part.split("=", 1) for part in line.split()[1:])
                return
        exit_code = self.process.wait(STOP_S_MAX) if time.monotonic() < deadline else None
        raise NotStarted(exit_code, "\n".join(self.lines), self.stderr)

    def _next_line(self, deadline: float) -> str | None:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                octets = os.read(self.process.stdout.fileno(), 1 << 16)
                if not octets:
                    return None
                self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    @property
    def stderr(self) -> str:
        """What it has told the operator so far."""
        return self._stderr.read_text()

    @property
    def smtp(self) -> tuple[str, int]:
        """Host and port of SMTP."""
        host, _, port = self.ready["smtp"].rpartition(":")
        return host, int(port)

    @property
    def http(self) -> str:
        """URL of HTTP."""
        return f"http://{self.ready['http']}"

    @property
    def https(self) -> str:
        """URL of HTTPS, by the name that the certificate has."""
        return f"https://localhost:{self.ready['https'].rpartition(':')[2]}"

    @property
    def ca(self) -> Path:
        """The CA that signed the certificate."""
        return self.data / "tls" / "ca.pem"

    @property
    def passwords(self) -> dict[str, str]:
        """The demo accounts' passwords, by address."""
        lines = (self.data / "demo-passwords").read_text().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    # What it is asked

    def helio(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of `helio` against this cluster."""
        return helio(self.data, *arguments, stdin=stdin, settings=self.settings)

    def facts(self, *arguments: str, stdin: str = "") -> Any:
        """Run a command with --json and return what it printed. Fails when the command does."""
        done = self.helio(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def add_account(self, address: str, password: str = "correct horse battery") -> dict[str, Any]:
        """Make an account, and its domain when it is new."""
        self.helio("domain", "add", address.rpartition("@")[2])
        found = self.facts("account", "add", address, "--password-stdin", stdin=password)
        assert isinstance(found, dict)
        return found

    def status(self) -> dict[str, Any]:
        """Return `helio status --json`."""
        found = self.facts("status")
        assert isinstance(found, dict)
        return found

    def wait_serving(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the status once everything serves."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.status()
            if found["cluster"]["state"] == "serving":
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.2)

    def run_record(self) -> dict[str, Any]:
        """Return what run.json holds."""
        record = json.loads((self.data / "run.json").read_text())
        assert isinstance(record, dict)
        return record

    @property
    def runtime_directory(self) -> Path:
        """Ray's directory of this start."""
        return Path(self.run_record()["runtime_directory"])

    def actors(self, title: str) -> list[int]:
        """Return the processes of this cluster's actors of one class, as `ray::SmtpActor`."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [one.pid for one in family if _title(one) == f"ray::{title}"]

    # Its end

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as an operator would; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S_MAX)

    def kill(self) -> None:
        """Kill everything at once: the process, Ray, every actor."""
        left = [one for one in self._family() if one.runs]
        if self.process.poll() is None:
            self.process.kill()
        for one in left:
            one.kill()
        self.process.wait(STOP_S_MAX)

    def close(self) -> None:
        """See that nothing of it is left, whatever a test did."""
        directory = None
        with contextlib.suppress(FileNotFoundError):
            directory = self.runtime_directory
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if directory is not None and directory.exists():
            end_holders(directory, 10.0)

    def _family(self) -> list[Process]:
        found: list[Process] = []
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
            found = holders(self.runtime_directory)
        return [one for one in found if one.pid != self.process.pid]


def _title(process: psutil.Process) -> str:
    try:
        # While a method runs, Ray appends its name: `ray::HttpActor.pulse`.
        return " ".join(process.cmdline()).strip().partition(".")[0]
    except psutil.Error:
        return ""


@contextlib.contextmanager
def running(
    data: Path, *, demo: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Start a cluster, yield it when it is ready, stop it."""
    cluster = Cluster(data, demo=demo, settings=settings)
    try:
        yield cluster
    finally:
        cluster.close()
