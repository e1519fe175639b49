"""What the search index costs: how often its files are written, and what stays in memory."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from mail.summary import SearchText
from storage.search_index import Field, IndexDocument, SearchIndex


def _segments(path: Path) -> list[object]:
    found: list[object] = json.loads((path / "tantivy" / "meta.json").read_bytes())["segments"]
    return found


def test_a_commit_is_one_segment(tmp_path: Path) -> None:
    """Each eighth segment has the others written again."""
    chance = random.Random(1)
    index = SearchIndex.open(tmp_path)
    for email in range(150):
        words = (f"w{chance.randrange(200_000)}" for _ in range(1500))
        index.add([IndexDocument(1, email, SearchText(body=" ".join(words)))])
    index.commit()
    assert len(_segments(tmp_path)) == 1
    index.close()


def test_lets_go_of_what_was_merged(tmp_path: Path) -> None:
    """A merge reads its segments wholly; mapped on, they would count as the actor's memory."""
    index = SearchIndex.open(tmp_path)
    for email in range(8):
        index.add([IndexDocument(1, email, SearchText(body="word"))])
        index.commit()
    index.seal()  # The merge is over.
    until = time.monotonic() + 10
    while "(deleted)" in (maps := _maps_of(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert "(deleted)" not in maps
    assert len(_segments(tmp_path)) == 1
    assert index.search(1, [Field.body], "word") == set(range(8))
    index.close()


def _maps_of(path: Path) -> str:
    maps = Path("/proc/self/maps").read_text().splitlines()
    return "\n".join(line for line in maps if str(path) in line)
