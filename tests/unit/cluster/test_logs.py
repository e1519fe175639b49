"""Logs: JSON lines without anything private."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cluster import logs


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    logs.configure(tmp_path / "logs" / "x.log", "info")
    yield tmp_path / "logs" / "x.log"
    root.handlers[:], root.level, logging.raiseExceptions = before
    structlog.reset_defaults()


def test_events_are_json_lines(file: Path) -> None:
    structlog.get_logger("one").info("shard open", shard=2)
    logging.getLogger("two").warning("old %s", "style", extra={"peer": "x"})
    structlog.get_logger("one").debug("not important")
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["event"], first["shard"], first["level"]) == ("shard open", 2, "info")
    assert (second["event"], second["peer"]) == ("old style", "x")


def test_private_fields_are_dropped(file: Path) -> None:
    structlog.get_logger().info(
        "sign-in", password="p1", Authorization="Basic p2", inner={"token": "p3", "ok": [b"p4"]}
    )
    logging.getLogger("two").info("x", extra={"subject": "p5", "body": "p6", "raw": "p7"})
    text = file.read_text()
    assert [word for word in ("p1", "p2", "p3", "p4", "p5", "p6", "p7") if word in text] == []
    assert "sign-in" in text


def test_long_values_are_cut(file: Path) -> None:
    structlog.get_logger().info("x", reply="y" * 10_000)
    assert len(file.read_text()) < 3000


def test_exceptions_are_kept(file: Path) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: why" in json.loads(file.read_text())["exception"]


def test_full_disk_does_not_stop_anything(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.mkdir()  # No file can be opened there.
    structlog.get_logger().info("x")
    assert capfd.readouterr() == ("", "")
