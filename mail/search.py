"""Search: how text is cut for the index and for queries, the same way for both.

Words      runs of letters and digits of scripts that put blanks between words, case and
           accents folded; found by whole words and by their beginnings.
Characters runs of Hangul, Han and Kana, where an ending or the next word follows without a
           blank; indexed as overlapping pairs with positions, found by any substring.
`matches` says what the index must answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

WORD_CHARS_MAX = 64  # Longer ones are base64 and URLs; cut in the index and in queries alike.
QUERY_CHARS_MAX = 1000  # Nobody types more; the rest of a longer query is not looked at.
TERMS_MAX = 50  # Of one query; each costs a lookup.
END = "\x00"  # Follows the last character of a run, so that this, too, begins a pair.
RUN_GAP = 2  # Between the positions of two runs, so that no phrase spans them.

_CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3040-\u30fa"
    "\u30fc-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U000323af"
)
# Marks that belong to the letter before them in Latin, Greek, Cyrillic, Hebrew, Arabic,
# the scripts of India and South East Asia; \w knows only the letters.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u0e31-\u0e4e"
)
_RUN = re.compile(rf"([{_CJK}]+)|([^\W_{_CJK}]+(?:[{_MARKS}]+[^\W_{_CJK}]*)*)")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ASCII_LONG = re.compile(rf"([a-z0-9]{{{WORD_CHARS_MAX}}})[a-z0-9]+")
# To a line feed, whatever is in no word of ASCII text in lower case.
_ASCII_BREAKS = "".join(chr(c) if chr(c).isalnum() else "\n" for c in range(128))
_WIDE = re.compile("[\uff00-\uffef]+")  # Full width Latin, half width Kana and Hangul.
_ACCENTS = re.compile("[\u0300-\u036f]+")
_FOLDED_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}
)
_TOKEN = re.compile(r""""((?:[^"\\]|\\.)*)"|(?<!\S)'((?:[^'\\]|\\.)*)'(?!\S)|([^\s"]+)""")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class WordPrefix:
    """Some word begins with this."""

    prefix: str


@dataclass(frozen=True, slots=True)
class WordPhrase:
    """These words follow each other; of the last one the beginning may be enough."""

    words: tuple[str, ...]
    last_is_prefix: bool


@dataclass(frozen=True, slots=True)
class CjkSubstring:
    """These characters stand next to each other somewhere."""

    text: str


Term = WordPrefix | WordPhrase | CjkSubstring


def words(text: str) -> list[str]:
    """Return the words of `text` in order, folded; runs of CJK characters are left out."""
    if text.isascii():
        return [word[:WORD_CHARS_MAX] for word in _ASCII_WORD.findall(text.lower())]
    return [run for run, is_cjk in _runs(text) if not is_cjk]


def grams(text: str) -> list[tuple[str, int]]:
    """Return (pair of characters, position) for every character of every CJK run.

    The partner of a run's last character is `END`. A string of n characters is in the text
    if its n - 1 pairs stand at consecutive positions; one character, if a pair begins with it.
    """
    out: list[tuple[str, int]] = []
    position = 0
    if text.isascii():
        return out
    for run, is_cjk in _runs(text):
        if is_cjk:
            for pair in zip(run, run[1:] + END, strict=True):
                out.append(("".join(pair), position))
                position += 1
            position += RUN_GAP
    return out


def index_form(text: str) -> tuple[str, str]:
    """Return what `words` and what `grams` find, each one a line, in one pass over `text`.

    Empty lines stand for nothing. The gap between two runs is not kept: the pair that ends
    a run is in no query, so that no phrase reaches across it.
    """
    if text.isascii():
        lines = text.lower().translate(_ASCII_BREAKS)
        if len(max(lines.split("\n"), key=len)) > WORD_CHARS_MAX:
            lines = _ASCII_LONG.sub(r"\1", lines)
        return lines, ""
    text_words: list[str] = []
    pairs: list[str] = []
    for run, is_cjk in _runs(text):
        if is_cjk:
            pairs += map("".join, zip(run, run[1:] + END, strict=True))
        else:
            text_words.append(run)
    return "\n".join(text_words), "\n".join(pairs)


def query_grams(text: str) -> tuple[str, ...]:
    """Return the consecutive pairs of a `CjkSubstring`; none for a single character."""
    return tuple(text[i : i + 2] for i in range(len(text) - 1))


def parse_query(text: str) -> tuple[Term, ...]:
    """Return the terms, all of which a text must match (RFC 8621 §4.4.1); () for none.

    Tokens are divided by white space; single or double quotes make a phrase. A bare word is
    found by its beginning; the words of a token like `alice@example.test` follow each other.
    """
    terms: dict[Term, None] = {}
    for match in _TOKEN.finditer(text[:QUERY_CHARS_MAX]):
        double, single, bare = match.groups()
        phrase = double if double is not None else single
        content = bare if phrase is None else _ESCAPED.sub(r"\1", phrase)
        terms.update(dict.fromkeys(_terms(content, is_phrase=phrase is not None)))
    return tuple(terms)[:TERMS_MAX]


def matches(terms: tuple[Term, ...], text: str) -> bool:
    """Say whether `text` matches every term; what the index must say, too."""
    text_words = words(text)
    cjk_runs = [run for run, is_cjk in _runs(text) if is_cjk]
    return all(_matches_one(term, text_words, cjk_runs) for term in terms)


def _terms(content: str, *, is_phrase: bool) -> Iterator[Term]:
    """Yield the terms of one token: neighbouring words as one, each CJK run as another."""
    group: list[str] = []
    for run, is_cjk in _runs(content):
        if not is_cjk:
            group.append(run)
            continue
        if group:
            yield _word_term(group, is_phrase=is_phrase)
            group = []
        yield CjkSubstring(run)
    if group:
        yield _word_term(group, is_phrase=is_phrase)


def _word_term(group: list[str], *, is_phrase: bool) -> Term:
    if len(group) == 1 and not is_phrase:
        return WordPrefix(group[0])
    return WordPhrase(tuple(group), last_is_prefix=not is_phrase)


def _matches_one(term: Term, text_words: list[str], cjk_runs: list[str]) -> bool:
    match term:
        case WordPrefix(prefix):
            return any(word.startswith(prefix) for word in text_words)
        case CjkSubstring(wanted):
            return any(wanted in run for run in cjk_runs)
        case WordPhrase(phrase, last_is_prefix):
            *head, last = phrase
            for i in range(len(text_words) - len(phrase) + 1):
                word = text_words[i + len(head)]
                fits = word.startswith(last) if last_is_prefix else word == last
                if fits and text_words[i : i + len(head)] == head:
                    return True
            return False


def runs(text: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield (start, end, run, is CJK) in order; the place is that in the normalised text.

    Words are folded and cut, CJK characters are not.
    """
    for match in _RUN.finditer(normalised(text)):
        cjk, word = match.groups()
        if cjk is not None:
            yield match.start(), match.end(), cjk, True
        elif short := folded(word)[:WORD_CHARS_MAX]:
            yield match.start(), match.end(), short, False


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    for _, _, run, is_cjk in runs(text):
        yield run, is_cjk


def normalised(text: str) -> str:
    """Return `text` in NFC, width and case folded."""
    if text.isascii():
        return text.lower()
    if _WIDE.search(text) is not None:
        text = _WIDE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def folded(word: str) -> str:
    """Return a normalised word without accents."""
    if word.isascii():
        return word
    word = _ACCENTS.sub("", unicodedata.normalize("NFKD", word).translate(_FOLDED_LETTERS))
    return unicodedata.normalize("NFC", word)
