"""run: measure Heliograph beside Postfix and Dovecot, alternating, in one run.

Usage       run.py [--rounds N] [--messages N] [--probes N] [--quick] [--system NAME]…
                   [--directory DIR] [--quiet-wait S] [--json FILE] [--keep]
Needs       root and Linux; the rival comes from tests/bench/install_rival.sh.

DIAGNOSTICS
  exit 0    every load was accepted and delivered in full; figures are on stdout
  exit 1    a system did not start, refused or lost a message; the reason is on stderr, and what
            was measured before is still printed
  Figures are never judged: a slow run is not a failure.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

if __package__ in (None, ""):  # Run as a file: the package's root is not on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.heliograph import Heliograph
from tests.bench.load import SESSIONS_PER_GENERATOR, SMTP_SOURCE, Mode
from tests.bench.measure import (
    await_quiet,
    measure_flushes,
    measure_load,
    measure_push,
    send_and_await,
)
from tests.bench.report import Results, environment, load_line, push_line, tables, write_json
from tests.bench.rival import PostfixDovecot
from tests.bench.system import BenchError, SystemUnderTest

# The first is the numerator of the ratio.
SYSTEMS: dict[str, Callable[[], SystemUnderTest]] = {
    "heliograph": Heliograph,
    "postfix": PostfixDovecot,
}
WARM_UP_MESSAGES = 20  # A mailbox and mode.
FLUSH_MESSAGES = 100  # A mailbox and mode, under perf.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # So that the systems are stopped on SIGTERM too.
    options.directory.mkdir(parents=True, exist_ok=True)
    results = Results(environment(options.directory))
    code = 0
    try:
        if not SMTP_SOURCE.exists():
            raise BenchError(f"{SMTP_SOURCE} is missing: run tests/bench/install_rival.sh")
        for number in range(1, options.rounds + 1):
            # Odd rounds forwards, even ones backwards: being first is nobody's advantage.
            names = options.system if number % 2 else options.system[::-1]
            for name in names:
                run_round(SYSTEMS[name](), options, results, number)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        code = 130
    if results.loads:
        print("\n" + tables(results))
    if options.json is not None:
        write_json(results, options.json)
    return code


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, metavar="N", help="default 3, with --quick 1")
    parser.add_argument("--messages", type=int, metavar="N", help="a mailbox; default 500, 50")
    parser.add_argument("--probes", type=int, metavar="N", help="push, a round; default 100, 10")
    parser.add_argument("--quick", action="store_true", help="see that it works; figures are rough")
    parser.add_argument("--system", action="append", choices=list(SYSTEMS), help="default: all")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="on the disk to use"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--quiet-wait",
        type=float,
        default=60.0,
        metavar="S",
        help="so long at most wait before each load until others leave the processors alone",
    )
    parser.add_argument("--keep", action="store_true", help="do not delete the systems' data")
    options = parser.parse_args(arguments)
    usual = (1, 50, 10) if options.quick else (3, 500, 100)
    for name, value in zip(("rounds", "messages", "probes"), usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.rounds < 1 or options.probes < 1 or options.messages < SESSIONS_PER_GENERATOR:
        parser.error(f"at least 1 round, 1 probe and {SESSIONS_PER_GENERATOR} messages are needed")
    options.system = list(dict.fromkeys(options.system or SYSTEMS))
    return options


def run_round(
    system: SystemUnderTest, options: argparse.Namespace, results: Results, number: int
) -> None:
    """Start the system on an empty directory, measure everything once, stop it."""
    with running(system, options) as directory:
        results.versions.setdefault(system.name, system.version())
        for mode in Mode:
            send_and_await(system, messages=WARM_UP_MESSAGES, mode=mode)
        for mode in Mode:
            await_quiet(system, timeout_s=options.quiet_wait)
            load = measure_load(
                system, directory=directory, messages=options.messages, mode=mode, number=number
            )
            results.loads.append(load)
            print(load_line(load), flush=True)
        push = measure_push(system, probes=options.probes, number=number)
        results.pushes.append(push)
        print(push_line(push), flush=True)
        if number == 1:  # Calls are counted, not timed: once is enough.
            for mode in Mode:
                if flushes := measure_flushes(system, messages=FLUSH_MESSAGES, mode=mode):
                    results.flushes.append(flushes)


@contextmanager
def running(system: SystemUnderTest, options: argparse.Namespace) -> Iterator[Path]:
    """Run the system on a new directory; stop it and delete the directory whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory))
    started_s = time.monotonic()
    try:
        system.start(directory)
        print(f"round -  {system.name} started in {time.monotonic() - started_s:.1f} s", flush=True)
        yield directory
    finally:
        system.stop()
        if options.keep:
            print(f"data of {system.name}: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
