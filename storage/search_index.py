"""SearchIndex: the full-text index of one shard, on Tantivy.

Every field of a message is indexed twice: `mail.search.words` for scripts that put spaces
between words, found by prefix and by phrase; `mail.search.grams` for Chinese, Japanese and
Korean, found by substring. Text and query go through the same two functions, so that they
cannot drift apart; no user text ever reaches Tantivy's query parser.

State       derived (R9): it may be thrown away at any time and made again from the mail.
            The log index that it has reached is the caller's, written after each commit.
On success  `commit` has put the documents on disk, and the next search finds them.
On failure  IndexFailed: the index is of no more use in this process. Close it and open it
            again; what was not committed is gone. `open` makes it anew when it is damaged.
Threads     one caller at a time for add, remove and commit; search at any time beside them.
"""

from __future__ import annotations

import fcntl
import logging
import re
import shutil
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from tantivy import (
    Document,
    Index,
    IndexWriter,
    Occur,
    Order,
    Query,
    Schema,
    SchemaBuilder,
    Searcher,
)

from mail.search import (
    CjkSubstring,
    Term,
    WordPhrase,
    WordPrefix,
    index_form,
    parse_query,
    query_grams,
)
from mail.summary import SearchText
from storage.database import is_full
from storage.index_files import MetaUnreadable, damaged_files, has_deletes

log = logging.getLogger(__name__)

# Raised with every change of the fields below or of what `mail.search` makes of a text.
# Case and accents follow Python's Unicode tables, which a new Python may change.
SCHEMA = f"heliograph search index 1, Unicode {unicodedata.unidata_version}\n"
# A segment that outgrows it is written early, and every eighth has Tantivy write all of up to
# 10,000 documents again. With its least, 15 MB, 10,000 messages of different words became 130
# segments, and the index was written twelve times; this much holds a commit of 2000 of them. It
# is taken as it is needed and free after the commit.
WRITER_HEAP_BYTES = 45_000_000
# Up to so many last words of a phrase are looked for one by one, which is quicker than all
# by a regex but takes some 5 KB each.
LAST_WORDS_MAX = 4096
# Tantivy refuses a regex phrase of more terms, the words before the last included.
REGEX_TERMS_MAX = 1 << 14

_WRITER_LOCK = ".tantivy-writer.lock"


class IndexFailed(Exception):
    """The search index cannot be read or written."""


class IndexInUse(Exception):
    """Another SearchIndex, here or in another process, has this index open."""


class Field(StrEnum):
    """A searchable part of a message."""

    subject = "subject"
    from_ = "from"
    to = "to"
    body = "body"
    names = "names"

    def of(self, text: SearchText) -> str:
        """Return this field of `text`."""
        return _clean(getattr(text, self.name))


@dataclass(frozen=True, slots=True)
class IndexDocument:
    """One message as the index takes it; (mailbox, email_id) is its identity."""

    mailbox: int  # < 2^64
    email_id: int  # < 2^64
    text: SearchText


class SearchIndex:
    """One shard's index; its documents carry their mailbox."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        """Attach to the index at `path`; use `open`. Raises IndexFailed, IndexInUse."""
        self.fresh = fresh  # made anew by `open`: the caller has to fill it
        self._path = path
        self._closed = False
        self._sealed = False
        self._complete = not fresh
        self._schema = _schema()
        place = str(_tantivy_path(path))
        with _failing("open"):
            if not fresh and not Index.exists(place):
                raise IndexFailed("open: there is no index")  # Tantivy would make an empty one
            self._index = Index(self._schema, path=place)  # compares the schema with the disk's
            # Follows merges too: what they have read stays in memory until it is let go of.
            self._index.config_reader("commit")
            self._writer: IndexWriter = self._index.writer(WRITER_HEAP_BYTES, num_threads=1)

    @classmethod
    def open(cls, path: Path, *, anew: bool = False) -> SearchIndex:
        """Open the index in the directory `path`, or make it.

        It is emptied, and `fresh`, when it is damaged, of another schema, not complete (see
        `commit`), or when `anew` asks for it. Raises IndexInUse; IndexFailed or OSError when
        the directory cannot be written.
        """
        path.mkdir(parents=True, exist_ok=True)
        if not anew and _schema_of(path) == SCHEMA:
            try:
                return cls(path, fresh=False)
            except IndexFailed as error:
                if is_full(error):
                    raise
                log.warning("search index cannot be read and is made anew: %s", error)
        _empty(path)
        return cls(path, fresh=True)

    # Writing --------------------------------------------------------------------------------

    def add(self, documents: Sequence[IndexDocument]) -> None:
        """Add documents; one of the same mailbox and email id replaces the older one."""
        for document in documents:
            key = _key(document.mailbox, document.email_id)
            made = _tantivy_document(document, key)
            with _failing("add"):
                self._writer.delete_documents_by_term("key", key)
                self._writer.add_document(made)

    def remove(self, mailbox: int, email_ids: Iterable[int]) -> None:
        """Remove documents; those that are not there are passed over."""
        with _failing("remove"):
            for email_id in email_ids:
                self._writer.delete_documents_by_term("key", _key(mailbox, email_id))

    def remove_mailbox(self, mailbox: int) -> None:
        """Remove every document of a mailbox."""
        with _failing("remove"):
            # By query: the same by term, of a number, finds nothing and says nothing.
            self._writer.delete_documents_by_query(self._of_mailbox(mailbox))

    def commit(self, *, complete: bool = True) -> None:
        """Make what was added and removed durable and visible. Blocks; gives up the GIL.

        `complete=False` says that an index made anew still misses older mail: as long as no
        commit was complete, the next `open` makes it anew again, whatever the caller
        remembers of it. Once complete it stays so.
        """
        with _failing("commit"):
            self._writer.commit()
            self._index.reload()  # now, not when the change of its files is noticed
        if complete and not self._complete:
            # Not synced: should it be lost, the index is made anew once more.
            (self._path / "schema").write_text(SCHEMA, encoding="utf-8")
            self._complete = True

    # Reading --------------------------------------------------------------------------------

    def search(self, mailbox: int, fields: Collection[Field], text: str) -> set[int] | None:
        """Return the emails of a mailbox in which every term of `text` is found.

        A term may be in any of `fields`, the next term in another. All are returned, none
        is left out above some limit. None when `text` has no terms. Blocks for milliseconds,
        in the worst case some hundreds; gives up the GIL for most of it.
        """
        terms = parse_query(_clean(text))
        if not terms:
            return None
        searcher = self.searcher  # one snapshot for all of it
        with _failing("search"):
            queries = _Queries(self._schema, searcher, fields, self._of_mailbox(mailbox))
            every = [(Occur.Must, queries.of(term)) for term in dict.fromkeys(terms)]
            return set(self._emails(searcher, mailbox, Query.boolean_query(every)))

    def _emails(self, searcher: Searcher, mailbox: int, query: Query) -> list[int]:
        """Return the emails of one mailbox that match; the only way to search the index."""
        # Documents of the mailbox, removed ones still counted: no answer is longer.
        limit = searcher.doc_freq("mailbox", mailbox)
        if limit == 0:
            return []
        mine = (Occur.Must, self._of_mailbox(mailbox))
        found = searcher.search(
            Query.boolean_query([mine, (Occur.Must, query)]),
            limit=limit,
            count=False,
            order_by_field="email",  # its hits carry the value; nothing is scored
            order=Order.Asc,
        )
        return [email_id for email_id, _ in found.hits]

    def _of_mailbox(self, mailbox: int) -> Query:
        return Query.term_query(self._schema, "mailbox", mailbox)

    @property
    def searcher(self) -> Searcher:
        """Return the index as of the last commit. Raises IndexFailed when it is closed."""
        try:
            return self._index.searcher()
        except AttributeError:
            raise IndexFailed("search: the index is closed") from None

    def documents(self, searcher: Searcher, mailbox: int) -> list[int]:
        """Return the email of every document of a mailbox; twice when there are two. Blocks."""
        with _failing("search"):
            return self._emails(searcher, mailbox, self._of_mailbox(mailbox))

    @property
    def has_garbage(self) -> bool:
        """Say whether words of removed documents are in the files, until segments merge."""
        return has_deletes(_tantivy_path(self._path))

    def count(self) -> int:
        """Return the number of documents as of the last commit."""
        return self.searcher.num_docs

    def verify(self) -> None:
        """Compare every committed file with its checksum. Raises IndexFailed.

        Opening does not: it reads the whole index. Anything else may go on beside it.
        """
        try:
            damaged = [file.name for file in damaged_files(_tantivy_path(self._path))]
        except MetaUnreadable as error:
            raise IndexFailed(f"verify: meta.json: {error}") from None
        if damaged:
            raise IndexFailed(f"verify: {damaged[0]} is damaged")

    def seal(self) -> None:
        """Write no more and free the lock, so that the directory may be moved; searches go on.

        Blocks while segments are merged. Raises IndexFailed.
        """
        if not self._sealed:
            self._sealed = True
            with _failing("close"):
                self._writer.wait_merging_threads()

    def close(self) -> None:
        """Free the lock, the files and the threads. Blocks while segments are merged.

        What was not committed is dropped. Nothing else may be called afterwards.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.seal()
        except IndexFailed as error:
            log.warning("search index closed after a failure: %s", error)
        # Tantivy lets go only when the last reference does.
        del self._writer, self._index


# Queries ------------------------------------------------------------------------------------


class _Queries:
    """Tantivy's form of our terms, over some fields of one snapshot.

    They find what they find in every mailbox; `mine` only saves work.
    """

    def __init__(
        self, schema: Schema, searcher: Searcher, fields: Collection[Field], mine: Query
    ) -> None:
        self._schema = schema
        self._searcher = searcher
        self._mine = mine
        self._words = [_words_field(field) for field in fields]
        self._grams = [_grams_field(field) for field in fields]

    def of(self, term: Term) -> Query:
        """Return the query that finds `term` in any of the fields."""
        match term:
            case WordPrefix(prefix):
                return _any(self._prefix(name, _token(prefix)) for name in self._words)
            case WordPhrase(phrase, last_is_prefix):
                tokens = [_token(word) for word in phrase]
                query = self._phrase_prefix if last_is_prefix else self._phrase
                return _any(query(name, tokens) for name in self._words)
            case CjkSubstring(text):
                # A single character begins a pair, be it with the end of its run.
                pairs = query_grams(text)
                if not pairs:
                    return _any(self._prefix(name, text) for name in self._grams)
                return _any(self._phrase(name, pairs) for name in self._grams)
            case _:
                assert_never(term)

    def _prefix(self, name: str, prefix: str) -> Query:
        # Distance 0 makes the automaton exact. It is quicker than a regex, which must first
        # be compiled, and has no limit of expansions.
        return Query.fuzzy_term_query(self._schema, name, prefix, distance=0, prefix=True)

    def _phrase(self, name: str, tokens: Sequence[str]) -> Query:
        if len(tokens) == 1:
            return Query.term_query(self._schema, name, tokens[0])
        return Query.phrase_query(self._schema, name, list(tokens))

    def _phrase_prefix(self, name: str, tokens: Sequence[str]) -> Query:
        """Return the query for a phrase whose last word is only begun.

        Tantivy's own gives up silently after 50 words with that beginning. Therefore the
        last words that the mailbox has beside the first ones are looked up; if they are too
        many, a regex takes them all, split by their next character where it must be.
        """
        *head, prefix = tokens
        if not head:
            return self._prefix(name, prefix)
        beside = Query.boolean_query(
            [(Occur.Must, self._mine), (Occur.Must, self._phrase(name, head))]
        )
        lasts = self._searcher.terms_with_prefix(name, prefix, filter_query=beside)
        if len(lasts) <= LAST_WORDS_MAX:
            return _any(self._phrase(name, [*head, last]) for last, _ in lasts)
        lasts = self._searcher.terms_with_prefix(name, prefix)  # as the regex will see them
        if len(head) + len(lasts) <= REGEX_TERMS_MAX:
            patterns: list[str | tuple[int, str]] = [re.escape(word) for word in tokens]
            patterns[-1] = f"{patterns[-1]}.*"
            return Query.regex_phrase_query(self._schema, name, patterns)
        longer = sorted({last[: len(prefix) + 1] for last, _ in lasts if last != prefix})
        branches = [self._phrase_prefix(name, [*head, begun]) for begun in longer]
        return _any([self._phrase(name, tokens), *branches])


def _any(queries: Iterable[Query]) -> Query:
    either = [(Occur.Should, query) for query in queries]
    return Query.boolean_query(either) if either else Query.empty_query()


# Documents ----------------------------------------------------------------------------------


def _words_field(field: Field) -> str:
    return f"{field.value}_words"


def _grams_field(field: Field) -> str:
    return f"{field.value}_grams"


def _schema() -> Schema:
    """Return the fields of a document. Nothing is stored: the text is in the shard."""
    builder = SchemaBuilder()
    builder.add_unsigned_field("mailbox", indexed=True)
    builder.add_unsigned_field("email", fast=True)
    # What a document is removed by; Tantivy takes one term for it, not two.
    builder.add_text_field("key", tokenizer_name="raw", index_option="basic")
    for field in Field:
        # Our tokens, one a line, are split again by Tantivy's whitespace tokenizer, which
        # knows ASCII white space only and needs no registration. The positions are those
        # of PreTokenizedString, at a fifth of its time, in which it holds the GIL.
        builder.add_text_field(_words_field(field), tokenizer_name="whitespace")
        builder.add_text_field(_grams_field(field), tokenizer_name="whitespace")
    return builder.build()


def _key(mailbox: int, email_id: int) -> str:
    assert 0 <= mailbox < 1 << 64
    assert 0 <= email_id < 1 << 64
    return f"{mailbox}/{email_id}"


def _tantivy_document(document: IndexDocument, key: str) -> Document:
    made = Document()
    # Document(mailbox=…) would make an i64, which kills the writer later on.
    made.add_unsigned("mailbox", document.mailbox)
    made.add_unsigned("email", document.email_id)
    made.add_text("key", key)
    for field in Field:
        text = field.of(document.text)
        words, grams = index_form(text)
        if words:
            made.add_text(_words_field(field), _token(words))
        if grams:
            made.add_text(_grams_field(field), grams)
    return made


def _token(word: str) -> str:
    """Return `word` with nothing left at which Tantivy would split it.

    A few ligatures are letters to Python but have a blank in their folded form (U+FDFA).
    """
    return word.replace(" ", "\u00a0")


def _clean(text: str) -> str:
    """Return `text` without lone surrogates, which Tantivy cannot take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# The directory ------------------------------------------------------------------------------


def _tantivy_path(path: Path) -> Path:
    return path / "tantivy"


def _schema_of(path: Path) -> str | None:
    try:
        return (path / "schema").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _empty(path: Path) -> None:
    """Remove everything in the directory `path`. Raises IndexInUse, OSError."""
    _refuse_if_in_use(_tantivy_path(path) / _WRITER_LOCK)
    for entry in sorted(path.iterdir()):  # "schema" first: half an index is none
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    _tantivy_path(path).mkdir()


def _refuse_if_in_use(lock: Path) -> None:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise IndexInUse(f"{lock.parent.name} is in use") from None


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn what Tantivy raises into IndexFailed or IndexInUse."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if "LockBusy" in str(error):
            raise IndexInUse(f"{what}: the index is in use") from None
        raise IndexFailed(f"{what}: {error}") from error
    except BaseException as error:
        # A panic in Rust, which damaged files can cause, is no Exception for PyO3: it would
        # pass every `except Exception` and end the actor.
        if type(error).__name__ != "PanicException":
            raise
        raise IndexFailed(f"{what}: {error}") from error
