"""The search index: what it finds is what `mail.search.matches` says, and no one else's."""

from __future__ import annotations

import ast
import inspect
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tantivy import Query

from mail.search import matches, parse_query
from mail.summary import SearchText
from storage import search_index
from storage.search_index import Field, IndexDocument, IndexFailed, IndexInUse, SearchIndex

ALL = tuple(Field)


def body(text: str) -> SearchText:
    return SearchText(body=text)


def fill(index: SearchIndex, texts: Mapping[int, str], *, mailbox: int = 1) -> None:
    index.add([IndexDocument(mailbox, email_id, body(text)) for email_id, text in texts.items()])
    index.commit()


def found(index: SearchIndex, text: str, *, mailbox: int = 1) -> set[int] | None:
    return index.search(mailbox, ALL, text)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SearchIndex]:
    opened = SearchIndex.open(tmp_path / "index")
    yield opened
    opened.close()


# What is found ------------------------------------------------------------------------------

# Few characters, so that texts and queries meet: Hangul, its letters, Kana, Han of three and
# of four octets, Latin with accents, wide and folded to two; a ligature that folds to words
# with blanks between them; an emoji, quotes and half a surrogate pair.
PIECES = [
    *"가나다회의ㅋあいアー漢字𠮷𠀋",
    *"abcéßøАя07",
    *"Ａｂﷺ😀\"'-_.@\n\t\x00\ud800",
    *["ab", "abc", "회의", "회의를", "a@b.c", " ", " ", " ", ", "],
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
MESSAGES = st.builds(SearchText, subject=TEXTS, from_=TEXTS, to=TEXTS, body=TEXTS, names=TEXTS)


@st.composite
def cuts(draw: st.DrawFn, messages: list[SearchText]) -> str:
    """Draw a query of one or two pieces of the texts."""
    cut = []
    for _ in range(draw(st.integers(1, 2))):
        text = draw(st.sampled_from(ALL)).of(draw(st.sampled_from(messages)))
        start = draw(st.integers(0, len(text)))
        cut.append(text[start : start + draw(st.integers(1, 8))])
    return draw(st.sampled_from([" ".join(cut), f'"{cut[0]}"']))


def expected(messages: list[SearchText], fields: Collection[Field], query: str) -> set[int] | None:
    """Say by the rule what a search must return."""
    terms = parse_query(query)
    if not terms:
        return None
    return {
        email_id
        for email_id, message in enumerate(messages)
        if all(any(matches((term,), field.of(message)) for field in fields) for term in terms)
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchIndex]:
    opened = SearchIndex.open(tmp_path_factory.mktemp("search") / "index")
    yield opened
    opened.close()


mailboxes = itertools.count(1)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_finds_what_the_matcher_says(shared: SearchIndex, data: st.DataObject) -> None:
    mailbox = next(mailboxes)  # the index stays, with everybody's mail
    messages = data.draw(st.lists(MESSAGES, min_size=1, max_size=4))
    shared.add([IndexDocument(mailbox, i, message) for i, message in enumerate(messages)])
    shared.commit()
    for _ in range(6):
        fields = data.draw(st.sets(st.sampled_from(ALL)))
        query = data.draw(st.one_of(cuts(messages), TEXTS))
        assert shared.search(mailbox, fields, query) == expected(messages, fields, query)


def test_every_substring_of_cjk_text(index: SearchIndex) -> None:
    texts = ["내일 회의를 합니다", "東京都の会議", "ㅋㅋㅋㅋㅋ", "𠮷野家で食べる", "회회의의회의"]
    fill(index, dict(enumerate(texts)))
    for text in texts:
        for start, end in itertools.combinations(range(len(text) + 1), 2):
            query = text[start:end]
            if parse_query(query):
                assert found(index, query) == expected([body(t) for t in texts], ALL, query)


@pytest.mark.parametrize(
    "query, emails",
    [
        ("meet", {1, 2}),
        ("MEETING", {1, 2}),
        ("eeting", set()),
        ("meeting room", {1, 2}),
        ('"meeting room"', {1}),
        ('"room meeting"', {2}),
        ('"meeting roo"', set()),
        ("alice@exa", {1}),
        ("alice@example.test", {1}),
        ("example alice", {1}),
        ("회의", {3}),
        ("의를", {3}),
        ("의", {3}),
        ("를", {3}),
        ("회를", set()),
        ("회의 room", set()),
        ("[a AND (b: -c", set()),
        ("cafe", {4}),
        ("café", {4}),
    ],
)
def test_queries_of_every_kind(index: SearchIndex, query: str, emails: set[int]) -> None:
    fill(
        index,
        {
            1: "meeting room, alice@example.test",
            2: "the room meetings, room meeting",
            3: "회의를",
            4: "Café",
        },
    )
    assert found(index, query) == emails


def test_a_query_without_terms(index: SearchIndex) -> None:
    fill(index, {1: "x"})
    for query in ("", " ", "!?", '""', "😀"):
        assert found(index, query) is None


def test_terms_may_be_in_different_fields(index: SearchIndex) -> None:
    message = SearchText(subject="report", from_="alice", to="bob", body="회의", names="q3.pdf")
    index.add([IndexDocument(1, 7, message)])
    index.commit()
    assert index.search(1, ALL, "report alice bob 회의 q3.pdf") == {7}
    assert index.search(1, [Field.subject, Field.from_], "report alice") == {7}
    assert index.search(1, [Field.subject], "report alice") == set()
    assert index.search(1, [], "report") == set()
    for field, word in zip(ALL, ("report", "alice", "bob", "회의", "q3"), strict=True):
        assert [f for f in ALL if index.search(1, [f], word)] == [field]


def test_long_words_and_half_characters(index: SearchIndex) -> None:
    fill(index, {1: "x" * 100_000, 2: "가" * 100_000, 3: "ab\ud800cd \udfff가\ud83d"})
    assert found(index, "x" * 500) == {1}
    assert found(index, "가" * 500) == {2}
    assert found(index, "cd") == found(index, "ab\ud800cd") == {3}
    assert found(index, "가") == {2, 3}


@pytest.mark.parametrize("few, most", [(0, 1 << 14), (1, 4), (0, 2)])
def test_phrases_with_many_last_words(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch, few: int, most: int
) -> None:
    monkeypatch.setattr(search_index, "LAST_WORDS_MAX", few)
    monkeypatch.setattr(search_index, "REGEX_TERMS_MAX", most)
    texts = ["a b", "a ba", "a bab", "a bb", "a bbb", "b a", "a c b", "a bé", "a b가", "a bﷺ"]
    fill(index, dict(enumerate(texts)))
    for query in ("a.b", "a.ba", "a.bb", "a.c", "c.b", "a.x", "a.bﷺ"):
        assert found(index, query) == expected([body(t) for t in texts], ALL, query)


def test_a_phrase_with_more_last_words_than_tantivy_takes(index: SearchIndex) -> None:
    many = 20_000
    fill(index, {1: " ".join(f"to w{i:05}" for i in range(many)), 2: "w00000 to"})
    assert found(index, "to.w") == {1}
    assert found(index, "to.w19999") == {1}
    assert found(index, "w00000.to") == {1, 2}


def test_a_large_mailbox_is_found_whole(index: SearchIndex) -> None:
    count = 20_000
    index.add([IndexDocument(1, i, body(f"common w{i % 10}")) for i in range(count)])
    index.add([IndexDocument(2, i, body("common")) for i in range(100)])
    index.commit()
    assert found(index, "common") == set(range(count))
    assert found(index, "comm w3") == set(range(3, count, 10))
    index.remove(1, range(0, count, 2))
    index.commit()
    assert found(index, "common") == set(range(1, count, 2))
    assert index.count() == count // 2 + 100


# Whose it is --------------------------------------------------------------------------------


def test_a_mailbox_sees_only_its_own_mail(index: SearchIndex) -> None:
    fill(index, {1: "secret 회의", 2: "open"}, mailbox=1)
    fill(index, {1: "open 회의", 3: "secret phrase"}, mailbox=2)
    for query, first, second in (
        ("secret", {1}, {3}),
        ("open", {2}, {1}),
        ("회의", {1}, {1}),
        ("회", {1}, {1}),
        ('"secret phrase"', set(), {3}),
        ("secret.phr", set(), {3}),
    ):
        assert found(index, query, mailbox=1) == first
        assert found(index, query, mailbox=2) == second
        assert found(index, query, mailbox=3) == set()


def test_one_place_searches() -> None:
    """The filter by mailbox cannot be forgotten where there is no second way."""
    calls = [
        (function.name, ast.unparse(node.func))
        for function in ast.walk(ast.parse(inspect.getsource(search_index)))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("search", "aggregate", "doc", "fast_field_values")
    ]
    assert calls == [("_emails", "searcher.search")]


# What changes -------------------------------------------------------------------------------


def test_a_document_replaces_the_older_one(index: SearchIndex) -> None:
    index.add([IndexDocument(1, 1, body("one")), IndexDocument(1, 1, body("two"))])
    index.add([IndexDocument(2, 1, body("one"))])
    index.commit()
    assert found(index, "one") == set()
    assert found(index, "two") == {1}
    fill(index, {1: "three"})
    assert found(index, "two") == set()
    assert found(index, "three") == {1}
    assert found(index, "one", mailbox=2) == {1}
    assert index.count() == 2


def test_destroyed_mail_leaves(index: SearchIndex) -> None:
    fill(index, {1: "word", 2: "word", 3: "word"})
    fill(index, {1: "word", 2: "word"}, mailbox=12)
    index.remove(1, [1, 3, 99])
    assert found(index, "word") == {1, 2, 3}
    index.commit()
    assert found(index, "word") == {2}
    index.add([IndexDocument(1, 4, body("word"))])
    index.remove(1, [4])
    index.commit()
    assert found(index, "word") == {2}
    index.remove_mailbox(1)
    index.commit()
    assert found(index, "word") == set()
    assert found(index, "word", mailbox=12) == {1, 2}
    fill(index, {5: "word"})
    assert found(index, "word") == {5}


def test_the_largest_ids(index: SearchIndex) -> None:
    most = 2**64 - 1
    fill(index, {most: "word", 0: "word"}, mailbox=most)
    assert found(index, "word", mailbox=most) == {0, most}
    index.remove(most, [most])
    index.commit()
    assert found(index, "word", mailbox=most) == {0}


def test_search_goes_on_while_commits_run(index: SearchIndex) -> None:
    commits, per_commit = 12, 300
    committed = 0
    failures: list[BaseException] = []

    def write() -> None:
        nonlocal committed
        try:
            for i in range(commits):
                start = i * per_commit
                fill(index, {start + n: f"common w{n}" for n in range(per_commit)})
                committed = start + per_commit
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[int] = set()
    while writer.is_alive():
        at_least = committed
        now = found(index, "common")
        assert now is not None
        assert seen | set(range(at_least)) <= now
        assert now == set(range(len(now)))
        assert len(now) % per_commit == 0
        seen = now
        index.verify()
    writer.join()
    assert not failures
    assert found(index, "common") == set(range(commits * per_commit))


# What rests on disk -------------------------------------------------------------------------


def test_reopened_it_still_finds(tmp_path: Path) -> None:
    path = tmp_path / "a" / "index"
    index = SearchIndex.open(path)
    assert index.fresh
    fill(index, {1: "word", 2: "회의"})
    index.add([IndexDocument(1, 3, body("word"))])
    index.close()
    index.close()
    for _ in range(3):
        index = SearchIndex.open(path)
        assert not index.fresh
        assert index.count() == 2  # what was not committed is gone
        assert found(index, "word") == {1}
        assert found(index, "회의") == {2}
        index.verify()
        index.close()


def test_made_anew_until_a_commit_is_complete(tmp_path: Path) -> None:
    index = SearchIndex.open(tmp_path)
    index.close()
    index = SearchIndex.open(tmp_path)
    assert index.fresh
    index.add([IndexDocument(1, 1, body("word"))])
    index.commit(complete=False)
    assert found(index, "word") == {1}
    index.close()
    index = SearchIndex.open(tmp_path)
    assert index.fresh
    assert index.count() == 0
    index.commit()
    index.commit(complete=False)
    index.close()
    index = SearchIndex.open(tmp_path)
    assert not index.fresh
    index.close()
    index = SearchIndex.open(tmp_path, anew=True)
    assert index.fresh
    index.close()


def every_file(path: Path, change: Callable[[Path], object], pattern: str = "*") -> None:
    files = [file for file in (path / "tantivy").glob(pattern) if file.stat().st_size]
    assert files
    for file in files:
        change(file)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(file: Path) -> None:
    file.write_bytes(b"\xa5" * file.stat().st_size)


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "schema gone": lambda path: (path / "schema").unlink(),
    "other schema": lambda path: (path / "schema").write_text("heliograph search index 0\n"),
    "schema not text": lambda path: (path / "schema").write_bytes(b"\xff\xfe"),
    "no meta.json": lambda path: (path / "tantivy" / "meta.json").unlink(),
    "meta.json cut": lambda path: truncate(path / "tantivy" / "meta.json"),
    "meta.json empty": lambda path: (path / "tantivy" / "meta.json").write_bytes(b""),
    "other fields": lambda path: (path / "tantivy" / "meta.json").write_text(
        (path / "tantivy" / "meta.json").read_text().replace("names_words", "names_other")
    ),
    "no terms": lambda path: every_file(path, Path.unlink, "*.term"),
    "no postings": lambda path: every_file(path, Path.unlink, "*.idx"),
    "terms cut": lambda path: every_file(path, truncate, "*.term"),
    "positions cut": lambda path: every_file(path, truncate, "*.pos"),
    "all cut": lambda path: every_file(path, truncate),
    "all overwritten": lambda path: every_file(path, overwrite),
    "all gone": lambda path: every_file(path, Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    index = SearchIndex.open(tmp_path)
    fill(index, {1: "word 회의", 2: "word"})
    index.close()
    damage(tmp_path)
    index = SearchIndex.open(tmp_path)
    assert index.fresh
    assert index.count() == 0
    fill(index, {3: "word"})
    assert found(index, "word") == {3}
    index.close()
    index = SearchIndex.open(tmp_path)
    assert not index.fresh
    assert found(index, "word") == {3}
    index.close()


def test_what_is_in_use_is_left_alone(tmp_path: Path) -> None:
    index = SearchIndex.open(tmp_path)
    fill(index, {1: "word"})
    with pytest.raises(IndexInUse):
        SearchIndex.open(tmp_path)
    with pytest.raises(IndexInUse):
        SearchIndex.open(tmp_path, anew=True)
    fill(index, {2: "word"})
    index.close()
    index = SearchIndex.open(tmp_path)
    assert not index.fresh
    assert found(index, "word") == {1, 2}
    index.close()


@pytest.mark.parametrize("part", ["idx", "pos", "term", "fast", "del"])
def test_verify_finds_a_flipped_bit(tmp_path: Path, part: str) -> None:
    index = SearchIndex.open(tmp_path)
    fill(index, {i: f"word w{i}" for i in range(50)})
    index.remove(1, [3])
    index.commit()
    index.verify()
    file = next((tmp_path / "tantivy").glob(f"*.{part}"))
    octets = bytearray(file.read_bytes())
    octets[3] ^= 1
    file.write_bytes(octets)
    with pytest.raises(IndexFailed, match=part):
        index.verify()
    index.close()


def test_a_panic_is_an_ordinary_error() -> None:
    with pytest.raises(IndexFailed), search_index._failing("search"):
        Query.phrase_query(search_index._schema(), "body_words", ["a phrase has two words"])


def test_a_failed_writer_says_so(tmp_path: Path) -> None:
    index = SearchIndex.open(tmp_path)
    fill(index, {1: "word"})
    index.add([IndexDocument(1, 2, body("word"))])
    index._writer.wait_merging_threads()  # consumes it, as a failure would
    with pytest.raises(IndexFailed):
        index.add([IndexDocument(1, 3, body("word"))])
    with pytest.raises(IndexFailed):
        index.commit()
    assert found(index, "word") == {1}
    index.close()
    index = SearchIndex.open(tmp_path)
    assert not index.fresh
    assert found(index, "word") == {1}
    index.close()
