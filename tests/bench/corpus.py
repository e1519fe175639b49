"""Corpus: mail like people's, made from a seed. Pure.

The vocabulary is artificial, its words are used as those of a language are (the n-th with a
probability in proportion to 1/n), half of the messages answer one of the recent ones. How many
messages hold a word is counted while they are made, so that a search's answer can be checked.
"""

from __future__ import annotations

import datetime
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import format_datetime
from functools import cache
from itertools import accumulate

from tests.bench.system import DOMAIN

VOCABULARY = 200_000  # The last of them is in some six of a hundred thousand messages.
PEOPLE = 500
BODY_WORDS = (40, 260)
SUBJECT_WORDS = 5
ANSWERS = 0.5  # So many of the messages answer another one.
RECENT_MAX = 300  # One of so many of the last messages.
LINE_WORDS = 12
SYLLABLES = [c + v for c in "bcdfghjklmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "er")]
BEGAN = datetime.datetime(2024, 1, 1, 8, 0, tzinfo=datetime.UTC)
INTERVAL_S = 600


@dataclass(frozen=True, slots=True)
class Piece:
    """One message of the corpus."""

    number: int
    seen: bool
    octets: bytes


@dataclass(frozen=True, slots=True)
class _Recent:
    message_id: str
    subject: str
    references: str


def words(count: int, chance: random.Random) -> list[str]:
    """Return so many different words, in the order in which they were made."""
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(chance.choices(SYLLABLES, k=chance.choice((2, 3, 3, 4))))] = None
    return list(made)


@cache
def vocabulary() -> tuple[list[str], list[float]]:
    """Return the words of the language, the most common first, and the sums of their weights."""
    ranks = range(1, VOCABULARY + 1)
    return words(VOCABULARY, random.Random(0)), list(accumulate(1 / rank for rank in ranks))


class Writer:
    """Draws words as a language uses them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._words, self._weights = vocabulary()

    def draw(self, count: int) -> list[str]:
        """Return so many words."""
        return self._chance.choices(self._words, cum_weights=self._weights, k=count)

    def text(self, size_bytes: int) -> str:
        """Return lines of words, `size_bytes` octets or a line more."""
        lines: list[str] = []
        length = 0
        while length < size_bytes:
            lines.append(" ".join(self.draw(LINE_WORDS)))
            length += len(lines[-1]) + 2
        return "\r\n".join(lines) + "\r\n"


class Corpus:
    """The messages of one mailbox; iterate once, then ask for the counts."""

    def __init__(self, *, seed: int, messages: int, to: str, unread: float) -> None:
        self.messages = messages
        self.holding: Counter[str] = Counter()  # Messages by word of body or subject.
        self.subject_holding: Counter[str] = Counter()
        self.sent_by: Counter[str] = Counter()
        self.unread = 0
        self._to = to
        self._unread = unread
        self._writer = Writer(seed)
        self._chance = random.Random(seed + 1)
        self._people = _people(self._chance)
        self._recent: deque[_Recent] = deque(maxlen=RECENT_MAX)

    def __iter__(self) -> Iterator[Piece]:
        for number in range(self.messages):
            yield self._piece(number)

    def words(self, *, least: int, most: int, count: int) -> list[str]:
        """Return words that from `least` to `most` messages hold, spread over that range."""
        found = sorted((held, word) for word, held in self.holding.items() if least <= held <= most)
        step = max(1, len(found) // count) if found else 1
        return [word for _, word in found[::step]][:count]

    def _piece(self, number: int) -> Piece:
        sender = self._chance.choice(self._people)
        answered = (
            self._chance.choice(self._recent)
            if self._recent and self._chance.random() < ANSWERS
            else None
        )
        subject = answered.subject if answered else " ".join(self._writer.draw(SUBJECT_WORDS))
        message_id = f"<{number}.bench@{DOMAIN}>"
        references = f"{answered.references} {answered.message_id}".strip() if answered else ""
        words = self._writer.draw(self._chance.randint(*BODY_WORDS))
        seen = self._chance.random() >= self._unread
        self._count(sender, subject.split(), words, seen=seen)
        # A long conversation names the last of it only, as mail programs do.
        self._recent.append(_Recent(message_id, subject, " ".join(references.split()[-5:])))
        head = [
            f"From: {sender}",
            f"To: {self._to}",
            f"Subject: {'Re: ' if answered else ''}{subject}",
            f"Date: {format_datetime(BEGAN + datetime.timedelta(seconds=number * INTERVAL_S))}",
            f"Message-ID: {message_id}",
        ]
        if answered:
            head += [f"In-Reply-To: {answered.message_id}", f"References: {references}"]
        lines = (words[at : at + LINE_WORDS] for at in range(0, len(words), LINE_WORDS))
        text = "\r\n".join([*head, "", *map(" ".join, lines), ""])
        return Piece(number, seen, text.encode())

    def _count(self, sender: str, subject: list[str], words: list[str], *, seen: bool) -> None:
        self.sent_by[sender] += 1
        self.subject_holding.update(set(subject))
        self.holding.update({*words, *subject})
        self.unread += not seen


def _people(chance: random.Random) -> list[str]:
    """Return senders whose names are no words of the language, so that searches tell them apart."""
    common = set(vocabulary()[0])
    names = [name for name in words(4 * PEOPLE, chance) if name not in common]
    pairs = zip(names[:PEOPLE], names[PEOPLE : 2 * PEOPLE], strict=True)
    return [f"{first} {last} <{first}.{last}@{DOMAIN}>" for first, last in pairs]
