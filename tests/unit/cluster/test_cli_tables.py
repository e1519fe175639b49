"""CliTables and CliNodes: what people and programs read of nodes, shards and receipts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster import cli, cli_nodes
from cluster import cli_tables as tables
from cluster.status import replication_facts


def node(name: str, state: str = "alive", silent_ms: int | None = 40) -> dict[str, Any]:
    unknown = state == "unknown"
    return {
        "id": name,
        "name": name,
        "state": state,
        "shards": 3,
        "primaries": 1,
        "disk_free_bytes": None if unknown else 5 << 30,
        "version": None if unknown else "1.2.3",
        "silent_ms": silent_ms,
    }


def replica(name: str, role: str, state: str, lag: int = 0) -> dict[str, Any]:
    return {"node": name, "role": role, "state": state, "lag_entries": lag}


REPLICAS = [
    replica("n1", "primary", "serving"),
    replica("n2", "follower", "following", 6),
    replica("n3", "none", "unreachable"),
]
SHARD = {
    "id": 2,
    "kind": "mailbox",
    "epoch": 3,
    "primary": "n1",
    "replicas": REPLICAS,
    "mailboxes": 4,
    "pid": 77,
    "voters": 3,
    "copies": 2,
    "under_replicated": True,
}
FACTS = {
    "version": "1.2.3",
    "cluster": {
        "id": "a-cluster",
        "state": "degraded",
        "replication": replication_facts(3, 3, [SHARD]),
    },
    "listeners": [
        {"name": "smtp", "host": "127.0.0.1", "port": 2525, "node": "n1", "processes": 1}
    ],
    "nodes": [node("n1"), node("n2", "silent", 12_500), node("n3", "unknown", None)],
    "shards": [SHARD],
}


class FakeClient:
    """A cluster of three nodes, one of them heard."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def ask(self, method: str, *path: str) -> dict[str, Any]:
        self.asked.append((method, *path))
        if path == ("status",):
            return FACTS
        return {
            "address": path[1],
            "message": "M1f",
            "shard": 2,
            "epoch": 3,
            "index": 40,
            "replicas": [
                {"node": "n1", "role": "primary", "on_disk": True},
                {"node": "n2", "role": "follower", "on_disk": False},
                {"node": "n3", "role": "none", "on_disk": None},
            ],
        }


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setenv("COLUMNS", "200")
    for module in (cli, cli_nodes):
        monkeypatch.setattr(module, "client_of", lambda config, data: fake)
    return fake


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    """Return the lines that a command prints, as words."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert not ended.value.code
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_node_list(cluster: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "node", "list") == [
        ["node", "state", "replicas", "primaries", "free", "release"],
        ["n1", "alive", "3", "1", "5.0", "GiB", "1.2.3"],
        ["n2", "silent", "for", "12", "s", "3", "1", "5.0", "GiB", "1.2.3"],
        ["n3", "unknown,", "never", "heard", "3", "1"],
    ]


def test_shard_list(cluster: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    header, line = printed(capsys, "shard", "list")
    assert header[:5] == ["shard", "kind", "epoch", "primary", "replicas"]
    text = " ".join(line)
    assert text == (
        "2 mailbox 3 n1 n1 primary, n2 follower lag 6, n3 unreachable 2 of 3, under-replicated 4 77"
    )


@pytest.mark.parametrize("noun", ["node", "shard"])
def test_lists_for_programs(
    noun: str, cluster: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([noun, "list", "--json"])
    assert json.loads(capsys.readouterr().out) == {f"{noun}s": FACTS[f"{noun}s"]}


def test_status_of_several_nodes(cluster: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["status"])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "cluster a-cluster is degraded, release 1.2.3"
    shown = "under-replicated (wanted 3, in force 3), 1 of 1 shards have fewer copies now"
    assert lines[1] == shown
    assert "silent for 12 s" in out
    assert "n2 follower lag 6, n3 unreachable" in out


def test_replication_in_one_line() -> None:
    facts = replication_facts(3, 1, [SHARD])
    assert tables.replication_text(facts, 1) == "under-replicated (wanted 3, in force 1)"


def test_a_receipt(cluster: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("mailbox", "show", "a@example.test", "--message", "<1/2@example.test>")
    assert printed(capsys, *asked) == [
        ["message", "M1f", "of", "a@example.test,", "shard", "2"],
        ["committed", "in", "epoch", "3", "at", "index", "40"],
        [],
        ["node", "role", "on", "disk"],
        ["n1", "primary", "yes"],
        ["n2", "follower", "no"],
        ["n3", "none", "not", "known"],
    ]
    assert cluster.asked == [
        ("GET", "mailboxes", "a@example.test", "receipts", "<1/2@example.test>")
    ]


def test_a_receipt_of_a_message_whose_place_is_not_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = {"message": "M1", "address": "a@example.test", "shard": 2, "replicas": []}
    tables.print_receipt({**facts, "epoch": None, "index": None})
    assert "not recorded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "duration_ms, text",
    [(0, "0 ms"), (1999, "1999 ms"), (2000, "2 s"), (200_000, "3 min"), (9 * 86_400_000, "9 days")],
)
def test_duration_text(duration_ms: int, text: str) -> None:
    assert tables.duration_text(duration_ms) == text


def test_a_state_that_goes_without_saying_is_not_said() -> None:
    one = [replica("n1", "primary", "recovering"), replica("n2", "learner", "following")]
    assert tables.replicas_text(one) == "n1 primary recovering, n2 learner"
    assert tables.replicas_text([replica("n1", "none", "resting")]) == "n1 resting"
