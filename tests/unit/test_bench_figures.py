"""The benchmark's arithmetic: percentiles, arrival times, targets, memory, words, requests."""

from __future__ import annotations

from tests.bench.corpus import Corpus
from tests.bench.figures import Target, median_or_none, percentile, percentiles, poisson_arrivals
from tests.bench.load import SMALL_BYTES, Load, Mode, generator_command, numbered_users
from tests.bench.memory import ProcessMemory, growth, parse_rollup, total_pss_bytes


def test_percentiles_are_observed_values() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert percentiles(values) == (100.0, 190.0, 198.0)
    assert percentile(values, 50) == 100.0
    assert percentile([7.0], 99) == 7.0


def test_median_leaves_out_what_is_missing() -> None:
    assert median_or_none([3.0, None, 1.0]) == 2.0
    assert median_or_none([None]) is None


def test_arrivals_are_fixed_by_the_seed_and_have_the_rate() -> None:
    arrivals = poisson_arrivals(per_s=100, duration_s=100, seed=5)
    assert arrivals == poisson_arrivals(per_s=100, duration_s=100, seed=5)
    assert arrivals != poisson_arrivals(per_s=100, duration_s=100, seed=6)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0
    assert arrivals[-1] < 100
    assert 9_600 < len(arrivals) < 10_400  # Four standard deviations around 10,000.


def test_a_target_without_a_value_is_not_reached_and_not_missed() -> None:
    assert Target("push", "<", 30, "ms", 29.9).reached is True
    assert Target("push", "<", 30, "ms", 30.0).reached is False
    assert Target("rate", "≥", 1.5, "×", 1.5).reached is True
    assert Target("rate", "≥", 1.5, "×", None).reached is None


def test_rollup_is_read_in_bytes() -> None:
    text = (
        "00400000-7ffd0000 ---p 00000000 00:00 0   [rollup]\n"
        "Rss:              8 kB\nPss:              3 kB\nPss_Anon:         1 kB\n"
    )
    assert parse_rollup(text) == {"Rss": 8192, "Pss": 3072, "Pss_Anon": 1024}


def test_growth_compares_processes_that_were_there_both_times() -> None:
    def process(pid: int, rss_bytes: int) -> ProcessMemory:
        return ProcessMemory(pid, f"role {pid}", rss_bytes, rss_bytes // 2, 0)

    first = [process(1, 100), process(2, 100), process(3, 100)]
    last = [process(1, 102), process(2, 110), process(4, 900)]
    assert [(one.pid, round(one.share, 2)) for one in growth(first, last)] == [(2, 0.1), (1, 0.02)]
    assert total_pss_bytes(first) == 150


def test_a_corpus_is_fixed_by_its_seed_and_knows_what_is_in_it() -> None:
    corpus = Corpus(seed=1, messages=300, to="large@example.test", unread=0.1)
    pieces = list(corpus)
    assert pieces == list(Corpus(seed=1, messages=300, to="large@example.test", unread=0.1))
    assert corpus.unread == sum(not piece.seen for piece in pieces)
    assert 0 < corpus.unread < 90
    held = [
        {*piece.octets.partition(b"\r\n\r\n")[2].decode().split(), *_subject(piece.octets).split()}
        for piece in pieces
    ]
    for word in corpus.words(least=3, most=30, count=5):
        assert sum(word in words for words in held) == corpus.holding[word]
    assert any(b"\r\nReferences: <" in piece.octets for piece in pieces)


def _subject(octets: bytes) -> str:
    return next(
        line[9:].decode() for line in octets.split(b"\r\n") if line.startswith(b"Subject: ")
    )


def test_numbered_users_are_what_the_generators_address() -> None:
    users = numbered_users(30)
    assert len(set(users)) == 30
    load = Load(Mode.CONNECTION_PER_MESSAGE, SMALL_BYTES, 3, numbered=True)
    command = generator_command(load, port=25, recipient="box4@example.test", file=None)
    assert "-N" in command
    # smtp-source puts 1, 2, 3 before the address.
    assert {f"{number}box4@example.test" for number in (1, 2, 3)} <= set(users)
