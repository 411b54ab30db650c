"""Everything imported is declared, and everything declared is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"orchestrator", "tests", "bench"}
PROGRAMS = {
    "basedpyright": "$(BIN)/basedpyright",
    "coverage": "-m tests.coverage_report",
    "import-linter": "$(BIN)/lint-imports",
    "pytest-xdist": "--dist loadfile",
    "ruff": "$(BIN)/ruff",
}
"""distributions that are run rather than imported, each with the words in the Makefile that run it"""
PLUGINS = {"pytest-timeout": "timeout_method"}
"""pytest's plugins, each with the option of theirs that pyproject.toml sets"""
STUBS = "types-"


def normal(name: str) -> str:
    """The distribution's name without its version, as an index spells it."""
    return re.split(r"[\[<>=;, ]", name)[0].lower().replace("_", "-")


def declared(requirements: Iterable[str]) -> set[str]:
    return {normal(one) for one in requirements}


RUNTIME = declared(PROJECT["dependencies"])
DEVELOPMENT = declared(PROJECT["optional-dependencies"]["dev"])


def modules_of(tree: ast.Module) -> set[str]:
    """The top-level packages that a module imports, lazily and for types included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def imported(*folders: str) -> set[str]:
    """The distributions that the Python files below these folders import."""
    places = packages_distributions()
    modules = {
        module
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for module in modules_of(ast.parse(path.read_text()))
    }
    foreign = modules - sys.stdlib_module_names - OURS
    installed = {module for module in foreign if module in places}
    local = {path.stem for path in (ROOT / "tests").rglob("*.py")}  # scripts that lie beside each other
    assert foreign - installed <= local, f"not installed: {sorted(foreign - installed - local)}"
    return {normal(distribution) for module in installed for distribution in places[module]}


def test_the_package_imports_what_it_declares_and_nothing_else() -> None:
    assert imported("orchestrator") == RUNTIME


def test_tests_and_benchmarks_import_only_what_is_declared() -> None:
    assert imported("tests", "bench") - RUNTIME <= DEVELOPMENT


def test_every_development_dependency_is_imported_run_or_set_up() -> None:
    makefile, settings = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    used = imported("tests", "bench")
    used |= {name for name, call in PROGRAMS.items() if call in makefile}
    used |= {name for name, option in PLUGINS.items() if f"\n{option} = " in settings}
    typed = {name for name in DEVELOPMENT if name.startswith(STUBS) and name.removeprefix(STUBS) in RUNTIME | used}
    assert DEVELOPMENT - used - typed == set()


def test_nothing_is_declared_twice() -> None:
    assert set() == RUNTIME & DEVELOPMENT
