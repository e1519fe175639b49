"""An actor is started beside its data or not at all."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.cluster_fixture import environment


def test_no_actor_starts_beside_other_data(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "tests.cluster.start_elsewhere"),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "here"
