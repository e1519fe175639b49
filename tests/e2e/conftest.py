"""One cluster a module, with the demo accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cluster_fixture import Cluster, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster") / "data", demo=True) as started:
        yield started
