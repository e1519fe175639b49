"""`docs/rfc.tsv` and the code's citations agree: what we cite is listed, what we claim is cited."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import pytest

from tests.tidy import rules, source

TABLE = "docs/rfc.tsv"
HEADER = ["number", "status", "title", "where"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `where` is a list of paths, empty for status `no`."""

    number: int
    status: str
    title: str
    where: tuple[str, ...]


@cache
def _table() -> tuple[Row, ...]:
    text = source.text(TABLE)
    assert text is not None
    lines = text.splitlines()
    assert lines[0].split("\t") == HEADER
    rows = []
    for line in lines[1:]:
        fields = line.split("\t")
        assert len(fields) == len(HEADER), f"{TABLE}: four columns, tabs between them: {line!r}"
        number, status, title, where = fields
        rows.append(Row(int(number), status, title, tuple(where.split())))
    return tuple(rows)


def _citations() -> dict[int, list[str]]:
    """Return the number of each RFC cited in the packages, with the files that cite it."""
    cited: dict[int, list[str]] = defaultdict(list)
    for path in source.python_files(*rules.PACKAGES):
        for number in {int(n) for n in rules.RFC_CITATION.findall(source.text(path) or "")}:
            cited[number].append(path)
    return cited


def test_the_table_is_in_order() -> None:
    numbers = [row.number for row in _table()]
    assert numbers == sorted(set(numbers))
    assert {row.status for row in _table()} <= set(rules.RFC_STATUSES)


def test_what_is_cited_is_listed() -> None:
    listed = {row.number for row in _table() if row.status != "no"}
    missing = [
        f"{number}\tpartial\t<title>\t{' '.join(paths)}"
        for number, paths in sorted(_citations().items())
        if number not in listed
    ]
    if missing:
        pytest.fail(f"add to {TABLE}, as yes or partial:\n" + "\n".join(missing), pytrace=False)


def test_what_is_claimed_is_cited() -> None:
    cited = _citations()
    idle = [f"{row.number} {row.title}" for row in _table() if row.status == "yes"]
    idle = [line for line in idle if int(line.split()[0]) not in cited]
    if idle:
        pytest.fail("claimed, but cited nowhere in the code:\n" + "\n".join(idle), pytrace=False)


def test_where_names_files_that_are_there() -> None:
    lost = [
        f"{row.number}: {path}"
        for row in _table()
        for path in row.where
        if not (source.ROOT / path).exists()
    ]
    assert not lost, f"{TABLE}: no such file: {lost}"
    assert all(row.where for row in _table() if row.status != "no")


def test_citations_can_be_searched_for() -> None:
    wrong = [
        f"{path}: {match.group(0)}"
        for path in source.python_files()
        if not path.startswith("tests/tidy/")
        for match in rules.RFC_MISSPELT.finditer(source.text(path) or "")
    ]
    assert not wrong, f"the form is `RFC 5321 §4.5.4.1`: {wrong}"
