"""The repository as the tidy tests see it: what git tracks or would track, read once."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[str, ...]:
    """Return the paths that git tracks, and those that it does not know and does not ignore."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (path for path in listing.split("\0") if path)
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


@cache
def text(path: str) -> str | None:
    """Return the text of a file, or None when it is not UTF-8 text."""
    try:
        return (ROOT / path).read_bytes().decode()
    except UnicodeDecodeError:
        return None


def python_files(*roots: str) -> list[str]:
    """Return our Python files, those below `roots` when some are given."""
    python = [path for path in files() if path.endswith(".py")]
    return [path for path in python if not roots or path.split("/")[0] in roots]


@cache
def tree(path: str) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse((ROOT / path).read_bytes(), filename=path)


def functions(path: str) -> Iterator[tuple[str, int, int]]:
    """Yield (qualified name, first line, number of lines) of each function of a file."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield name, child.lineno, (child.end_lineno or 0) - child.lineno + 1
                yield from walk(child, f"{name}.")
            elif not isinstance(child, ast.expr):  # No function is defined within an expression.
                yield from walk(child, prefix)

    yield from walk(tree(path), "")


def calls(path: str) -> Iterator[tuple[str, int]]:
    """Yield (dotted name as written, line) of each call whose callee is a plain dotted name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and (name := _dotted(node.func)):
            yield name, node.lineno


def _dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])
