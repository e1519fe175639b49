"""A disk that really is full: 452, reads go on, nothing lost, and recovery without help.

The data directory is a small file system of its own. That needs root, or user namespaces: then
the whole test runs once more inside one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.cluster_fixture import Cluster, running
from tests.e2e.jmap_client import JmapClient, client_of
from tests.e2e.letters import Answer, assert_each_once, letter, send

MIB = 1 << 20
DISK_BYTES = 192 * MIB
FLOOR_BYTES = 4 * MIB
USERS = ("alice@example.test", "bob@example.test")
WAIT_S = 60.0
INSIDE = "HELIO_TEST_NAMESPACE"
MNT_DETACH = 2
numbers = count(1)


def mount(path: Path, size_bytes: int) -> bool:
    """Mount a small file system; say whether that is allowed here."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    if not mount(path, DISK_BYTES):
        pytest.skip("no file system can be mounted here, not even in a user namespace")
    try:
        yield path
    finally:
        ctypes.CDLL(None).umount2(str(path).encode(), MNT_DETACH)


class Ballast:
    """A file that fills the disk, as another program may."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"

    def fill(self, *, leaving_bytes: int) -> None:
        """Take all of the disk but so much."""
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT)
        try:
            found = os.statvfs(self.path)
            size = os.fstat(handle).st_size
            more = found.f_bavail * found.f_frsize - leaving_bytes
            if more > 0:
                with contextlib.suppress(OSError):  # Others take some of it meanwhile.
                    os.posix_fallocate(handle, size, more)
        finally:
            os.close(handle)

    def drop(self) -> None:
        self.path.unlink()


class Post:
    """What was sent, and what was answered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.answers: dict[tuple[str, int], Answer] = {}

    def one(self, user: str, *, size_bytes: int = 2000) -> Answer:
        number = next(numbers)
        answer = send(*self.cluster.smtp, [user], letter(number, size_bytes=size_bytes))
        self.answers[user, number] = answer
        return answer

    def until(self, user: str, codes: set[int]) -> Answer:
        """Send to a user until one of these codes is answered."""
        deadline = time.monotonic() + WAIT_S
        while (answer := self.one(user)).code not in codes:
            assert answer.code == 0 or answer.code // 100 in (2, 4), answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.3)
        return answer

    def check(self) -> None:
        """Every 250 is there once, all else at most once."""
        for user in USERS:
            assert_each_once(client_of(self.cluster, user), user, self.answers)


def read_all(client: JmapClient, expected: int) -> None:
    """List, read, download and search; nothing of it may fail."""
    ids = client.query()
    assert len(ids) >= expected
    emails = client.emails(ids, "subject", "blobId", "size", "preview")
    newest = emails[0]
    assert len(client.download(newest["blobId"])) == newest["size"]
    assert client.query({"subject": emails[-1]["subject"]}) != []
    assert client.query({"text": "nowhere"}) == []


def retried(client: JmapClient, expected: int) -> None:
    """Read as soon as an actor that was killed is back."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return read_all(client, expected)
        except (AssertionError, OSError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)


def writes_are_refused(client: JmapClient) -> None:
    """An upload and a change are told what is wrong, in JMAP's words."""
    status, _, body = client.request("POST", f"/jmap/upload/{client.account}", b"x" * 100)
    assert status == 503
    assert b"serverUnavailable" in body
    (email,) = client.query()[:1]
    call = {"accountId": client.account, "update": {email: {"keywords/$flagged": True}}}
    ((name, error, _),) = client.calls(["Email/set", call, "c"])
    assert (name, error["type"]) == ("error", "serverUnavailable")


def troubles(cluster: Cluster) -> list[str]:
    """Return what `helio status` says of shards that are not well."""
    shards = cluster.status()["shards"]
    return [shard["trouble"] for shard in shards if "trouble" in shard]


def test_a_full_disk(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.geteuid() != 0 and INSIDE not in os.environ:
        again_as_root(request.node.nodeid)
        return
    disk: Path = request.getfixturevalue("disk")
    settings = {"HELIO_DISK_FLOOR_BYTES": str(FLOOR_BYTES)}
    with running(disk / "data", demo=True, settings=settings) as cluster:
        ballast, post = Ballast(disk), Post(cluster)
        clients = {user: client_of(cluster, user) for user in USERS}
        with ThreadPoolExecutor(4) as pool:
            assert all(answer.code == 250 for answer in pool.map(post.one, USERS * 15))

        # The floor is reached: nothing new, and all that is there.
        ballast.fill(leaving_bytes=FLOOR_BYTES // 2)
        answer = post.until(USERS[0], {452})
        assert answer.text.startswith("4.3.1 "), answer
        post.until(USERS[1], {452})
        for client in clients.values():
            read_all(client, 15)
            writes_are_refused(client)
        ballast.drop()
        assert [post.until(user, {250}).code for user in USERS] == [250, 250]

        # Above the floor, but not for long: a large letter meets the end of the disk itself.
        ballast.fill(leaving_bytes=12 * MIB)
        large = post.one(USERS[0], size_bytes=30 * MIB)
        assert large.code // 100 == 4, large
        ballast.fill(leaving_bytes=0)
        post.until(USERS[0], {452})
        read_all(clients[USERS[0]], 16)
        writes_are_refused(clients[USERS[0]])
        assert troubles(cluster), "the disk itself was met, not only the floor"

        # An actor that dies meanwhile comes back to read.
        pid = cluster.facts("mailbox", "show", USERS[0])["pid"]
        os.kill(pid, 9)
        retried(clients[USERS[0]], 16)
        assert post.one(USERS[0]).code // 100 == 4
        post.until(USERS[0], {452})

        # There is room again: nobody has to do anything.
        ballast.drop()
        for user in USERS:
            assert post.until(user, {250}).code == 250
        assert post.one(USERS[0], size_bytes=10 * MIB).code == 250
        assert not troubles(cluster)
        post.check()
        for client in clients.values():
            retried(client, 17)


def again_as_root(node: str) -> None:
    """Run a test in a user namespace in which a file system may be mounted."""
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", node]
    done = subprocess.run(
        ["unshare", "-Urm", *inner],
        env=os.environ | {INSIDE: "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if "skipped" in done.stdout or "unshare failed" in done.stderr:
        pytest.skip("no file system can be mounted here, not even in a user namespace")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
