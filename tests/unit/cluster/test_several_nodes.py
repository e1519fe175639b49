"""Several nodes below one directory: which there are, which is the head, which of them run."""

import os
from pathlib import Path

import pytest

from cluster.cli_progress import CliProgress
from cluster.data_directory import DataDirectory, Head
from cluster.refusal import Refused
from cluster.settings import load
from cluster.several_nodes import SeveralNodes, head_first, node_directories, running_clients


def make(parent: Path, *names: str) -> None:
    for name in names:
        (parent / name).mkdir()


def several(parent: Path, count: int) -> SeveralNodes:
    return SeveralNodes(
        load(data=parent),
        count,
        config=None,
        demo=False,
        progress=CliProgress(),
        certify=lambda settings, directories, first: None,
    )


def test_directories_in_order_of_their_numbers(tmp_path: Path) -> None:
    make(tmp_path, "node-10", "node-2", "node-1", "node-x", "other")
    assert [one.name for one in node_directories(tmp_path)] == ["node-1", "node-2", "node-10"]
    assert node_directories(tmp_path / "missing") == []


def test_the_head_of_the_latest_term_comes_first() -> None:
    replaced, leads = Head("a", "a:1", 1), Head("b", "b:1", 2)
    assert head_first([("a", replaced), ("b", leads), ("c", leads)]) == 1
    assert head_first([("", None), ("", None)]) == 0


def test_fewer_nodes_than_there_are(tmp_path: Path) -> None:
    make(tmp_path, "node-1", "node-2", "node-3")
    with pytest.raises(Refused, match="holds 3 nodes, more than 2"):
        several(tmp_path, 2)


def test_the_data_of_one_node(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{}")
    with pytest.raises(Refused, match="the data of one node"):
        several(tmp_path, 3)


@pytest.mark.parametrize("count", [0, 17])
def test_how_many(tmp_path: Path, count: int) -> None:
    with pytest.raises(Refused, match="between 1 and 16"):
        several(tmp_path, count)


def test_commands_go_through_any_node_that_runs(tmp_path: Path) -> None:
    make(tmp_path, "node-1", "node-2", "node-3")
    run = {"control": "127.0.0.1:1", "token": "t"}
    DataDirectory(tmp_path / "node-2").write_run(run | {"pid": 2**22 + 1})  # Beyond PID_MAX_LIMIT.
    with pytest.raises(Refused, match="no cluster runs"):
        running_clients(tmp_path)
    DataDirectory(tmp_path / "node-3").write_run(run | {"pid": os.getpid()})
    assert [client.pid for client in running_clients(tmp_path)] == [os.getpid()]
