"""Table: figures as Markdown for a terminal and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.bench.figures import Target

MISSING = "–"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns are aligned; short rows are filled up."""
    filled = [list(header), *([*row, *[""] * (len(header) - len(row))] for row in rows)]
    widths = [max(len(row[column]) for row in filled) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in filled
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure, or a dash where there is none."""
    return MISSING if value is None else f"{value:.{digits}f}"


def mebibytes(value_bytes: float | None) -> str:
    """Return a size in MiB."""
    return number(None if value_bytes is None else value_bytes / (1 << 20), 1)


def targets_table(targets: Iterable[Target]) -> str:
    """Return the targets beside what was measured."""
    answers = {True: "yes", False: "no", None: "not measured"}
    rows = [
        [
            target.what,
            f"{target.comparison} {target.limit:g} {target.unit}".rstrip(),
            MISSING if target.value is None else f"{target.value:.2f} {target.unit}".rstrip(),
            answers[target.reached],
        ]
        for target in targets
    ]
    return markdown(["target", "limit", "measured", "reached"], rows)
