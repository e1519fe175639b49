"""Cli: usage, sizes, and what `config show` prints. Commands against a cluster: tests/cluster."""

import json
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.cli_commands import quota_bytes
from cluster.cli_tables import size_text
from cluster.refusal import EXIT_USAGE, Refused


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    "text, size", [("0", 0), ("1048576", 1 << 20), ("500M", 500 << 20), ("2GiB", 2 << 30)]
)
def test_quota(text: str, size: int) -> None:
    assert quota_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "5X", "9" * 16])
def test_no_quota(text: str) -> None:
    with pytest.raises(Refused) as refused:
        quota_bytes(text)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 30, "200 GiB")]
)
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text


def test_config_show(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", "show", "--json"])
    assert not ended.value.code
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["smtp.port"]["value"] == 2525
    assert found["smtp.port"]["variable"] == "HELIO_SMTP__PORT"
    assert found["smtp.port"]["doc"]


def test_config_show_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config", "show"])
    assert "smtp.port" in capsys.readouterr().out


def test_refusal_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--data", str(tmp_path)])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"helio: no cluster runs on {tmp_path} (start one with `helio up`)\n"


def test_unknown_command() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["upp"])
    assert ended.value.code == EXIT_USAGE
