"""DataDirectory: everything that must survive, whose it is, and who has it open.

    cluster.json    whose data this is: cluster, node, format, the release that last wrote it
    founded         the directory of accounts was open once: this node never founds it again
    head.json       which node's Ray the others join; `nodes.json`: where to ask when it is gone
    ray-token       0600, the same on every node: without it no process speaks with Ray
    gcs/            on the head: what Ray's GCS knows
    lock            held (flock) by the process that serves the data; its number is inside
    run.json        0600, while running: control address and token, listeners, Ray's directory
    demo-passwords  0600, with `--demo`
    shards/         one directory a shard (`storage/replica_directory.py`); `cluster`: whose
    tls/ logs/      `cluster/tls.py`, `cluster/logs.py`
    cluster-tls/    `cluster/cluster_ca.py`, where nodes speak TLS with each other

On failure  Refused, in one line: in use, of a newer release, of another cluster, disk full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from actors.commands import DIRECTORY_SHARD
from cluster.refusal import Refused

FORMAT = 1  # Of the directory as a whole; raised when an older release could not read it.
TOKEN_BYTES = 32
TOKEN = re.compile(r"[0-9A-Za-z_-]{32,256}")
START_BYTES_MIN = 32 << 20  # RocksDB, logs and the index write this much just by being opened.


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """Whose data a directory holds."""

    id: str  # UUID
    node: str  # of this data directory, as the directory of shards names it
    format: int
    release: str
    founder: bool = True  # it made the cluster; every other node has joined one


@dataclass(frozen=True, slots=True)
class Head:
    """The node whose Ray the others join. A later term supersedes an earlier one."""

    node: str
    address: str  # host:port of its GCS
    term: int  # ≥ 1; raised by whoever makes another node the head


class DataDirectory:
    """Paths below one data directory, and the right to use it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.identity_file = self.path / "cluster.json"
        self.lock_file = self.path / "lock"
        self.run_file = self.path / "run.json"
        self.founded_file = self.path / "founded"
        self.head_file = self.path / "head.json"
        self.nodes_file = self.path / "nodes.json"
        self.token_file = self.path / "ray-token"
        self.gcs = self.path / "gcs"
        self.demo_file = self.path / "demo-passwords"
        self.shards = self.path / "shards"
        self.owner_file = self.shards / "cluster"
        self.tls = self.path / "tls"
        self.cluster_tls = self.path / "cluster-tls"
        self.logs = self.path / "logs"
        self._lock: int | None = None

    def take(self) -> None:
        """Make the directory if need be and become the one process that serves it.

        Raises Refused when another process does, or when nothing can be written there.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(_explained(self.path, error)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise Refused(
                f"{self.path} is in use: process {holder} serves it (`helio down` stops it)"
            ) from None
        with contextlib.suppress(OSError):  # The number is for people; a full disk may lack it.
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Give the directory up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def check_room(self, free_bytes: Callable[[Path], int] | None = None) -> None:
        """Raise Refused when the disk is too full to start."""
        free = (free_bytes or free_bytes_of)(self.path)
        if free < START_BYTES_MIN:
            raise Refused(
                f"disk full: {free >> 20} MiB are free for {self.path}, "
                f"at least {START_BYTES_MIN >> 20} MiB are needed to start"
            )

    def identify(self, release: str, joined: str | None = None) -> ClusterIdentity:
        """Return whose data this is; an empty directory becomes a new cluster's.

        With the id of the cluster that is joined, an empty directory becomes a new node of it.
        Raises Refused for data of a newer release or of another cluster, or what is not ours.
        """
        found = self.identity()
        if found is None:
            self.refuse_strange_content()
            cluster, node = joined or str(uuid.uuid4()), uuid.uuid4().hex[:12]
            found = ClusterIdentity(cluster, node, FORMAT, release, founder=joined is None)
        if found.format > FORMAT:
            raise Refused(
                f"{self.path} was written by the newer release {found.release} (format "
                f"{found.format}); this is release {release} (format {FORMAT}): use the newer one"
            )
        if joined is not None and joined != found.id:
            raise Refused(
                f"{self.path} belongs to another cluster ({found.id}) "
                f"than the one to join ({joined})"
            )
        self._check_owner(found.id)
        if found.release != release or not self.identity_file.exists():
            found = replace(found, format=FORMAT, release=release)
            self._write(self.identity_file, json.dumps(asdict(found), indent=2))
        return found

    def identity(self) -> ClusterIdentity | None:
        """Return whose data this is, or None when it is nobody's yet. Raises Refused."""
        try:
            record = json.loads(self.identity_file.read_text())
            return ClusterIdentity(
                id=str(record["id"]),
                node=str(record["node"]),
                format=int(record["format"]),
                release=str(record["release"]),
                founder=bool(record.get("founder", True)),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self.identity_file} is not readable: {error}") from None

    def refuse_strange_content(self) -> None:
        """Raise Refused when what is no data directory yet holds anything of somebody else."""
        # Of a start that was cut off.
        ours = {"lock", "logs", "run.json", "tls", "demo-passwords", "ray-token", "cluster-tls"}
        strange = sorted(entry.name for entry in self.path.iterdir() if entry.name not in ours)
        if strange:
            raise Refused(
                f"{self.path} is not a data directory of Heliograph: it has no cluster.json, "
                f"but {strange[0]!r}"
            )

    def _check_owner(self, cluster_id: str) -> None:
        """See that the shards are this cluster's, before any is opened."""
        try:
            owner = self.owner_file.read_text().strip()
        except FileNotFoundError:
            if any(self.shards.glob("[0-9]*")):
                raise Refused(f"{self.owner_file} is missing: whose shards are these?") from None
            self.shards.mkdir(mode=0o700, exist_ok=True)
            self._write(self.owner_file, cluster_id)
            return
        if owner != cluster_id:
            raise Refused(
                f"{self.shards} holds data of another cluster ({owner}), not of {cluster_id}"
            )

    # Several nodes

    @property
    def directory_founded(self) -> bool:
        """Whether the directory of accounts was ever open while this node was there."""
        # Releases that knew one node only have left no note; what they made, they had founded.
        return self.founded_file.exists() or (self.shards / f"{DIRECTORY_SHARD:06d}.made").exists()

    def note_directory_founded(self) -> None:
        """Note for good that the directory of accounts has been opened."""
        if not self.founded_file.exists():
            self._write(self.founded_file, "")

    def token(self, given: Path | None = None) -> Path:
        """Return the file that holds the token of the cluster's Ray, copied from `given` or made.

        Raises Refused when `given` cannot be read or holds no token.
        """
        if given is not None:
            try:
                text = given.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Refused(f"the token file {given} cannot be read: {error}") from None
            if not TOKEN.fullmatch(text):
                raise Refused(f"{given} holds no token: one line of 32 or more letters and digits")
            self.keep_token(text)
        elif not self.token_file.exists():
            self._write(self.token_file, secrets.token_hex(TOKEN_BYTES))
        return self.token_file

    def keep_token(self, text: str) -> None:
        """Have this be the token of the cluster. Raises Refused."""
        if not self.token_file.exists() or self.token_file.read_text() != text:
            self._write(self.token_file, text)

    def read_head(self) -> Head | None:
        """Return the head that this node last knew. Raises Refused."""
        record = self._read_json(self.head_file)
        if record is None:
            return None
        try:
            return Head(str(record["node"]), str(record["address"]), int(record["term"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"{self.head_file} is not readable: {error!r}") from None

    def write_head(self, head: Head) -> None:
        """Remember whom to join, or that this node is the head."""
        if self.read_head() != head:
            self._write(self.head_file, json.dumps(asdict(head), indent=2))

    def read_nodes(self) -> dict[str, str]:
        """Return where each node's GCS would listen, or does, by node: `host:port`."""
        record = self._read_json(self.nodes_file) or {}
        return {str(node): str(address) for node, address in record.items()}

    def write_nodes(self, nodes: Mapping[str, str]) -> None:
        """Remember every node that this one has heard of."""
        if self.read_nodes() != nodes:
            self._write(self.nodes_file, json.dumps(dict(nodes), indent=2))

    # The running cluster

    def write_run(self, record: dict[str, Any]) -> None:
        """Say where the running cluster is, for commands and for the next start."""
        self._write(self.run_file, json.dumps(record, indent=2))

    def read_run(self) -> dict[str, Any] | None:
        """Return what the running cluster, or one that was killed, says of itself."""
        return self._read_json(self.run_file)

    def _read_json(self, file: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise Refused(f"{file} is not readable: {error}") from None
        return record if isinstance(record, dict) else None

    def forget_run(self) -> None:
        """Remove run.json: nothing runs here."""
        self.run_file.unlink(missing_ok=True)

    def demo_passwords(self, addresses: tuple[str, ...]) -> dict[str, str]:
        """Return the demo accounts' passwords, made the first time and kept."""
        known: dict[str, str] = {}
        if self.demo_file.exists():
            lines = self.demo_file.read_text().splitlines()
            known = dict(line.split(" ", 1) for line in lines if " " in line)
        missing = [address for address in addresses if address not in known]
        if missing:
            known |= {address: secrets.token_urlsafe(12) for address in missing}
            text = "".join(f"{address} {password}\n" for address, password in known.items())
            self._write(self.demo_file, text)
        return {address: known[address] for address in addresses}

    def _write(self, file: Path, text: str) -> None:
        """Replace a file as a whole, durably, readable by its owner only."""
        draft = file.with_name(f"{file.name}.new")
        try:
            draft.unlink(missing_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.rename(file)
            _sync_directory(file.parent)
        except OSError as error:
            raise Refused(_explained(file, error)) from None


def free_bytes_of(path: Path) -> int:
    """Return how many bytes this process may still write to the disk of `path`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full: {path} cannot be written"
    return f"{path} cannot be written: {error.strerror}"
