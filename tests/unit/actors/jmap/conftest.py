"""A mailbox in memory for every test of the evaluator."""

from __future__ import annotations

import pytest

from tests.unit.actors.jmap.memory_access import MemoryAccess


@pytest.fixture
def access() -> MemoryAccess:
    return MemoryAccess()
