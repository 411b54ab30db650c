"""The script of scout-plan-build works on unknown repositories, with the real `claude` in every role."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import rehearsal
from orchestrator.fleet.briefing.handoff import SourceResult
from orchestrator.rehearsal.conversation import Conversation, Message, ToolResult
from orchestrator.rehearsal.play import Answer, choose
from orchestrator.rehearsal.script import Loaded, load
from tests.journeys.by_hand import Crew, Member, run_chain
from tests.journeys.repository import Repository, generate, write

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "scout-plan-build.yaml"
DEMO = (
    "Migrate inventory.stock.fetch_stock(client, sku) to stock_level(sku, client=client) in the whole repository. "
    "Docs and comments, should anyone ask: update them. Run the tests with python3 -m unittest"
)
ASKS = 'NEEDS YOU planner asks: "Change those too?" -> command_agent(agent="planner", task="<your answer>")'
CHECK = "python3 -m unittest"
OLD = "fetch_stock"


def passes(root: Path, check: str) -> bool:
    """Whether the repository's own tests do."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1"}
    return (
        subprocess.run(check, shell=True, cwd=root, env=environment, capture_output=True, check=False).returncode == 0
    )


def tree(root: Path) -> dict[str, str]:
    """Every file that is the repository's own, by path."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    own = {path: file for path, file in files.items() if not path.startswith((".fleet/", ".git/"))}
    return {path: file.read_text(encoding="utf-8") for path, file in own.items() if file.suffix != ".pyc"}


class Stage:
    """The orchestrator's side of the script, reply by reply: what it calls when its calls gave these results."""

    def __init__(self, task: str) -> None:
        self._loaded: Loaded = load(SCRIPT)
        self._messages = [Message("user", (task,))]

    def reply(self, **results: str) -> Answer:
        """The next reply, after the calls of the last one gave `results` by their tool's name (else "ok")."""
        if len(self._messages) > 1:
            calls = self._last.calls
            given = [ToolResult(call.id, results.get(call.tool.rpartition("__")[2], "ok")) for call in calls]
            self._messages.append(Message("user", results=tuple(given)))
        self._last = choose(
            self._loaded, Conversation(tuple(self._messages), fingerprint=f"{len(self._messages):016x}")
        )
        self._messages.append(Message("assistant"))
        return self._last


def called(answer: Answer, tool: str) -> list[Mapping[str, object]]:
    return [call.input for call in answer.calls if call.tool == f"mcp__plugin_fleet_fleet__{tool}"]


def members(answer: Answer) -> list[Member]:
    """The agents that the orchestrator creates with this reply."""
    made: list[Member] = []
    for call in called(answer, "create_agent"):
        inputs = call.get("inputs", [])
        assert isinstance(inputs, list)
        made.append(
            Member(
                name=str(call["name"]),
                persona=str(call["persona"]),
                task=str(call["task"]),
                inputs=tuple(str(each) for each in inputs),  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
            )
        )
    return made


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A repository after the roles have played, and what they said."""

    root: Path
    crew: Crew
    results: Mapping[str, SourceResult]


def play(task: str, root: Path, home: Path) -> Outcome:
    """Let every agent that the orchestrator would create do its work in `root`."""
    home.mkdir(parents=True, exist_ok=True)
    stage = Stage(task)
    chain = members(stage.reply())
    answered = stage.reply(wait_for_agents=ASKS)
    answer = str(called(answered, "command_agent")[0]["task"])
    with rehearsal.start(SCRIPT) as model:
        crew = Crew(url=model.url, repository=root, home=home, answer=answer)
        return Outcome(root=root, crew=crew, results=run_chain(crew, chain))


def made(repository: Repository, root: Path) -> Path:
    write(repository.before, root)
    return root


@pytest.mark.requirement("demo:random:any-repository")
@pytest.mark.parametrize("seed", [1, 3, 10])
def test_the_same_script_migrates_a_repository_that_nobody_has_seen(seed: int, tmp_path: Path) -> None:
    repository = generate(seed)
    root = made(repository, tmp_path / "repository")
    assert passes(root, repository.check)

    outcome = play(repository.task, root, tmp_path / "home")

    assert tree(root) == dict(repository.after)
    assert passes(root, repository.check)
    assert "passed" in outcome.results["builder"].text
    for path, line in repository.look_alikes:
        assert line in (root / path).read_text(encoding="utf-8").splitlines()
    (question,) = outcome.crew.asked
    assert question["options"] == ["update them", "leave them"]


def test_a_generated_repository_notices_every_place_that_is_missed(tmp_path: Path) -> None:
    repository = generate(2)
    write(repository.after, tmp_path)
    assert passes(tmp_path, repository.check)

    for place in repository.places():
        if not place.is_prose:
            with_line(tmp_path / place.path, place.line, place.before)
            assert not passes(tmp_path, repository.check), f"{place.path}:{place.line}: {place.before}"
            with_line(tmp_path / place.path, place.line, place.after)


def with_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The example that ships with Fleet, after the demo's task."""
    place = tmp_path_factory.mktemp("shipped")
    root = place / "inventory"
    shutil.copytree(EXAMPLES / "inventory", root, ignore=shutil.ignore_patterns("__pycache__"))
    assert passes(root, CHECK)
    return play(DEMO, root, place / "home")


def changed(root: Path) -> list[tuple[str, int, str, str]]:
    """Path, number, old and new text of every line that differs from the example as shipped."""
    before, after = tree(EXAMPLES / "inventory"), tree(root)
    assert before.keys() == after.keys()
    return [
        (path, number, old, new)
        for path in before
        for number, (old, new) in enumerate(zip(before[path].splitlines(), after[path].splitlines(), strict=True), 1)
        if old != new
    ]


@pytest.mark.requirement("demo:repository:shape")
def test_the_example_is_migrated_in_many_places_and_its_tests_stay_green(shipped: Outcome) -> None:
    lines = changed(shipped.root)

    assert passes(shipped.root, CHECK)
    assert len({path for path, *_ in lines}) >= 8
    assert len(lines) >= 12
    assert not re.search(rf"^def {OLD}\(", tree(shipped.root)["inventory/stock.py"], re.MULTILINE)
    assert f"{len(lines)} places" in shipped.results["builder"].text


@pytest.mark.requirement("demo:repository:shape")
def test_what_only_shares_the_name_stays_in_the_example(shipped: Outcome) -> None:
    before, after = tree(EXAMPLES / "inventory"), tree(shipped.root)

    for path in ("inventory/suppliers.py", "inventory/metrics.py", "vendor/acme.py", "tests/test_suppliers.py"):
        assert after[path] == before[path]
    assert f"def {OLD}_legacy(export, sku):" in after["inventory/stock.py"]
    assert f'metrics.count("{OLD}")' in after["inventory/stock.py"]


def test_the_example_notices_every_place_that_is_missed(shipped: Outcome, tmp_path: Path) -> None:
    root = tmp_path / "inventory"
    shutil.copytree(shipped.root, root)

    for path, number, old, new in changed(shipped.root):
        if path.endswith(".py") and not old.lstrip().startswith("#"):
            with_line(root / path, number, old)
            assert not passes(root, CHECK), f"{path}:{number}: {old}"
            with_line(root / path, number, new)


def test_the_example_notices_when_a_look_alike_is_changed(shipped: Outcome, tmp_path: Path) -> None:
    root = tmp_path / "inventory"
    shutil.copytree(shipped.root, root)

    for path, text in tree(root).items():
        for number, line in enumerate(text.splitlines(), 1):
            if path.endswith(".py") and OLD in line:
                with_line(root / path, number, line.replace(OLD, "stock_level"))
                assert not passes(root, CHECK), f"{path}:{number}: {line}"
                with_line(root / path, number, line)


@pytest.mark.requirement("workflow:scouts:one-relevant-files")
def test_the_scouts_report_exact_lines_and_the_planner_names_each_edit(shipped: Outcome) -> None:
    before = tree(EXAMPLES / "inventory")
    for name, result in shipped.results.items():
        if result.persona == "scout":
            for path, number, code in re.findall(r"^([^:\n]+):(\d+):(.*)$", result.text, re.MULTILINE):
                assert before[path].splitlines()[int(number) - 1] == code, name
    edits = re.findall(r"^([^:\n]+):(\d+):(.*) ==> (.*)$", shipped.results["planner"].text, re.MULTILINE)
    assert sorted((path, int(number), old, new) for path, number, old, new in edits) == sorted(changed(shipped.root))


def test_without_a_word_about_prose_the_orchestrator_says_to_leave_it() -> None:
    stage = Stage("Migrate a.b.old(x, y) to new(y, x=x). Run the tests with make test")
    stage.reply()
    answer = stage.reply(wait_for_agents=ASKS)

    assert called(answer, "command_agent") == [{"agent": "planner", "task": "leave them"}]


def test_the_orchestrator_creates_the_whole_chain_at_once_and_needs_four_messages() -> None:
    stage = Stage(f"/fleet:scout-plan-build {DEMO}")
    first = stage.reply()
    created = members(first)

    assert [member.persona for member in created] == ["scout"] * 4 + ["planner", "builder"]
    assert created[4].inputs == tuple(member.name for member in created[:4])
    assert created[5].inputs == ("planner",)
    assert len(called(first, "wait_for_agents")) == 1
    assert called(stage.reply(wait_for_agents=ASKS), "command_agent")
    assert called(stage.reply(wait_for_agents="all complete: tests passed"), "delete_all_agents")
    last = stage.reply()
    assert (last.calls, last.stop) == ((), "end_turn")
    assert "all complete: tests passed" in last.text


def test_the_orchestrator_answers_nobody_when_nobody_asks() -> None:
    stage = Stage(DEMO)
    stage.reply()

    assert called(stage.reply(wait_for_agents="all complete"), "delete_all_agents")
    assert "all complete" in stage.reply().text


def test_the_orchestrator_does_not_claim_what_failed() -> None:
    stage = Stage(DEMO)
    stage.reply()
    stage.reply(wait_for_agents="NEEDS YOU planner cannot start: its input scout-2 failed -> retry that one")
    last = stage.reply()

    assert last.text.startswith("This did not work out")
    assert "its input scout-2 failed" in last.text


def test_phase_by_phase_the_orchestrator_waits_between_the_personas() -> None:
    stage = Stage(f"{DEMO}. Work phase by phase")
    personas = [[member.persona for member in members(stage.reply())]]
    personas.append([member.persona for member in members(stage.reply(wait_for_agents="4 complete"))])
    assert called(stage.reply(wait_for_agents=ASKS), "command_agent")
    builder = members(stage.reply(wait_for_agents="planner complete"))

    assert personas == [["scout"] * 4, ["planner"]]
    assert [(member.persona, member.inputs) for member in builder] == [("builder", ("planner",))]
    assert builder[0].task.endswith(f"Tests: {CHECK}")
    assert called(stage.reply(wait_for_agents="builder complete"), "delete_all_agents")
    assert "builder complete" in stage.reply().text
