"""`helio cluster init` and `helio cluster invite`: what they make, and what they refuse."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.cluster_ca import Invitation
from cluster.data_directory import DataDirectory


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIO_CLUSTER__BIND", "192.0.2.1")
    monkeypatch.setenv("HELIO_DATA", str(tmp_path / "data"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["cluster", *arguments])
    return int(ended.value.code or 0)


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def test_init_makes_a_cluster_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = facts(capsys, "init")
    data = DataDirectory(tmp_path / "data")
    identity = data.identity()
    assert identity is not None
    assert (made["cluster"], made["node"]) == (identity.id, identity.node)
    assert made["address"] == "192.0.2.1"
    for name in ("ca_key", "token_file"):
        assert stat.S_IMODE(Path(made[name]).stat().st_mode) == 0o600
    before = contents(tmp_path)
    assert facts(capsys, "init") == made
    assert contents(tmp_path) == before


def test_init_may_be_repeated_while_the_node_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = facts(capsys, "init")
    data = DataDirectory(tmp_path / "data")
    data.take()
    try:
        assert facts(capsys, "init") == made
    finally:
        data.release()


def test_an_invitation_has_all_that_a_node_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = facts(capsys, "init")
    out = tmp_path / "invitation"
    assert run("invite", "192.0.2.2", "--out", str(out)) == 0
    assert "--invitation" in capsys.readouterr().out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    invitation = Invitation.read(out)
    assert (invitation.cluster, invitation.address) == (made["cluster"], "192.0.2.2")
    assert invitation.token == Path(made["token_file"]).read_text()
    assert run("invite", "192.0.2.2", "--out", str(out)) == 1
    assert run("invite", "mx.example.test", "--out", str(tmp_path / "other")) == 2


def test_who_has_not_begun_the_cluster_invites_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invite", "192.0.2.2", "--out", "invitation") == 1
    assert "cluster init" in capsys.readouterr().err
    data = DataDirectory(tmp_path / "data")
    data.take()
    data.identify("1", "another-cluster")
    data.release()
    assert run("init") == 1
    assert run("invite", "192.0.2.2", "--out", "invitation") == 1
    assert not Path("invitation").exists()
