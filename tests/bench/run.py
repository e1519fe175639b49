"""run: measure Heliograph beside Postfix and Dovecot, alternating, in one run.

Usage       run.py [--parts NAME,…] [--scale F] [--system NAME]… [--directory DIR] [--output DIR]
                   [--quiet-wait S] [--keep], and a size each: --rounds, --messages, …
Needs       root and Linux; the rival comes from tests/bench/install_rival.sh.

DIAGNOSTICS
  exit 0    every load was accepted and delivered in full; figures are on stdout and in --output
  exit 1    a system did not start, refused or lost a message; the reason is on stderr. The other
            parts still run, and what was measured is still written
  Figures are compared with their targets, not judged: a slow run is not a failure.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType

if __package__ in (None, ""):  # Run as a file: the package's root is not on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cluster.refusal import Refused
from tests.bench.figures import Target
from tests.bench.load import SMTP_SOURCE
from tests.bench.parts import deliver, growth, jmap, many, memory, replicas, start
from tests.bench.report import part_text, write_part
from tests.bench.stage import SYSTEMS, PartReport, Sizes, Stage, environment, say
from tests.bench.system import BenchError
from tests.bench.table import targets_table

ROOT = Path(__file__).resolve().parents[2]
PARTS: dict[str, Callable[[Stage], PartReport]] = {
    "deliver": deliver.measure,
    "many": many.measure,
    "jmap": jmap.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "start": start.measure,
    "replicas": replicas.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; return the exit code."""
    stage, parts, output = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # So that the systems are stopped on SIGTERM too.
    stage.directory.mkdir(parents=True, exist_ok=True)
    facts = environment(stage.directory)
    targets: list[Target] = []
    code = 0
    for part in parts:
        began_s = time.monotonic()
        say(f"\n{part}")
        try:
            if not SMTP_SOURCE.exists():
                raise BenchError(f"{SMTP_SOURCE} is missing: run tests/bench/install_rival.sh")
            report = PARTS[part](stage)
        except (BenchError, Refused, OSError, subprocess.SubprocessError) as error:
            print(f"bench: {part}: {error}", file=sys.stderr)
            code = 1
            continue
        except KeyboardInterrupt:
            print("bench: interrupted", file=sys.stderr)
            return 130
        if report.trouble:
            print(f"bench: {part}: {report.trouble}", file=sys.stderr)
            code = 1
        write_part(report, facts, output)
        targets += report.targets
        say(f"{part} took {time.monotonic() - began_s:.0f} s\n\n{part_text(report, facts)}")
    if targets:
        say(f"\n### Targets\n\n{targets_table(targets)}")
    return code


def parse(arguments: Sequence[str] | None) -> tuple[Stage, list[str], Path]:
    """Return the options, the parts to run and where to write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,…", help="default: all")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="0.01 to see that everything works"
    )
    for size in fields(Sizes):
        name = f"--{size.name.replace('_', '-')}"
        parser.add_argument(name, type=type(size.default), metavar="N", help=str(size.default))
    parser.add_argument("--system", action="append", choices=list(SYSTEMS), help="default: all")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="on the disk to use"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench", metavar="DIR")
    parser.add_argument(
        "--quiet-wait",
        type=float,
        default=60.0,
        metavar="S",
        help="so long at most wait before each load until others leave the processors alone",
    )
    parser.add_argument("--keep", action="store_true", help="do not delete the systems' data")
    options = parser.parse_args(arguments)
    parts = [part for part in options.parts.split(",") if part]
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    given = {
        size.name: getattr(options, size.name)
        for size in fields(Sizes)
        if getattr(options, size.name) is not None
    }
    sizes = replace(Sizes().scaled(options.scale) if options.scale != 1 else Sizes(), **given)
    systems = list(dict.fromkeys(options.system or SYSTEMS))
    stage = Stage(sizes, systems, options.directory, options.quiet_wait, options.keep)
    return stage, parts, options.output


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
