"""The shape of the tree: small parts, meaningful names, and nothing from the machine it was written on.

What does not fit is split or renamed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = {"orchestrator": 400, "bench": 400, "tests": 700}
FUNCTION_LINES = {"orchestrator": 40, "bench": 60, "tests": 80}
CLOSE_TO_CAP = 360
STAND_ALONE = ("orchestrator/daemon_link.py", "orchestrator/door.py", "orchestrator/rehearsal/")
"""programs of their own, which import nothing of the rest and so have names of their own"""
Function = ast.FunctionDef | ast.AsyncFunctionDef

# What must not stand in the tree is built from parts, so that this file does not itself carry it.
_HOSTS = ("pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs\.org", "deb" + r"\.debian\.org")
_PLACES = ("/wo" + "rk/", "/fa" + "rm(/|$)", "/ro" + "ot/", "/opt/" + "pypi", "/tmp/" + "bash_jobs")
_ADDRESS = re.compile("|".join(_HOSTS), re.IGNORECASE)
_PLACE = re.compile(r"(?<![\w.-])(" + "|".join(_PLACES) + ")")
_UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b")
_EMPTY_WORDS = frozenset({"manager", "helper", "util", "utility", "service", "handler", "processor"})
_REPLACED_WORDS = frozenset({"park", "parked", "parking"})  # docs/glossary.md: suspend


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _python(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def _files() -> Iterator[tuple[str, str]]:
    """Every text file that git tracks or would track, with its content."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield name, content.decode("utf-8")


def _found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in _files()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def _own_lines(function: Function) -> int:
    """The length of a function without its docstring (and without its decorators)."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def _words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case and singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return {part.lower().removesuffix("s") for part in parts}


def _is_named_elsewhere(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a library gave the name: `logging` calls a class Handler, SQLAlchemy a method `result_processor`."""
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base).startswith("logging.") for base in node.bases)
    return node.name == "result_processor"


def _names(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    yield 1, path.stem
    yield 1, path.parent.name
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function) and not _is_named_elsewhere(node):
            yield node.lineno, node.name


@pytest.mark.requirement("project:style:small-and-named")
@pytest.mark.parametrize("folder", FILE_LINES)
def test_files_are_small(folder: str, record_property: Callable[[str, object], None]) -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _python(folder)}
    if folder == "orchestrator":
        for name, lines in sorted(sizes.items(), key=lambda each: -each[1]):
            if lines > CLOSE_TO_CAP:
                record_property("close to the cap of a file", f"{lines} {name}")
    assert not {name: lines for name, lines in sizes.items() if lines > FILE_LINES[folder]}


@pytest.mark.requirement("project:style:one-name-one-thing")
def test_no_two_public_classes_have_the_same_name() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in _python("orchestrator"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(STAND_ALONE):
            for node in _parsed(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(f"{name}:{node.lineno}")
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {}


@pytest.mark.requirement("project:style:typed-edges")
def test_no_dict_of_anything_travels_between_the_fleet_and_the_store() -> None:
    untyped = re.compile(r"\b(dict|Mapping)\[str, Any\]")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for folder in ("orchestrator/fleet", "orchestrator/store")
        for path in _python(folder)
        if "/migrations/versions/" not in str(path)  # where rows of old databases are rewritten
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if untyped.search(line)
    ]
    assert not found


def _set_from_outside(tree: ast.Module) -> Iterator[tuple[ast.Attribute, ast.expr | None]]:
    """Attributes of other objects than `self` that are assigned, with what they are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) not in {"self", "cls"}:
                    yield target, node.value


def _is_callable(value: ast.expr | None, functions: set[str], methods: set[str]) -> bool:
    """Whether this is plainly a function: a lambda, a partial, or the name of a function or method of the tree."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) in {"partial", "functools.partial"}
    if isinstance(value, ast.Attribute):
        return value.attr in methods
    return isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in functions)


def _optional_ports(tree: ast.Module, ports: set[str]) -> Iterator[str]:
    """Fields of classes that hold a callable or a Protocol of ours and are None at first."""
    for one in ast.walk(tree):
        for field in one.body if isinstance(one, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.value, ast.Constant) and field.value.value is None:
                words = set(re.findall(r"\w+", ast.unparse(field.annotation)))
                if "Callable" in words or words & ports:
                    yield ast.unparse(field.target)


@pytest.mark.requirement("project:style:complete-when-built")
@pytest.mark.parametrize("name", ["app.py", "fleet/fleet.py", "fleet/context.py"])
def test_what_puts_the_parts_together_sets_nothing_afterwards(name: str) -> None:
    assert [ast.unparse(target) for target, _ in _set_from_outside(_parsed(ROOT / "orchestrator" / name))] == []


@pytest.mark.requirement("project:style:complete-when-built")
def test_no_function_and_no_port_is_put_into_an_object_after_it_was_built() -> None:
    trees = {path: _parsed(path) for path in _python("orchestrator")}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    ports = {one.name for one in classes if any(ast.unparse(base) == "Protocol" for base in one.bases)}
    properties = {"property", "cached_property"}
    methods = {
        node.name
        for one in classes
        for node in one.body
        if isinstance(node, Function) and not properties & {ast.unparse(mark) for mark in node.decorator_list}
    }
    optional = {field for tree in trees.values() for field in _optional_ports(tree, ports)}
    late = [
        f"{path.relative_to(ROOT)}:{target.lineno} {ast.unparse(target)}"
        for path, tree in trees.items()
        for functions in [{node.name for node in ast.walk(tree) if isinstance(node, Function)}]
        for target, value in _set_from_outside(tree)
        if target.attr in optional or _is_callable(value, functions, methods)
    ]
    assert not late


@pytest.mark.requirement("project:style:small-and-named")
@pytest.mark.parametrize("folder", FUNCTION_LINES)
def test_functions_are_small(folder: str) -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": _own_lines(node)
        for path in _python(folder)
        if "/migrations/versions/" not in str(path)  # Alembic writes them, one statement a column
        for node in ast.walk(_parsed(path))
        if isinstance(node, Function) and _own_lines(node) > FUNCTION_LINES[folder]
    }
    assert not long


@pytest.mark.requirement("project:style:small-and-named")
@pytest.mark.parametrize("folder", FILE_LINES)
def test_no_name_is_an_empty_or_a_replaced_word(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in _python(folder)
        for line, name in _names(path, _parsed(path))
        if not (_EMPTY_WORDS | _REPLACED_WORDS).isdisjoint(_words(name))
    ]
    assert not found


@pytest.mark.requirement("project:style:small-and-named", "project:constraints:exact-and-no-registry")
def test_no_registry_and_no_place_of_one_machine_stands_in_the_tree() -> None:
    assert not _found(_ADDRESS)
    assert not _found(_PLACE)


def test_nothing_is_left_unfinished() -> None:
    assert not _found(_UNFINISHED)


def test_a_mark_that_silences_a_checker_carries_its_rule_and_its_reason() -> None:
    rule = r"\[[^\]]*\]|: ?[A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*"
    silent = re.compile(rf"#\s*(type: ignore|pyright: ignore|noqa)(?P<rule>{rule})?(?P<reason>.*)")
    bare = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for folder in FILE_LINES
        for path in _python(folder)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (mark := silent.search(line)) and not (mark["rule"] and re.search(r"\w{3}", mark["reason"]))
    ]
    assert not bare


@pytest.mark.requirement("status:wait:kinds-not-words")
def test_no_code_reads_a_state_out_of_the_words_for_it() -> None:
    reading = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "split", "like", "regexp_match"}
    patterns = {"match", "fullmatch", "search", "findall"}
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno} {ast.unparse(call)[:80]}"
        for path in _python("orchestrator")
        if "/migrations/versions/" not in str(path)  # where the sentences of old databases are taken apart
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if (call.func.attr in reading and _is_a_reason(call.func.value))
        or (call.func.attr in patterns and any(map(_is_a_reason, call.args)))
    ]
    assert not found


@pytest.mark.requirement("store:engine:owns-dialect")
def test_only_the_engine_speaks_the_dialect_of_its_database() -> None:
    allowed = ("orchestrator/store/engine/", "orchestrator/store/migrations/", "orchestrator/cli/doctor/probes.py")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in _python("orchestrator")
        if not str(path.relative_to(ROOT)).startswith(allowed)
        for node in ast.walk(_parsed(path))
        for word in _words_of_a_dialect(node)
    ]
    assert not found


def _words_of_a_dialect(node: ast.AST) -> Iterator[str]:
    """Imports of a driver or a dialect, its options, and SQL that is sent past SQLAlchemy."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
    yield from (
        name for name in names if re.match(r"sqlite3|aiosqlite|sqlalchemy\.(dialects|text|literal_column)", name)
    )
    if isinstance(node, ast.keyword) and (node.arg or "").startswith("sqlite_"):
        yield str(node.arg)
    if isinstance(node, ast.Attribute) and node.attr == "exec_driver_sql":
        yield node.attr
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"PRAGMA |sqlite_", node.value):
        yield node.value


def _is_a_reason(value: ast.expr) -> bool:
    """Whether it is a reason: a name, a field, a column or an entry of that name, or text made of one."""
    if isinstance(value, ast.Call):
        return any(map(_is_a_reason, value.args))
    return bool(re.search(r"""(^|[._])reason$|\[['"]reason['"]\]$""", ast.unparse(value)))


OWN_DURATIONS = ("orchestrator/domain/duration.py", "orchestrator/launch.py", "orchestrator/rehearsal/")
"""the formatter itself; what the door loads, which is below the domain; a program of its own"""


@pytest.mark.requirement("project:style:one-formatter-of-durations")
def test_durations_are_shown_by_their_one_formatter() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)[:80]}"
        for path in _python("orchestrator")
        if not path.relative_to(ROOT).as_posix().startswith(OWN_DURATIONS)
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.JoinedStr) and any(map(_is_duration, node.values, node.values[1:]))
    ]
    assert not found


def _is_duration(value: ast.expr, after: ast.expr) -> bool:
    """Whether this part of an f-string is a quantity of time and the next one begins with its unit."""
    if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
        return False
    is_quantity = value.format_spec is not None or "seconds" in ast.unparse(value.value).lower()
    return is_quantity and re.match(r" ?(ms|s|m|min|h)\b", str(after.value)) is not None


READERS_OF_THE_ENVIRONMENT = {
    "cli/commands.py": "restarts the program with what it was given",
    "cli/demo/demo.py": "entry point of a command",
    "cli/demo/rehearse.py": "entry point of a command",
    "cli/demo/sandbox.py": "runs git from the user's PATH",
    "cli/doctor/doctor.py": "entry point of a command",
    "cli/options.py": "entry point of every other command",
    "cli/render/output.py": "NO_COLOR, FORCE_COLOR and TERM belong to the terminal",
    "daemon.py": "entry point",
    "door.py": "entry point",
    "provisioning/author.py": "runs git from the daemon's PATH",
    "provisioning/own_git.py": "runs git from the daemon's PATH",
    "rehearsal/__init__.py": "a program of its own",
    "supervision/shim.py": "a program of its own",
    "supervision/tiers.py": "hides the daemon's own variables and services from sessions",
}
READERS_OF_SETTINGS = {"cli/doctor/probes.py", "daemon.py"}


@pytest.mark.requirement("project:style:one-source-of-settings")
def test_the_environment_and_the_settings_are_read_at_entry_points_only() -> None:
    uses = {path.relative_to(ROOT / "orchestrator").as_posix(): _used(path) for path in _python("orchestrator")}
    environment = {"os.environ", "os.environb", "os.getenv", "environ", "getenv"}
    assert {name for name, used in uses.items() if used & environment} == set(READERS_OF_THE_ENVIRONMENT)
    settings = {"read_settings", "Settings.model_validate"}
    assert {name for name, used in uses.items() if used & settings} == {*READERS_OF_SETTINGS, "settings.py"}


def _used(path: Path) -> set[str]:
    """The names and dotted names that a module uses or imports."""
    found = {ast.unparse(node) for node in ast.walk(_parsed(path)) if isinstance(node, ast.Name | ast.Attribute)}
    imports = [node for node in ast.walk(_parsed(path)) if isinstance(node, ast.ImportFrom)]
    return found | {alias.name for node in imports for alias in node.names}


def test_every_skip_has_a_reason_and_nothing_is_expected_to_fail() -> None:
    wrong: list[str] = []
    for path in _python("tests"):
        tree = _parsed(path)
        reasoned = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _gives_reason(node)}
        wrong += [
            f"{path.name}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail"}
            if node.attr == "xfail" or id(node) not in reasoned
        ]
    assert not wrong


def _gives_reason(call: ast.Call) -> bool:
    is_call_in_a_test = ast.unparse(call.func) == "pytest.skip"
    return any(keyword.arg == "reason" for keyword in call.keywords) or (is_call_in_a_test and bool(call.args))


@pytest.mark.requirement("project:constraints:exact-and-no-registry")
def test_constraints_pin_every_dependency_exactly() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.+!-]*", line)]
    assert {re.split(r"[\[<>=;, ]", name)[0].lower().replace("_", "-") for name in declared} <= pinned


@pytest.mark.requirement("project:package:names-and-python")
def test_the_package_is_what_the_readme_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "agent-fleet"
    assert project["requires-python"] == ">=3.11"
    assert project["scripts"] == {"fleet": "orchestrator.__main__:main"}


def test_agents_and_prompts_hold_nothing_but_agents_commands_and_playbooks() -> None:
    stray = [
        str(path.relative_to(ROOT))
        for folder in ("agents", "prompts")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not _belongs(path)
    ]
    assert not stray


def _belongs(path: Path) -> bool:
    if path.parent == ROOT / "agents" / "playbooks":
        return path.suffix == ".yaml"
    return path.suffix == ".md" and path.stem != "README" and path.read_text().startswith("---\n")


@pytest.mark.requirement("project:architecture:names-what-exists")
def test_the_tree_in_the_architecture_is_the_one_on_disk() -> None:
    drawn = _drawn((ROOT / "ARCHITECTURE.md").read_text())
    modules = {str(path.relative_to(ROOT)) for path in _python("orchestrator") if path.name != "__init__.py"}
    modules = {name for name in modules if "/migrations/" not in name}
    assert drawn - {name for name in drawn if (ROOT / name).exists()} == set()
    assert modules - drawn == set()


def _drawn(text: str) -> set[str]:
    """The paths of the code map: words before the dash; `folder/` opens a folder that deeper lines go on with."""
    block = re.search(r"```text\n(orchestrator/ .*?)```", text, re.DOTALL)
    assert block, "ARCHITECTURE.md has no code map that starts with orchestrator/"
    drawn: set[str] = set()
    folder = ""
    for line in block[1].splitlines():
        if (indent := len(line) - len(line.lstrip())) <= 2:
            folder = "orchestrator/" if indent else ""
        for word in line.split(" — ")[0].split():
            if word.endswith("/"):
                folder = word if not indent else folder + word
                drawn.add(folder)
            else:
                drawn.add(folder + word)
    return drawn
