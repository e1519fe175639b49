"""Import and export with the real command, while mail comes in and after being broken off."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.cluster_fixture import HELIO, Cluster, environment
from tests.e2e.letters import letter, send

COUNT = 1500
RECEIVED_S = 1_700_000_000


@pytest.fixture(scope="module")
def maildir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Maildir of COUNT messages in two folders, one in five of them unread."""
    path = tmp_path_factory.mktemp("source") / "Maildir"
    for number in range(COUNT):
        directory = path / ("cur" if number % 3 else ".Work.&1VyuAA-/cur")
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"{RECEIVED_S + number}.M{number}.host:2,{'S' if number % 5 else ''}"
        file.write_bytes(letter(number).replace(b"\r\n", b"\n"))
        os.utime(file, (RECEIVED_S + number,) * 2)
    return path


def digests(path: Path) -> dict[str, list[tuple[str, int, str]]]:
    """Return digest, time and flags of the messages of each folder of a Maildir."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for file in path.rglob("*"):
        if file.parent.name in ("cur", "new") and file.is_file():
            octets = file.read_bytes()
            if b"\r\n" not in octets:
                octets = octets.replace(b"\n", b"\r\n")
            facts = hashlib.sha256(octets).hexdigest(), int(file.stat().st_mtime)
            flags = file.name.rpartition(":2,")[2]
            found.setdefault(file.parent.parent.name, []).append((*facts, flags))
    return {name: sorted(rows) for name, rows in found.items()}


def test_an_import_that_is_killed_goes_on_and_an_export_gives_it_all_back(
    cluster: Cluster, maildir: Path, tmp_path: Path
) -> None:
    cluster.add_account("carol@example.test")
    arguments = ("import", "carol@example.test", "--maildir", str(maildir))
    killed = subprocess.Popen((*HELIO, *arguments), env=environment(cluster.data))
    deadline = time.monotonic() + 60
    while not cluster.facts("mailbox", "show", "carol@example.test")["messages"]:
        assert time.monotonic() < deadline
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    facts = cluster.facts(*arguments)
    assert facts["stored"] + facts["present"] == COUNT
    assert (facts["failed"], facts["stopped"]) == (0, "")
    again = cluster.facts(*arguments)
    assert (again["stored"], again["present"]) == (0, COUNT)
    shown = cluster.facts("mailbox", "show", "carol@example.test")
    assert (shown["messages"], shown["unread"]) == (COUNT, COUNT // 5)
    out = tmp_path / "out"
    facts = cluster.facts("export", "carol@example.test", "--maildir", str(out))
    assert (facts["stored"], facts["failed"]) == (COUNT, 0)
    found, source = digests(out), digests(maildir)
    assert found["out"] == source["Maildir"]
    assert found[".Work.&1VyuAA-"] == source[".Work.&1VyuAA-"]


def test_an_export_while_mail_comes_in(cluster: Cluster, maildir: Path, tmp_path: Path) -> None:
    cluster.add_account("dave@example.test")
    done = threading.Event()
    sent: list[int] = []

    def keep_sending() -> None:
        while not done.is_set():
            answer = send(*cluster.smtp, ["dave@example.test"], letter(10_000 + len(sent)))
            assert answer.code == 250
            sent.append(len(sent))

    thread = threading.Thread(target=keep_sending)
    thread.start()
    try:
        cluster.facts("import", "dave@example.test", "--maildir", str(maildir))
        first = cluster.facts("export", "dave@example.test", "--eml", str(tmp_path / "eml"))
    finally:
        done.set()
        thread.join()
    assert first["stored"] >= COUNT
    second = cluster.facts("export", "dave@example.test", "--eml", str(tmp_path / "eml"))
    assert second["present"] == first["stored"]
    assert second["present"] + second["stored"] == COUNT + len(sent)
    assert len(list((tmp_path / "eml").rglob("*.eml"))) == COUNT + len(sent)


def test_mbox_and_what_is_told(cluster: Cluster, tmp_path: Path) -> None:
    mbox = tmp_path / "Archive 2019.mbox"
    line = b"From a@x.test Tue Jan  2 10:00:00 2024\n"
    small = letter(1, size_bytes=200).replace(b"\r\n", b"\n")
    mbox.write_bytes(line + small + b"\n" + line + b"\n\n\n" + line + b"Subject: x\n\nlast\n")
    cluster.add_account("erin@example.test")
    done = cluster.helio("import", "erin@example.test", "--mbox", str(mbox))
    assert done.returncode == 1
    assert "2 messages imported" in done.stdout
    assert "1 failed" in done.stdout
    assert "is empty" in done.stderr
    done = cluster.helio("export", "erin@example.test", "--mbox", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stored"] == 2
    written = (tmp_path / "out" / "Archive 2019.mbox").read_bytes()
    assert written.count(b"\nFrom ") == 1
    for arguments, code in (
        (("import", "erin@example.test"), 2),
        (("import", "erin@example.test", "--maildir", str(tmp_path)), 2),
        (("import", "erin@example.test", "--mbox", str(tmp_path / "none")), 2),
        (("import", "nobody@example.test", "--mbox", str(mbox)), 1),
        (("export", "nobody@example.test", "--mbox", str(tmp_path / "none")), 1),
    ):
        done = cluster.helio(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr


def test_a_full_mailbox_over_smtp_and_import(cluster: Cluster, maildir: Path) -> None:
    cluster.helio("domain", "add", "example.test")
    cluster.facts(
        "account", "add", "frank@example.test", "--quota", "100K", "--password-stdin", stdin="pw pw"
    )
    done = cluster.helio("import", "frank@example.test", "--maildir", str(maildir))
    assert done.returncode == 1
    assert "full" in done.stderr
    shown = cluster.facts("mailbox", "show", "frank@example.test")
    assert 0 < shown["bytes"] <= 100 << 10
    answer = send(*cluster.smtp, ["frank@example.test"], letter(99_999, size_bytes=50_000))
    assert answer.code in (452, 552), answer
    assert answer.text.startswith(("4.2.2", "5.2.2"))
