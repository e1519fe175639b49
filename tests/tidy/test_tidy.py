"""The style of this code, as far as a machine can read it. The lists are in `rules.py`."""

import ast
import re
from collections.abc import Iterable

import pytest

from tests.tidy import rules, source


def _refuse(findings: Iterable[str], advice: str) -> None:
    """Fail with every finding, one a line, and with what to do about them."""
    if found := sorted(findings):
        pytest.fail(f"{advice}\n  " + "\n  ".join(found), pytrace=False)


def _lines_that_match(pattern: re.Pattern[str], path: str) -> list[str]:
    text = source.text(path) or ""
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_is_something_to_check() -> None:
    assert all(source.python_files(package) for package in rules.PACKAGES)


def test_files_are_short() -> None:
    lengths = {path: len((source.text(path) or "").splitlines()) for path in source.python_files()}
    _refuse(
        (
            f"{path}: {length} lines"
            for path, length in lengths.items()
            if length > rules.LONG_FILES.get(path, rules.FILE_LINES_MAX)
        ),
        f"more than {rules.FILE_LINES_MAX} lines: look for a seam",
    )
    _refuse(
        (p for p in rules.LONG_FILES if lengths.get(p, 0) <= rules.FILE_LINES_MAX),
        "no longer exceptions: take them out of LONG_FILES",
    )


def test_functions_are_short() -> None:
    lengths = {
        f"{path}::{name}": lines
        for path in source.python_files()
        for name, _, lines in source.functions(path)
    }
    _refuse(
        (
            f"{name}: {lines} lines"
            for name, lines in lengths.items()
            if lines > rules.LONG_FUNCTIONS.get(name, rules.FUNCTION_LINES_MAX)
        ),
        f"more than {rules.FUNCTION_LINES_MAX} lines: look for a seam",
    )
    _refuse(
        (f for f in rules.LONG_FUNCTIONS if lengths.get(f, 0) <= rules.FUNCTION_LINES_MAX),
        "no longer exceptions: take them out of LONG_FUNCTIONS",
    )


def test_every_module_says_what_it_is() -> None:
    _refuse(
        (path for path in source.python_files() if not ast.get_docstring(source.tree(path))),
        "no module docstring: what is it, what does it promise, what fails and how loudly",
    )


def test_no_banned_words() -> None:
    paths = [path for path in source.files() if not rules.FOREIGN_TEXTS.match(path)]
    _refuse(
        (
            hit
            for path in paths
            for word in rules.BANNED_WORDS
            for hit in _lines_that_match(word, path)
        ),
        "an open point belongs in an issue, not in a file",
    )


def test_names_say_what_a_thing_is() -> None:
    classes = [
        f"{path}:{node.lineno}: class {node.name}"
        for path in source.python_files()
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.ClassDef) and rules.BANNED_CLASS_NAMES.search(node.name)
    ]
    stems = [(path, path.rsplit("/", 1)[-1].removesuffix(".py")) for path in source.python_files()]
    _refuse(
        [*classes, *(path for path, stem in stems if rules.BANNED_FILE_NAMES.search(stem))],
        "a name that says nothing: use the field's noun",
    )


def test_only_the_command_line_prints() -> None:
    _refuse(
        (
            f"{path}:{line}"
            for path in source.python_files()
            if not rules.MAY_PRINT.match(path)
            for name, line in source.calls(path)
            if name == "print"
        ),
        "print() is for the command line: log it, or return it",
    )


def test_no_exception_passes_in_silence() -> None:
    broad = (None, "Exception", "BaseException")
    _refuse(
        (
            f"{path}:{node.lineno}"
            for path in source.python_files()
            for node in ast.walk(source.tree(path))
            if isinstance(node, ast.ExceptHandler)
            and (node.type is None or isinstance(node.type, ast.Name))
            and getattr(node.type, "id", None) in broad
            and all(isinstance(statement, ast.Pass) for statement in node.body)
        ),
        "every exception swallowed: name the one that is expected",
    )


def test_imports_are_static() -> None:
    _refuse(
        (
            f"{path}:{line}: {name}"
            for path in source.python_files(*rules.PACKAGES)
            if path not in rules.MAY_IMPORT_DYNAMICALLY
            for name, line in source.calls(path)
            if name in rules.DYNAMIC_IMPORTS
        ),
        "a dynamic import, which the import contracts cannot see",
    )


def test_what_decides_has_no_clock_and_no_chance() -> None:
    _refuse(
        (
            f"{path}:{line}: {name}()"
            for path in source.python_files(*rules.PACKAGES)
            if rules.DECIDES.match(path)
            for name, line in source.calls(path)
            if rules.CLOCK_AND_CHANCE.match(name)
        ),
        "time, identifiers and randomness come in as arguments here",
    )


def test_the_repository_names_no_registry_and_no_machine() -> None:
    paths = [path for path in source.files() if not rules.FOREIGN_TEXTS.match(path)]
    _refuse(
        (
            hit
            for path in paths
            for name in rules.FOREIGN_NAMES
            for hit in _lines_that_match(name, path)
        ),
        "a registry's host name, or a path of one machine",
    )
