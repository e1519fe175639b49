"""Processes: whoever holds a file below a directory is found and ended, and nobody else."""

import os
import subprocess
import sys
from pathlib import Path

from cluster.processes import Process, end_holders, holders

HOLD = "import sys, time; f = open(sys.argv[1], 'w'); print('open', flush=True); time.sleep(60)"


def hold(file: Path) -> subprocess.Popen[str]:
    """Start a process that holds `file` open and hides its command line, as Ray's workers do."""
    script = f"import sys; sys.argv = ['', {str(file)!r}]; {HOLD}"
    process = subprocess.Popen(
        (sys.executable, "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(script)
    process.stdin.close()
    assert process.stdout.readline() == "open\n"
    return process


def test_exactly_the_holders_are_ended(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    ours, other = hold(tmp_path / "a" / "log"), hold(tmp_path / "ab" / "log")
    try:
        assert [one.pid for one in holders(tmp_path / "a")] == [ours.pid]
        assert end_holders(tmp_path / "a", 10.0)
        assert ours.wait(5) == -9
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_a_later_process_of_the_same_number_is_another() -> None:
    me = Process.of(os.getpid())
    assert me is not None
    assert me.runs
    assert not Process(me.pid, me.started_ticks - 1).runs


def test_nobody_has_that_number() -> None:
    assert Process.of(2**22 + 1) is None
