"""`helio account add --file`: what a line is, how many go in one call, what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from cluster import cli_batch
from cluster.cli_batch import add_accounts, batches, read_lines
from cluster.control_client import ControlClient
from cluster.refusal import Refused


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "accounts"
    file.write_text("\ufeffa@x.test\n\n# none\nb@x.test, with, commas \r\n  c@x.test  \n")
    assert read_lines(file) == [
        ("a@x.test", ""),
        ("b@x.test", " with, commas "),
        ("c@x.test", ""),
    ]
    with pytest.raises(Refused):
        read_lines(tmp_path / "missing")


def test_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_batch, "ACCOUNTS_IN_BATCH_MAX", 4)
    monkeypatch.setattr(cli_batch, "PASSWORDS_IN_BATCH_MAX", 2)
    lines = [("a", ""), ("b", "p"), ("c", "p"), ("d", "p"), ("e", ""), ("f", ""), ("g", "")]
    found = list(batches(lines))
    assert [len(batch) for batch in found] == [3, 4]
    assert [line for batch in found for line in batch] == lines
    assert list(batches([])) == []


class FakeClient:
    """Takes one address of each call and knows another already."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def ask(self, method: str, *path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (method, path) == ("POST", ("accounts", "batch"))
        self.bodies.append(body)
        refused = [
            {"address": "b", "error": "b is taken", "kind": "AlreadyExists"},
            {"address": "c", "error": "no domain", "kind": "NotFound"},
        ]
        return {"made": 1, "refused": refused}


def test_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "accounts"
    file.write_text("a\nb\nc\n")
    client = FakeClient()
    code = add_accounts(cast(ControlClient, client), file, {"quota_bytes": 5}, json=True)
    assert code == 1
    assert client.bodies == [
        {"quota_bytes": 5, "accounts": [("a", ""), ("b", ""), ("c", "")]},
    ]
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert (facts["made"], facts["present"]) == (1, 1)
    assert facts["refused"] == [{"address": "c", "error": "no domain"}]
    assert "helio: c: no domain" in captured.err
