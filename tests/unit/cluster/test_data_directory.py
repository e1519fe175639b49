"""DataDirectory: whose it is, who may use it, what it keeps."""

import json
import stat
from pathlib import Path

import pytest

from cluster.data_directory import FORMAT, START_BYTES_MIN, DataDirectory, Head
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


def test_a_node_that_joins_is_no_founder(data: DataDirectory) -> None:
    joined = data.identify("1.0", joined="c")
    assert (joined.id, joined.founder) == ("c", False)
    assert data.identify("1.0") == joined
    with pytest.raises(Refused, match=r"another cluster \(c\)"):
        data.identify("1.0", joined="d")


def test_an_identity_of_a_release_of_one_node_is_the_founders(data: DataDirectory) -> None:
    data.identify("1.0")
    record = json.loads(data.identity_file.read_text())
    del record["founder"]
    data.identity_file.write_text(json.dumps(record))
    assert data.identify("1.0").founder


def test_the_directory_is_founded_once(data: DataDirectory) -> None:
    data.identify("1.0")
    assert not data.directory_founded
    data.note_directory_founded()
    assert data.directory_founded


def test_what_an_earlier_release_made_it_had_founded(data: DataDirectory) -> None:
    data.identify("1.0")
    (data.shards / "000001.made").touch()
    assert data.directory_founded


def test_the_token_is_made_once_and_the_owners(data: DataDirectory) -> None:
    text = data.token().read_text()
    assert data.token().read_text() == text
    assert len(text) == 64
    assert stat.S_IMODE(data.token_file.stat().st_mode) == 0o600


def test_the_token_of_the_cluster_that_is_joined(data: DataDirectory, tmp_path: Path) -> None:
    given = tmp_path / "token"
    given.write_text("a" * 64 + "\n")
    assert data.token(given).read_text() == "a" * 64
    given.write_text("short")
    with pytest.raises(Refused, match="holds no token"):
        data.token(given)
    with pytest.raises(Refused, match="cannot be read"):
        data.token(tmp_path / "missing")


def test_head_and_nodes_are_remembered(data: DataDirectory) -> None:
    assert data.read_head() is None
    assert data.read_nodes() == {}
    head = Head("n", "127.0.0.1:1", 2)
    data.write_head(head)
    data.write_nodes({"n": "127.0.0.1:1"})
    assert data.read_head() == head
    assert data.read_nodes() == {"n": "127.0.0.1:1"}
