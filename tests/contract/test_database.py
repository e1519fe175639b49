"""Every database keeps its word alike: RocksDB on disk, and the simulator's in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Batch, Database, Family, RocksDatabase
from storage.replication.messages import ReplicaId
from tests.sim.disk import Disk, Families, SimDatabase

STATE, LOG = Family.STATE, Family.LOG
KEYS = st.binary(min_size=1, max_size=2)
OPERATIONS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=12)
RANGES = st.lists(st.tuples(KEYS, KEYS), max_size=2)


def put(database: Database, values: dict[bytes, bytes], family: Family = STATE) -> None:
    batch = Batch()
    for key, value in values.items():
        batch.put(family, key, value)
    database.write(batch)


def everything(database: Database, family: Family = STATE) -> list[tuple[bytes, bytes]]:
    return list(database.scan(family, b"", b"\xff" * 4))


class DatabaseContract:
    """What a shard relies on. Subclasses say how one is opened, again and again."""

    @pytest.fixture
    def reopen(self) -> Iterator[Callable[[], Database]]:
        raise NotImplementedError

    @pytest.fixture
    def database(self, reopen: Callable[[], Database]) -> Database:
        return reopen()

    def test_what_was_written_is_read_at_once(self, database: Database) -> None:
        assert database.get(STATE, b"a") is None
        put(database, {b"a": b"1", b"b": b""})
        assert database.get(STATE, b"a") == b"1"
        assert database.get(STATE, b"b") == b"", "an empty value is a value"
        put(database, {b"a": b"2"})
        assert database.get(STATE, b"a") == b"2"

    def test_families_are_apart(self, database: Database) -> None:
        for number, family in enumerate(Family):
            put(database, {b"a": b"%d" % number}, family)
        for number, family in enumerate(Family):
            assert everything(database, family) == [(b"a", b"%d" % number)]
        batch = Batch()
        batch.delete_range(STATE, b"", b"\xff")
        database.write(batch)
        assert [len(everything(database, family)) for family in Family] == [0, 1, 1, 1]

    def test_scans_are_in_order_both_ways_without_their_end(self, database: Database) -> None:
        put(database, {bytes((n,)): b"%d" % n for n in range(0, 20, 2)})
        for start, end in ((b"\x04", b"\x0a"), (b"\x03", b"\x0b"), (b"", b"\xff"), (b"\x0a", b"")):
            expected = [
                (bytes((n,)), b"%d" % n) for n in range(0, 20, 2) if start <= bytes((n,)) < end
            ]
            assert list(database.scan(STATE, start, end)) == expected
            assert list(database.scan(STATE, start, end, reverse=True)) == expected[::-1]

    def test_longer_keys_come_after_their_prefixes(self, database: Database) -> None:
        names = [b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"\xfe\xff\xff"]
        put(database, dict.fromkeys(reversed(names), b"v"))
        assert [key for key, _ in everything(database)] == names
        assert [key for key, _ in database.scan(STATE, b"\x00", b"\x01")] == names[:3]

    def test_a_scan_may_be_left_early(self, database: Database) -> None:
        put(database, {b"a": b"1", b"b": b"2"})
        for reverse in (False, True):
            scan = database.scan(STATE, b"", b"\xff", reverse=reverse)
            assert next(scan)[0] == (b"b" if reverse else b"a")
        put(database, {b"c": b"3"})

    def test_a_scan_is_of_one_moment(self, database: Database) -> None:
        put(database, {b"a": b"1", b"b": b"2", b"c": b"3"})
        scan = database.scan(STATE, b"", b"\xff")
        seen = [next(scan)]
        batch = Batch()
        batch.delete(STATE, b"b")
        batch.put(STATE, b"bb", b"new")
        database.write(batch)
        assert [*seen, *scan] == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]

    def test_a_view_is_of_one_moment(self, database: Database) -> None:
        put(database, {b"a": b"1", b"b": b"2"})
        view = database.view()
        put(database, {b"a": b"new", b"aa": b"new"})
        assert view.get(b"a") == b"1"
        assert view.get(b"aa") is None
        assert list(view.scan(b"", b"\xff")) == [(b"a", b"1"), (b"b", b"2")]
        assert next(view.scan(b"b", b"\xff")) == (b"b", b"2")
        assert list(view.scan(b"a", b"b")) == [(b"a", b"1")]
        view.close()

    async def test_rewriting_changes_nothing_that_is_there(self, database: Database) -> None:
        value = random.Random(1).randbytes(10_000)
        for family in Family:
            put(database, {b"a": value, b"b": b"2"}, family)
            batch = Batch()
            batch.delete(family, b"b")
            database.write(batch)
        for blobs in (True, False):
            await database.rewrite(blobs=blobs)
            assert [everything(database, family) for family in Family] == [[(b"a", value)]] * 4

    async def test_what_is_in_memory_goes_to_files_and_is_read_as_before(
        self, database: Database
    ) -> None:
        for family in Family:
            put(database, {b"a": b"1", b"b": b"2"}, family)
        await database.write_out()
        for family in Family:
            assert everything(database, family) == [(b"a", b"1"), (b"b", b"2")]
            put(database, {b"b": b"3"}, family)
        assert [everything(database, family)[1] for family in Family] == [(b"b", b"3")] * 4

    def test_deletes(self, database: Database) -> None:
        put(database, {b"a": b"1", b"b": b"2"})
        batch = Batch()
        batch.delete(STATE, b"a")
        batch.delete(STATE, b"not there")
        database.write(batch)
        assert everything(database) == [(b"b", b"2")]

    def test_the_last_operation_on_a_key_wins(self, database: Database) -> None:
        batch = Batch()
        batch.put(STATE, b"a", b"1")
        batch.delete(STATE, b"a")
        batch.delete(STATE, b"b")
        batch.put(STATE, b"b", b"1")
        batch.put(STATE, b"b", b"2")
        database.write(batch)
        assert everything(database) == [(b"b", b"2")]

    def test_ranges_are_deleted_before_the_single_operations(self, database: Database) -> None:
        put(database, {b"a": b"1", b"b": b"2", b"c": b"3"})
        batch = Batch()
        batch.put(STATE, b"b", b"new")
        batch.delete_range(STATE, b"a", b"c")
        database.write(batch)
        assert everything(database) == [(b"b", b"new"), (b"c", b"3")]

    def test_a_batch_is_seen_whole_or_not_at_all(self, database: Database) -> None:
        batch = Batch()
        batch.put(STATE, b"a", b"1")
        batch.put(LOG, b"a", b"1")
        assert database.get(STATE, b"a") is None
        assert database.get(LOG, b"a") is None
        database.write(batch)
        assert database.get(STATE, b"a") == database.get(LOG, b"a") == b"1"

    def test_an_empty_batch_is_nothing(self, database: Database) -> None:
        database.write(Batch())
        assert everything(database) == []

    def test_large_values(self, database: Database) -> None:
        value = random.Random(1).randbytes(3_000_000)
        put(database, {b"a": value}, Family.BLOB)
        assert database.get(Family.BLOB, b"a") == value
        assert list(database.scan(Family.BLOB, b"a", b"b")) == [(b"a", value)]

    async def test_what_was_flushed_is_there_after_reopening(
        self, reopen: Callable[[], Database]
    ) -> None:
        database = reopen()
        put(database, {b"a": b"1", b"b": b"2"})
        batch = Batch()
        batch.delete_range(STATE, b"a", b"b")
        batch.put(LOG, b"z", b"")
        database.write(batch)
        await database.flush()
        database.close()
        database = reopen()
        assert everything(database) == [(b"b", b"2")]
        assert database.get(LOG, b"z") == b""

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(OPERATIONS, RANGES, KEYS, KEYS, st.booleans())
    def test_it_reads_like_a_dictionary(
        self,
        database: Database,
        operations: list[tuple[bytes, bytes | None]],
        ranges: list[tuple[bytes, bytes]],
        start: bytes,
        end: bytes,
        reverse: bool,
    ) -> None:
        model = dict(everything(database))
        batch = Batch()
        for first, last in ranges:
            low, high = sorted((first, last))
            batch.delete_range(STATE, low, high)
            model = {key: value for key, value in model.items() if not low <= key < high}
        for key, value in operations:
            if value is None:
                batch.delete(STATE, key)
                model.pop(key, None)
            else:
                batch.put(STATE, key, value)
                model[key] = value
        database.write(batch)
        expected = sorted((k, v) for k, v in model.items() if start <= k < end)
        found = list(database.scan(STATE, start, end, reverse=reverse))
        assert found == (expected[::-1] if reverse else expected)
        assert all(database.get(STATE, key) == model.get(key) for key in (start, end))


class TestRocksDatabase(DatabaseContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], Database]]:
        opened: list[RocksDatabase] = []

        def open_again() -> Database:
            opened.append(RocksDatabase(tmp_path / "db", create=not opened))
            return opened[-1]

        yield open_again
        opened[-1].close()


class TestSimDatabase(DatabaseContract):
    @pytest.fixture
    def reopen(self) -> Callable[[], Database]:  # type: ignore[override]
        disk = Disk(random.Random(1), ReplicaId(b"r" * 16), founds=True)
        disk.families = Families()  # Without what makes a replica of it.
        return lambda: SimDatabase(disk, lambda: None)
