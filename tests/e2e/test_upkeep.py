"""An operator's upkeep through the real command: audit, reindex, collect, salvage."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cluster.post import send
from tests.e2e import letters
from tests.e2e.cluster_fixture import Cluster, running
from tests.e2e.jmap_client import JmapClient

ALICE, BOB = "alice@example.test", "bob@example.test"
MARKER = "Xv9kqzmarker"


def client(cluster: Cluster, address: str = ALICE) -> JmapClient:
    return JmapClient(cluster.http, address, cluster.passwords[address])


def marked(number: int) -> bytes:
    """A message with the marker in its subject, its body and the name of an attachment."""
    return (
        f"From: sender@client.example.test\r\nTo: {ALICE}\r\nSubject: {MARKER} {number}\r\n"
        f"Message-ID: <{MARKER}{number}@client.example.test>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain\r\n\r\nwith {MARKER} in it\r\n"
        "--b\r\nContent-Type: application/octet-stream\r\n"
        f'Content-Disposition: attachment; filename="{MARKER}.bin"\r\n\r\n'
        + "octets " * (2000 * number)
        + "\r\n--b--\r\n"
    ).encode()


def files_with(data: Path, word: str) -> list[str]:
    found = []
    for file in data.rglob("*"):
        if file.is_file() and word.lower().encode() in file.read_bytes().lower():
            found.append(str(file.relative_to(data)))
    return found


def ids(jmap: JmapClient, text: str | None = None) -> list[str]:
    arguments = {"accountId": jmap.account, "filter": {"subject": text} if text else None}
    ((_, found, _),) = jmap.calls(["Email/query", arguments, "0"])
    return list(found["ids"])


def test_audit_index_and_garbage(tmp_path: Path) -> None:
    with running(tmp_path / "data", demo=True) as cluster:
        for number in range(12):
            send(cluster, ALICE, f"kept number{number}")
        send(cluster, BOB, "kept too")
        for number in (1, 3, 60):
            answer = letters.send(*cluster.smtp, [ALICE], marked(number))
            assert answer.code == 250, answer
        jmap = client(cluster)
        assert len(ids(jmap, MARKER)) == 3
        shard = cluster.facts("mailbox", "show", ALICE)["shard"]

        audit = cluster.facts("mailbox", "audit", "--all")
        assert (audit["mailboxes"], audit["emails"], audit["findings"]) == (2, 16, [])
        one = cluster.facts("mailbox", "audit", ALICE, "--repair")
        assert (one["mailboxes"], one["emails"], one["left"]) == (1, 15, 0)
        assert cluster.helio("mailbox", "audit").returncode == 2
        assert "15 emails looked at" in cluster.helio("mailbox", "audit", ALICE).stdout

        indexed = cluster.facts("mailbox", "reindex", ALICE)
        assert indexed == {"shards": [{"id": shard, "emails": 15}]}
        assert "15 emails indexed" in cluster.helio("mailbox", "reindex", ALICE).stdout
        assert len(ids(jmap, MARKER)) == 3

        destroyed = ids(jmap, MARKER)
        jmap.calls(["Email/set", {"accountId": jmap.account, "destroy": destroyed}, "0"])
        assert files_with(cluster.data, MARKER)
        dry = cluster.facts("shard", "collect", "--all", "--dry-run")
        assert sum(row["unused_blobs"] for row in dry["shards"]) == 3
        assert sum(row["dropped_blobs"] for row in dry["shards"]) == 0
        assert (
            "nothing deleted" in cluster.helio("shard", "collect", str(shard), "--dry-run").stdout
        )
        (done,) = cluster.facts("shard", "collect", str(shard))["shards"]
        assert (done["unused_blobs"], done["dropped_blobs"], done["rewritten"]) == (3, 3, 1)
        deadline = time.monotonic() + 10
        while files_with(cluster.data, MARKER) and time.monotonic() < deadline:
            time.sleep(0.2)  # RocksDB removes files a moment later.
        assert files_with(cluster.data, MARKER) == []
        assert len(ids(jmap)) == 12
        assert len(ids(jmap, "number7")) == 1
        assert cluster.facts("mailbox", "audit", "--all")["findings"] == []
        status, _, metrics = jmap.request("GET", "/metrics")
        assert status == 200
        assert f'heliograph_shard_audit_findings{{shard="{shard}"}} 0\n' in metrics.decode()
        assert f'heliograph_shard_collected_blobs_total{{shard="{shard}"}} 3\n' in metrics.decode()


def test_salvage_while_the_rest_is_served_and_while_all_is_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, demo=True) as cluster:
        for number in range(20):
            send(cluster, ALICE, f"kept number{number}")
        send(cluster, BOB, "kept too")
        shard = cluster.facts("mailbox", "show", ALICE)["shard"]
        other = cluster.facts("mailbox", "show", BOB)["shard"]
        assert "serving" in cluster.helio("shard", "salvage", str(shard)).stderr
    database = data / "shards" / f"{shard:06d}" / "db"
    for file in database.glob("MANIFEST*"):
        file.write_bytes(b"garbage" * 100)
    for file in (data / "shards" / f"{other:06d}").glob("hard_state"):
        file.write_bytes(b"\0" * 8192)

    with running(data) as cluster:
        deadline = time.monotonic() + 60
        while True:  # `ready` is said before every shard is open.
            listed = cluster.facts("shard", "list")["shards"]
            states = {one["id"]: one["replicas"][0]["state"] for one in listed}
            if states[shard] == states[other] == "damaged":
                break
            assert time.monotonic() < deadline, states
        saved = cluster.facts("shard", "salvage", str(shard))
        assert (saved["messages"], saved["lost"], saved["unresolved"]) == (20, [], [])
        assert Path(saved["damaged"]).is_dir()
        jmap = client(cluster)
        assert len(ids(jmap, "kept")) == 20
        send(cluster, ALICE, "later")
        assert len(ids(jmap)) == 21
        assert cluster.facts("mailbox", "audit", ALICE)["findings"] == []

    done = cluster.helio("shard", "salvage", str(other), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "hard_state").exists()
    done = cluster.helio("shard", "salvage", str(other))
    assert done.returncode == 0, done.stderr
    assert "1 messages of 1 mailboxes saved" in done.stdout
    with running(data) as cluster:
        assert cluster.wait_serving()["cluster"]["state"] == "serving"
        assert len(ids(client(cluster, BOB))) == 1
