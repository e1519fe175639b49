"""DataDirectory: whose it is, who may use it, what it keeps."""

import json
import stat
from pathlib import Path

import pytest

from cluster.data_directory import FORMAT, START_BYTES_MIN, DataDirectory
from cluster.refusal import Refused


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path / "data")
    directory.take()
    return directory


def test_identity_is_made_once_and_kept(data: DataDirectory) -> None:
    first = data.identify("1.0")
    assert data.identify("1.0") == first
    assert first.format == FORMAT


def test_a_newer_release_leaves_its_name(data: DataDirectory) -> None:
    first = data.identify("1.0")
    second = data.identify("1.1")
    assert (second.id, second.node, second.release) == (first.id, first.node, "1.1")
    assert data.identify("1.0").id == first.id  # The format is the same: going back is allowed.


def test_one_process_at_a_time(data: DataDirectory) -> None:
    other = DataDirectory(data.path)
    with pytest.raises(Refused, match=r"is in use: process \d+"):
        other.take()
    data.release()
    other.take()


def test_newer_format_is_refused(data: DataDirectory) -> None:
    record = {"id": "x", "node": "n", "format": FORMAT + 1, "release": "9.9"}
    data.identity_file.write_text(json.dumps(record))
    with pytest.raises(Refused, match=r"newer release 9\.9"):
        data.identify("1.0")


def test_shards_of_another_cluster_are_refused(data: DataDirectory) -> None:
    data.identify("1.0")
    record = json.loads(data.identity_file.read_text())
    data.identity_file.write_text(json.dumps(record | {"id": "another"}))
    with pytest.raises(Refused, match="another cluster"):
        data.identify("1.0")


def test_shards_of_nobody_are_refused(data: DataDirectory) -> None:
    data.identify("1.0")
    (data.shards / "000001").mkdir()
    data.owner_file.unlink()
    with pytest.raises(Refused, match="whose shards"):
        data.identify("1.0")


def test_what_is_not_ours_is_refused(data: DataDirectory) -> None:
    (data.path / "photos").mkdir()
    with pytest.raises(Refused, match="not a data directory of Heliograph"):
        data.identify("1.0")


def test_broken_identity_is_refused(data: DataDirectory) -> None:
    data.identity_file.write_text("{")
    with pytest.raises(Refused, match="not readable"):
        data.identify("1.0")


def test_full_disk_is_refused(data: DataDirectory) -> None:
    data.check_room(lambda _: START_BYTES_MIN)
    with pytest.raises(Refused, match="disk full: 1 MiB are free"):
        data.check_room(lambda _: 1 << 20)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Refused, match="cannot be written"):
        DataDirectory(file).take()


def test_run_record(data: DataDirectory) -> None:
    assert data.read_run() is None
    data.write_run({"pid": 1})
    assert data.read_run() == {"pid": 1}
    assert stat.S_IMODE(data.run_file.stat().st_mode) == 0o600
    data.forget_run()
    assert data.read_run() is None


def test_demo_passwords_are_made_once(data: DataDirectory) -> None:
    first = data.demo_passwords(("a@x.test",))
    again = data.demo_passwords(("a@x.test", "b@x.test"))
    assert again["a@x.test"] == first["a@x.test"]
    assert len(set(again.values())) == 2
    assert stat.S_IMODE(data.demo_file.stat().st_mode) == 0o600
