"""The documentation is true: what exists is documented, and what is linked exists."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import typer.main

from orchestrator import VERSION, errors, paths
from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.store.schema.tables import metadata

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TARGETS = ("demo", "test", "check", "bench")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
WORDS = """
    account board card checkout clearance cursor daemon desk digest door epoch fleet gate hello inputs notification
    orchestrator outcome persona playbook project provider reason rehearsal run script session slot state task verb
"""


def _code_words(text: str) -> set[str]:
    """Everything that stands between backticks, and its first words."""
    quoted = set(re.findall(r"`([^`\n]+)`", text))
    return quoted | {" ".join(each.split()[:count]) for each in quoted for count in (1, 2)}


def _commands() -> Mapping[str, Any]:
    from orchestrator.cli.commands import app

    return cast("Any", typer.main.get_command(app)).commands


@pytest.mark.requirement("project:docs:everything-documented")
def test_every_tool_and_its_parameters_are_documented() -> None:
    from orchestrator.server.mcp import tools

    table = tools.table(cast("Any", None))
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` .*$", REFERENCE, re.MULTILINE)}
    missing = [
        f"{tool.name}.{parameter}"
        for tool in table
        for parameter in tool.schema["properties"]
        if f"`{parameter}`" not in rows.get(tool.name, "")
    ]
    assert not missing
    assert {tool.name for tool in table} <= _code_words(README)


@pytest.mark.requirement("project:docs:everything-documented")
def test_every_command_and_its_options_are_documented() -> None:
    rows = [row for row in REFERENCE.splitlines() if row.startswith("| `fleet ")]
    for name, command in _commands().items():
        row = " ".join(row for row in rows if re.search(rf"`fleet {name}[ `]", row.split("|")[1]))
        assert row, f"fleet {name} stands in no row of docs/reference.md"
        assert f"fleet {name}" in README, f"fleet {name} is not in README.md"
        assert not {option for option in _options(command) if not any(f"`{form}`" in row for form in option)}


def _options(command: Any) -> Iterator[tuple[str, ...]]:  # pyright: ignore[reportAny] - typer keeps the type private
    """The forms of each option but those that every command has; one of them has to be documented."""
    for parameter in command.params:
        forms = tuple(str(form) for form in parameter.opts)
        if forms[0].startswith("-") and "--json" not in forms and "--help" not in forms:
            yield forms


def _settings() -> Iterator[str]:
    """Every environment variable of ours that the code names as a value."""
    for path in (ROOT / "orchestrator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from re.findall(r"^(?:AGENT|FLEET)_[A-Z_]+[A-Z]$", node.value)


@pytest.mark.requirement("project:docs:everything-documented")
def test_every_setting_and_every_variable_that_an_agent_gets_is_documented() -> None:
    upper = {name for name in paths.ACCOUNT | paths.ENVIRONMENT if name.isupper()}
    assert (set(_settings()) | upper) - _code_words(REFERENCE) == set()
    assert {"AGENT_MAX_CONCURRENT", "FLEET_STATE", "CLAUDE_CODE_PATH"} <= _code_words(README)


@pytest.mark.requirement("project:docs:everything-documented")
def test_every_error_is_documented_with_its_status_and_exit_code() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    missing = [
        each.__name__
        for each in classes
        if issubclass(each, errors.FleetError) and each is not errors.FleetError
        if f"| `{each.__name__}` | {each.status} | {each.exit_code} |" not in REFERENCE
    ]
    assert not missing


@pytest.mark.requirement("project:docs:everything-documented")
def test_every_status_and_every_kind_of_event_is_documented() -> None:
    assert {str(status) for status in Status} <= _code_words(GLOSSARY)
    assert {str(kind) for kind in EventKind} - _code_words(REFERENCE) == set()


@pytest.mark.requirement("project:docs:everything-documented")
def test_the_glossary_has_every_word() -> None:
    terms = {
        word.removesuffix("s")
        for row in re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE)
        for word in (*row.split(", "), *row.replace(",", "").split())
    }
    needed = {word.replace("_", " ").removesuffix("s") for word in (*WORDS.split(), *metadata.tables)}
    assert needed - terms == set()


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if "://" not in link and not _leads_somewhere(path, link)
    ]
    assert not dead


def _leads_somewhere(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (path.parent / file) if file else path
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:docs|bench|tests|examples|agents|prompts|bin|orchestrator)/[\w./-]+)`", README)
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.requirement("project:files:documents-and-plugin")
def test_the_files_that_everybody_expects_exist() -> None:
    expected = """
        README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE Makefile constraints.txt pyproject.toml .ci/run
        docs/glossary.md docs/decisions .claude-plugin/plugin.json .claude-plugin/marketplace.json
        .claude-plugin/icon.png bin/fleet-mcp mcp.config.json agents prompts bench
    """
    assert not [name for name in expected.split() if not (ROOT / name).exists()]
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 80


def test_the_changelog_knows_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


def _make(*arguments: str, cwd: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path or os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.requirement("project:make:sets-itself-up")
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_sets_itself_up_from_nothing(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shown = _make("--dry-run", target, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    made, installed = shown.stdout.find("-m venv --clear .venv"), shown.stdout.find("install --editable")
    assert 0 <= made < installed
    assert f"make {target}" in README


@pytest.mark.requirement("project:make:sets-itself-up")
def test_without_a_python_make_says_what_to_install(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    said = _make("demo", "PYTHON=/nowhere/python3", cwd=tmp_path)
    assert said.returncode != 0
    assert "no usable Python at '/nowhere/python3'" in said.stderr
    assert "make PYTHON=" in said.stderr


@pytest.mark.requirement("project:make:sets-itself-up")
def test_a_real_model_is_used_only_when_asked_for() -> None:
    assert "--real" not in _make("--dry-run", "demo").stdout
    assert "--real" not in _make("--dry-run", "demo", "REAL=0").stdout
    assert "fleet demo --real" in _make("--dry-run", "demo", "REAL=1").stdout


@pytest.mark.requirement("project:check:contracts-types-lint", "project:check:one-command")
def test_one_command_verifies_format_lint_contracts_types_and_tests() -> None:
    shown = _make("--dry-run", "check").stdout
    for tool in ("ruff format --check", "ruff check", "lint-imports", "basedpyright", "-m pytest"):
        assert tool in shown


@pytest.mark.requirement("project:clone:demo-and-tests")
def test_ci_runs_the_commands_of_the_readme_and_the_demo_in_a_clean_clone() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0
    assert re.search(r"^step test \d+ make test$", script, re.MULTILINE)
    assert re.search(r"^step demo \d+ .*as_new_user make demo", script, re.MULTILINE)
    assert "```sh\nmake test\n```" in README
    [minutes] = re.findall(r"\(\((\d+) - later\) \* 60 - SECONDS\)", script)
    later = [int(minutes) for minutes in re.findall(r"^step \w+ (\d+) ", script, re.MULTILINE)]
    assert int(minutes) <= 75
    assert later == sorted(set(later), reverse=True), "each step has some time"
    assert later[-1] == 0


@pytest.mark.requirement("project:bench:figures-in-readme", "project:bench:latencies")
def test_the_readme_shows_measured_figures() -> None:
    block = re.search(r"<!-- bench -->(.*?)<!-- /bench -->", README, re.DOTALL)
    assert block
    cells = [row.split("|") for row in block[1].splitlines() if row.startswith("|")][2:]
    needed = {
        "orchestrator": ("tokens", "model turns"),
        "wake: end of an agent": ("idle", "with 8 other doors waiting", "polling every 15 s"),
        "an answer to a waiting agent": ("s",),
        "processes of an agent that waits": ("0",),
        "kill -9 of the daemon": ("until the model is called again", "until the waiting door has its digest"),
        "turns of 5 tool calls a second, 8 agents": ("Fleet", "bare SDK"),
        "overhead against the bare SDK": ("x the time", "x the CPU"),
        "door, cold": ("s",),
        "door, warm": ("ms",),
        "1 working": ("MB",),
        "8 working": ("MB",),
        "1,000 resting": ("MB", "processes"),
    }
    told = {words: [row[2] for row in cells if words in row[1] and re.search(r"\d", row[2])] for words in needed}
    missing = [(words, part) for words, parts in needed.items() for part in parts if part not in " ".join(told[words])]
    assert not missing


@pytest.mark.requirement("project:newcomer:ten-questions")
def test_a_newcomers_ten_questions_are_answered_by_folders_that_exist() -> None:
    table = CONTRIBUTING.partition("ten questions\n")[2].partition("\n## ")[0]
    answers = re.findall(r"^\| [^|]+ \| `(orchestrator/[\w/]+/)` \|$", table, re.MULTILINE)
    assert len(answers) == len(set(answers)) == 10
    assert [folder for folder in answers if not (ROOT / folder / "__init__.py").exists()] == []
