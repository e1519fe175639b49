"""Snippets: where a text holds what was searched for, marked for a reader (RFC 8621 §5).

What is marked is what `mail.search` finds: words by their beginnings, phrases, Chinese,
Japanese and Korean by any substring; case, width and accents do not count. The text around
it stays as it was written.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from mail.search import (
    WORD_CHARS_MAX,
    CjkSubstring,
    Term,
    WordPhrase,
    WordPrefix,
    folded,
    normalised,
    runs,
)

SNIPPET_BYTES_MAX = 255  # RFC 8621 §5: of a preview.
# Of them in front of the first mark: it shall be seen in a line that is cut off.
LEAD_CHARS_MAX = 60
LEAD_BYTES_MAX = 120
OCTETS_PER_CHARACTER_MAX = 5  # As `&amp;` has; UTF-8 has four.
# A long text is looked through in blocks, of which most can be passed over at once; they
# overlap, so that a phrase lies in one of them.
BLOCK_CHARS = 1024
OVERLAP_CHARS = 512

_OPEN, _CLOSE = "<mark>", "</mark>"
_CHUNK = re.compile(r"\S+")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# What NFC or NFKC may join to the character before it, beside combining marks: vowels and
# finals of Hangul, half width voice marks and half width Hangul.
_JOINING = re.compile("[\u1160-\u11ff\uff9e-\uffdc]")

Span = tuple[int, int]


class Places(Protocol):
    """Where each character of a normalised text is from."""

    def __getitem__(self, at: int, /) -> Span: ...


class _Unmoved:
    """Places of a text whose characters are where they were."""

    def __getitem__(self, at: int, /) -> Span:
        return at, at + 1


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one text with the place of each in it."""

    words: list[str]
    word_spans: list[Span]
    cjk: list[tuple[str, Places]]  # a run, and the place of each of its characters


def highlight(text: str, terms: Sequence[Term]) -> str | None:
    """Return all of `text` as HTML with marks, None when no term is in it."""
    found = spans(text, terms)
    if not found:
        return None
    return "".join(_html(piece, marked=marked) for piece, marked in _pieces(text, found))


def excerpt(text: str, terms: Sequence[Term]) -> str | None:
    """Return the part of `text` around the first term found, as HTML with marks on one line.

    At most `SNIPPET_BYTES_MAX` octets. None when no term is in the text.
    """
    for start, end in _blocks(len(text)):
        block = text[start:end]
        if not _may_match(block, terms):
            continue
        found = spans(block, terms)
        if found:
            begin = _lead(block, found[0][0])
            # What follows the block is not marked; it rarely is within the octets.
            more = text[start + begin : end + SNIPPET_BYTES_MAX]
            return _bounded(_pieces(more, [(a - begin, b - begin) for a, b in found]))
    return None


def spans(text: str, terms: Sequence[Term]) -> list[Span]:
    """Return which parts of `text` match any of the terms, in order, none overlapping."""
    if text.isascii():
        plain = text.lower()
        sought = (term for term in terms if not isinstance(term, CjkSubstring))
        return _merged(span for term in sought for span in _in_ascii(term, plain))
    found: list[Span] = []
    placed = _placed(text, terms)
    for term in terms:
        match term:
            case WordPrefix(prefix):
                for word, span in zip(placed.words, placed.word_spans, strict=True):
                    if word.startswith(prefix):
                        found.append(span)
            case WordPhrase():
                found += _phrases(term, placed)
            case CjkSubstring(wanted):
                for run, places in placed.cjk:
                    at = run.find(wanted)
                    while at >= 0:
                        found.append((places[at][0], places[at + len(wanted) - 1][1]))
                        at = run.find(wanted, at + 1)
    return _merged(found)


def _in_ascii(term: WordPrefix | WordPhrase, plain: str) -> Iterator[Span]:
    """Yield where a term is in ASCII text in lower case, many times as fast."""
    begin = term.prefix if isinstance(term, WordPrefix) else term.words[0]
    at = plain.find(begin)
    while at >= 0:
        match = _ascii_pattern(term).match(plain, at)
        if match is not None:
            yield match.span()
        at = plain.find(begin, at + 1)


@lru_cache(maxsize=1024)
def _ascii_pattern(term: WordPrefix | WordPhrase) -> re.Pattern[str]:
    """Return what matches a term from where it begins."""
    if isinstance(term, WordPrefix):
        words, last_is_prefix = [term.prefix], True
    else:
        words, last_is_prefix = list(term.words), term.last_is_prefix
    parts = [re.escape(word) for word in words]
    for i, word in enumerate(words):
        if len(word) == WORD_CHARS_MAX or (last_is_prefix and i == len(words) - 1):
            parts[i] += "[a-z0-9]*"
    phrase = "[^a-z0-9]+".join(parts)
    return re.compile(f"(?<![a-z0-9]){phrase}(?![a-z0-9])")


def _phrases(phrase: WordPhrase, placed: _Runs) -> Iterator[Span]:
    *head, last = phrase.words
    count = len(phrase.words)
    for i in range(len(placed.words) - count + 1):
        word = placed.words[i + count - 1]
        fits = word.startswith(last) if phrase.last_is_prefix else word == last
        if fits and placed.words[i : i + count - 1] == head:
            yield placed.word_spans[i][0], placed.word_spans[i + count - 1][1]


def _merged(found: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


# Places ---------------------------------------------------------------------------------------


def _placed(text: str, terms: Sequence[Term]) -> _Runs:
    """Return the runs of `text`, as `mail.search` finds them, with their places in it."""
    found = _Runs([], [], [])
    if (whole := normalised(text)) == text.casefold() and len(whole) == len(text):
        # Each character became one, as in most texts: case folding never takes any away.
        if all(isinstance(term, CjkSubstring) for term in terms):
            # What is nothing but such characters lies within one run wherever it is.
            found.cjk.append((whole, _Unmoved()))
            return found
        for start, end, run, is_cjk in runs(text):
            if is_cjk:
                found.cjk.append((run, [(i, i + 1) for i in range(start, end)]))
            else:
                found.words.append(run)
                found.word_spans.append((start, end))
        return found
    # White space ends every run, and nothing is joined across it.
    for chunk in _CHUNK.finditer(text):
        places = _places(chunk[0], chunk.start())
        for start, end, run, is_cjk in runs(chunk[0]):
            if is_cjk:
                found.cjk.append((run, places[start:end]))
            else:
                found.words.append(run)
                found.word_spans.append((places[start][0], places[end - 1][1]))
    return found


def _places(chunk: str, offset: int) -> list[Span]:
    """Return for each character of the normalised chunk what it was made from."""
    places: list[Span] = []
    text = ""
    for start, end in _clusters(chunk):
        made = normalised(chunk[start:end])
        text += made
        places += [(offset + start, offset + end)] * len(made)
    if text == (whole := normalised(chunk)):
        return places
    # Something was joined after all: then the chunk is marked as one.
    return [(offset, offset + len(chunk))] * len(whole)


def _clusters(chunk: str) -> Iterator[Span]:
    """Yield groups of characters that are normalised without regard to others."""
    start = 0
    for i in range(1, len(chunk)):
        character = chunk[i]
        if character.isascii():
            joins = False
        elif _JOINING.match(character) is not None:
            joins = True
        else:
            joins = unicodedata.category(character)[0] == "M"
        if not joins:
            yield start, i
            start = i
    yield start, len(chunk)


# Long texts -----------------------------------------------------------------------------------


def _blocks(length: int) -> Iterator[Span]:
    for start in range(0, max(1, length - OVERLAP_CHARS), BLOCK_CHARS - OVERLAP_CHARS):
        yield start, min(length, start + BLOCK_CHARS)


def _may_match(block: str, terms: Sequence[Term]) -> bool:
    """Say at little cost whether looking closer may find something."""
    text = normalised(block)
    only_cjk = all(isinstance(term, CjkSubstring) for term in terms)
    plain = text if only_cjk or text.isascii() else folded(text)
    for term in terms:
        match term:
            case WordPrefix(prefix):
                if prefix in plain:
                    return True
            case WordPhrase(words):
                if all(word in plain for word in words):
                    return True
            case CjkSubstring(wanted):
                if wanted in text:
                    return True
    return False


def _lead(block: str, start: int) -> int:
    """Return where an excerpt begins: a little before the mark, with a whole word."""
    before = block[max(0, start - LEAD_CHARS_MAX) : start]
    begin = start - _fitting(before[::-1], LEAD_BYTES_MAX)
    if begin:
        blank = _BLANKS.search(block, begin, start)
        begin = blank.end() if blank is not None else begin
    return begin


# HTML -----------------------------------------------------------------------------------------


def _pieces(text: str, found: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, and whether each is to be marked."""
    at = 0
    for start, end in found:
        if start > at:
            yield text[at:start], False
        yield text[start:end], True
        at = end
    if at < len(text):
        yield text[at:], False


def _html(text: str, *, marked: bool) -> str:
    escaped = html.escape(text, quote=False)
    return f"{_OPEN}{escaped}{_CLOSE}" if marked else escaped


def _bounded(pieces: Iterable[tuple[str, bool]]) -> str:
    """Return pieces as HTML on one line, cut where the octets end; marks are always closed."""
    out = ""
    left = SNIPPET_BYTES_MAX
    for text, marked in pieces:
        room = left - len(_OPEN + _CLOSE) if marked else left
        line = _BLANKS.sub(" ", text[: SNIPPET_BYTES_MAX + 1])
        kept = _fitting(line, room)
        if kept:
            piece = _html(line[:kept], marked=marked)
            out += piece
            left -= _octets(piece)
        if kept < len(line) or not left:
            break
    return out.strip()


def _fitting(text: str, octets_max: int) -> int:
    """Return how many characters from the start fit into so many octets of HTML."""
    size = _octets(_html(text, marked=False))
    if size == len(text):
        return max(0, min(size, octets_max))
    kept = len(text)
    while kept and (excess := _octets(_html(text[:kept], marked=False)) - octets_max) > 0:
        kept -= min(kept, -(-excess // OCTETS_PER_CHARACTER_MAX))
    return kept


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
