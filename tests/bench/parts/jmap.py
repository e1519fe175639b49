"""Jmap: one mailbox of a hundred thousand messages, looked at as a webmail does.

Each view is measured three ways: alone on one connection; as fast as eight connections can,
which gives the maximum; and open-loop at half of that maximum, at times fixed beforehand.
Beside it, honestly unequal, the same mailbox in Dovecot over one selected IMAP session.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.corpus import Corpus
from tests.bench.figures import Target, percentile, percentiles, poisson_arrivals
from tests.bench.fill import write_maildir
from tests.bench.heliograph import Heliograph
from tests.bench.http_load import HttpLoadResult, ask_all, closed_loop, open_loop, run
from tests.bench.imap import ImapClient
from tests.bench.rival import PostfixDovecot
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import DOMAIN, PASSWORD, BenchError
from tests.bench.table import markdown, number
from tests.bench.views import PAGE, Client, Search, searches_of

USER = f"large@{DOMAIN}"
SEED = 8621
UNREAD = 0.01
CONNECTIONS = 8  # The session's maxConcurrentRequests (RFC 8620 §2): more are refused.
OPEN_LOAD = 0.5  # Of the measured maximum.
OPEN_LOOP_FACTOR = 2.0  # The open loop lasts longer, for its 99th percentile.
SETTLE_S = 5.0
NEWEST_MS_MAX = 5.0
SEARCH_MS_MAX = 15.0
IMAP_PROBES = 30
SCAN_PROBES = 2  # Each reads a hundred thousand files.


@dataclass(frozen=True, slots=True)
class ViewResult:
    """One view in one round."""

    view: str
    round: int
    alone: HttpLoadResult
    maximum: HttpLoadResult
    opened: HttpLoadResult
    offered_per_s: float


def measure(stage: Stage) -> PartReport:
    """Return latencies and maximum rates of a large mailbox."""
    count = stage.sizes.mailbox_messages
    report = PartReport("jmap", f"A mailbox of {count:,} messages")
    corpus = Corpus(seed=SEED, messages=count, to=USER, unread=UNREAD)
    with stage.scratch("the corpus") as scratch:
        write_maildir(corpus, scratch / "maildir")
        if stage.with_heliograph:
            _measure_heliograph(stage, report, corpus, scratch / "maildir")
        if stage.with_rival:
            _measure_rival(stage, report, corpus, scratch / "maildir")
    return report


def _measure_heliograph(stage: Stage, report: PartReport, corpus: Corpus, maildir: Path) -> None:
    system = Heliograph()
    with stage.running(system, (USER,)):
        report.versions[system.name] = system.version()
        began_s = time.monotonic()
        system.import_maildir(USER, maildir)
        filled_s = time.monotonic() - began_s
        say(f"imported {corpus.messages:,} messages: {corpus.messages / filled_s:.0f}/s")
        client = Client(system, USER)
        searches = searches_of(corpus)
        client.check(corpus, searches)
        views = client.views(searches).named()
        time.sleep(SETTLE_S)
        for requests in views.values():
            run(ask_all(requests, port=system.http_port))
        results = [
            _measure_view(view, requests, stage, system.http_port, number)
            for number in range(1, stage.sizes.rounds + 1)
            for view, requests in views.items()
        ]
        by_kind = _by_kind(client, searches, system.http_port)
    report.tables += [_view_table(results, list(views)), _kind_table(by_kind, searches)]
    report.figures |= {
        "fill": {"messages": corpus.messages, "per_s": corpus.messages / filled_s},
        "views": [asdict(result) for result in results],
        "searches": by_kind,
    }
    for view, limit_ms in (("newest-50", NEWEST_MS_MAX), ("search", SEARCH_MS_MAX)):
        what = f"{view} at {corpus.messages:,} messages, p50"
        opened = [ms for one in results if one.view == view for ms in one.opened.latency_ms]
        alone = [ms for one in results if one.view == view for ms in one.alone.latency_ms]
        report.targets += [
            Target(f"{what}, open-loop at half load", "<", limit_ms, "ms", percentile(opened, 50)),
            Target(f"{what}, one connection", "<", limit_ms, "ms", percentile(alone, 50)),
        ]


def _measure_view(
    view: str, requests: tuple[bytes, ...], stage: Stage, port: int, number_: int
) -> ViewResult:
    loop_s = stage.sizes.loop_s
    alone = run(closed_loop(requests, port=port, connections=1, duration_s=loop_s))
    maximum = run(closed_loop(requests, port=port, connections=CONNECTIONS, duration_s=loop_s))
    offered_per_s = maximum.per_s * OPEN_LOAD
    arrivals_s = poisson_arrivals(
        per_s=offered_per_s, duration_s=loop_s * OPEN_LOOP_FACTOR, seed=SEED + number_
    )
    opened = run(open_loop(requests, arrivals_s, port=port, connections=CONNECTIONS))
    p50, p95, p99 = percentiles(opened.latency_ms)
    say(
        f"round {number_}  {view:<34} maximum {maximum.per_s:6.0f}/s"
        f"  at {offered_per_s:5.0f}/s p50 {p50:.1f} ms p95 {p95:.1f} ms p99 {p99:.1f} ms"
    )
    return ViewResult(view, number_, alone, maximum, opened, offered_per_s)


def _by_kind(client: Client, searches: list[Search], port: int) -> dict[str, tuple[float, ...]]:
    """Return the latencies of each kind of search alone, in ms."""
    found = {}
    for kind in dict.fromkeys(search.kind for search in searches):
        own = [search for search in searches if search.kind == kind]
        requests = client.search_requests(own)
        loop = run(closed_loop(requests, port=port, connections=1, duration_s=1.0))
        found[kind] = loop.latency_ms
    return found


def _view_table(results: list[ViewResult], views: list[str]) -> str:
    rows = []
    for view in views:
        own = [result for result in results if result.view == view]
        alone = percentiles([ms for one in own for ms in one.alone.latency_ms])
        opened = percentiles([ms for one in own for ms in one.opened.latency_ms])
        rows.append(
            [
                view,
                *(number(ms, 1) for ms in alone),
                number(statistics.median(one.maximum.per_s for one in own)),
                number(statistics.median(one.offered_per_s for one in own)),
                *(number(ms, 1) for ms in opened),
            ]
        )
    header = ["JMAP, one request each", "alone p50 ms", "p95", "p99", "maximum/s", "open-loop at/s"]
    return markdown([*header, "p50 ms", "p95", "p99"], rows)


def _kind_table(by_kind: dict[str, tuple[float, ...]], searches: list[Search]) -> str:
    rows = []
    for kind, latency_ms in by_kind.items():
        least = [search.least for search in searches if search.kind == kind]
        held = f"{min(least)} to {max(least)}"
        rows.append([kind, held, *(number(ms, 1) for ms in percentiles(latency_ms))])
    return markdown(["search, one connection", "messages found", "p50 ms", "p95", "p99"], rows)


# The rival ----------------------------------------------------------------------------------


def _measure_rival(stage: Stage, report: PartReport, corpus: Corpus, maildir: Path) -> None:
    system = PostfixDovecot()
    with stage.running(system, (USER,)):
        report.versions[system.name] = system.version()
        system.adopt_maildir(USER, maildir)
        with ImapClient(port=system.imap_port, user=USER, password=PASSWORD) as client:
            began_s = time.monotonic()
            client.command("SELECT INBOX")  # Builds Dovecot's index.
            say(f"{system.name}: first SELECT {time.monotonic() - began_s:.1f} s")
            times_ms = _imap_times(client, corpus)
    rows = [
        [what, str(len(found)), *(number(ms, 1) for ms in percentiles(found))]
        for what, found in times_ms.items()
    ]
    header = ["Dovecot, one selected IMAP session", "probes", "p50 ms", "p95", "p99"]
    report.tables.append(markdown(header, rows))
    report.figures["imap_ms"] = times_ms


def _imap_times(client: ImapClient, corpus: Corpus) -> dict[str, list[float]]:
    """Return the times of what comes nearest to the views, in ms."""
    last = corpus.messages
    envelopes = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"
    newest = f"FETCH {max(1, last - PAGE + 1)}:{last} {envelopes}"
    searches = searches_of(corpus)
    subjects = [search.filter["subject"] for search in searches if search.kind == "subject"]
    texts = [search for search in searches if search.kind == "medium"]
    client.command(newest)
    client.command(f"SEARCH SUBJECT {subjects[0]}")  # Fills Dovecot's cache.
    found: dict[str, list[float]] = {
        "newest 50 envelopes": [client.timed_ms(newest)[0] for _ in range(IMAP_PROBES)]
    }
    unread = []
    for _ in range(IMAP_PROBES):
        took_ms, answer = client.timed_ms("SEARCH UNSEEN")
        numbers = _numbers(answer)
        if len(numbers) != corpus.unread:
            raise BenchError(f"Dovecot finds {len(numbers)} unread, not {corpus.unread}")
        took_ms += client.timed_ms(f"FETCH {','.join(numbers[-PAGE:])} {envelopes}")[0]
        unread.append(took_ms)
    found["unread filter and 50 envelopes"] = unread
    found["SEARCH SUBJECT, numbers only"] = [
        client.timed_ms(f"SEARCH SUBJECT {subjects[probe % len(subjects)]}")[0]
        for probe in range(IMAP_PROBES)
    ]
    found["SEARCH TEXT without an index, numbers only"] = [
        client.timed_ms(f"SEARCH TEXT {search.filter['text']}")[0] for search in texts[:SCAN_PROBES]
    ]
    return found


def _numbers(answer: bytes) -> list[str]:
    line = next(line for line in answer.split(b"\r\n") if line.startswith(b"* SEARCH"))
    return line.decode().split()[2:]
