"""`pyproject.toml`, `constraints.txt` and the Makefile agree about what is installed."""

import re
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy import rules, source


def _project() -> dict[str, Any]:
    return tomllib.loads((source.ROOT / "pyproject.toml").read_text())


def _requirements() -> list[Requirement]:
    project = _project()["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in [*wanted, *_project()["build-system"]["requires"]]]


def _constraints() -> dict[str, str]:
    lines = (source.ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]
    assert not wrong, f"constraints.txt has exact versions and nothing else: {wrong}"
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def test_every_dependency_has_a_lower_bound_and_no_other() -> None:
    for requirement in _requirements():
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == [">="], f"{requirement}: one lower bound"


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pinned = _constraints()
    for requirement in _requirements():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_the_install_uses_the_pins() -> None:
    makefile = (source.ROOT / "Makefile").read_text()
    installs = [line for line in makefile.splitlines() if "$(BIN)/python -m pip install" in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)


def test_every_package_is_named_and_typed() -> None:
    include = _project()["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(include) == sorted(f"{package}*" for package in rules.PACKAGES)
    for package in rules.PACKAGES:
        assert (source.ROOT / package / "py.typed").is_file()
        assert (source.ROOT / package / "__init__.py").is_file()


def test_every_source_directory_is_a_package() -> None:
    directories = {path.rsplit("/", 1)[0] for path in source.python_files(*rules.PACKAGES)}
    missing = [d for d in sorted(directories) if not (source.ROOT / d / "__init__.py").is_file()]
    assert not missing, f"no __init__.py, so it would not be installed: {missing}"
