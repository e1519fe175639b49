"""SMTP in its breadth, on a real cluster: two processes on one port, chunks, a full mailbox."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster_fixture import Cluster, running
from tests.e2e.jmap_client import JmapClient, client_of
from tests.e2e.letters import letter, send

USER = "alice@example.test"
CONNECTIONS = 40  # That none of them comes to one of two processes: once in 2 ** 39 runs.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("smtp") / "data"
    with running(data, demo=True, settings={"HELIO_SMTP__PROCESSES": "2"}) as started:
        yield started


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> JmapClient:
    return client_of(cluster, USER)


def counted(client: JmapClient, name: str) -> dict[str, float]:
    """Return a counter by SMTP process."""
    status, _, body = client.request("GET", "/metrics")
    assert status == 200
    found = re.findall(rf'(?m)^heliograph_smtp_{name}{{process="(\d)"}} (\S+)$', body.decode())
    return {process: float(value) for process, value in found}


def test_two_processes_share_one_port(cluster: Cluster, alice: JmapClient) -> None:
    smtp = [line for line in cluster.ready if line == "smtp"]
    assert len(smtp) == 1
    assert cluster.lines[-1].count("smtp=") == 1
    [listener] = [one for one in cluster.wait_serving()["listeners"] if one["name"] == "smtp"]
    assert (listener["host"], listener["port"]) == cluster.smtp
    assert listener["processes"] == 2
    assert len(cluster.actors("SmtpActor")) == 2
    for number in range(CONNECTIONS):
        answer = send(*cluster.smtp, [USER], letter(number))
        assert answer.code == 250, answer
    accepted = counted(alice, "accepted")
    assert set(accepted) == {"0", "1"}
    assert all(accepted.values())
    assert sum(accepted.values()) == CONNECTIONS
    assert len(alice.query({"subject": "number"})) == CONNECTIONS


def test_one_of_two_killed_leaves_the_other_and_comes_back(cluster: Cluster) -> None:
    before = set(cluster.actors("SmtpActor"))
    os.kill(min(before), signal.SIGKILL)
    # Connections that the dead one had in its queue are lost, later ones go to the other.
    deadline = time.monotonic() + 60
    taken = 0
    while taken < 10:
        taken += send(*cluster.smtp, [USER], letter(1000 + taken), timeout_s=10).code == 250
        assert time.monotonic() < deadline
    while len(now := set(cluster.actors("SmtpActor"))) < 2 or now == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    [listener] = [one for one in cluster.wait_serving()["listeners"] if one["name"] == "smtp"]
    assert listener["processes"] == 2


def test_a_binary_message_by_chunks_is_downloaded_byte_for_byte(
    cluster: Cluster, alice: JmapClient
) -> None:
    noise = os.urandom(1_500_000)
    message = (
        b"From: peer@x.test\r\nSubject: by chunks\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="edge of it"\r\n\r\n'
        b"--edge of it\r\nContent-Type: text/plain\r\n\r\nsee the octets\r\n"
        b"--edge of it\r\nContent-Type: application/octet-stream; name=noise\r\n"
        b"Content-Disposition: attachment; filename=noise\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n" + noise + b"\r\n--edge of it--\r\n"
    )
    with smtplib.SMTP(*cluster.smtp, local_hostname="x.test", timeout=60) as peer:
        peer.ehlo()
        assert peer.has_extn("chunking")
        assert peer.has_extn("binarymime")
        assert peer.mail("peer@x.test", ["BODY=BINARYMIME"])[0] == 250
        assert peer.rcpt(USER)[0] == 250
        assert peer.docmd("DATA")[0] == 503
        for start in range(0, len(message), 500_000):
            chunk = message[start : start + 500_000]
            peer.putcmd(f"BDAT {len(chunk)}")
            peer.send(chunk)
            code, text = peer.getreply()
            assert (code, text) == (250, b"2.0.0 %d octets received" % len(chunk))
        assert peer.docmd("BDAT 0 LAST")[0] == 250
    [email] = alice.emails(alice.query({"subject": "by chunks"}), "blobId", "attachments")
    stored = alice.download(email["blobId"])
    assert stored.startswith(b"Return-Path: <peer@x.test>\r\n")
    assert stored.endswith(message)
    [part] = email["attachments"]
    assert alice.download(part["blobId"]) == noise


def test_a_full_mailbox_is_told_at_rcpt_and_the_others_get_it(cluster: Cluster) -> None:
    added = cluster.helio(
        "account", "add", "small@example.test", "--password-stdin", "--quota", "4000",
        stdin="correct horse battery",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert send(*cluster.smtp, ["small@example.test"], letter(1, size_bytes=2000)).code == 250
    with smtplib.SMTP(*cluster.smtp, local_hostname="x.test", timeout=60) as peer:
        peer.ehlo()
        assert peer.mail("peer@x.test", ["SIZE=3000"])[0] == 250
        code, text = peer.rcpt("small@example.test")
        assert (code, text[:5]) == (452, b"4.2.2")
        assert peer.rcpt(USER)[0] == 250
        assert peer.data(letter(2))[0] == 250
    large = send(*cluster.smtp, ["small@example.test"], letter(3, size_bytes=3000))
    assert large.code == 552, large  # It had not said how large it would be.
    assert large.text.startswith("5.2.2")


def test_loopback_is_trusted_and_may_not_relay(cluster: Cluster) -> None:
    with smtplib.SMTP(*cluster.smtp, local_hostname="x.test", timeout=60) as peer:
        peer.ehlo()
        assert peer.mail(USER)[0] == 250
        code, text = peer.rcpt("peer@elsewhere.test")
        assert (code, text[:5]) == (550, b"5.7.1")
