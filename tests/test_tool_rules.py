"""Rules of personas name tools that exist, and Claude Code's files keep what they restrict."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.clearance import Right, beyond, right
from orchestrator.domain.clearance import rule as verdict
from orchestrator.domain.persona import FLEET, Persona
from orchestrator.domain.tool import Allow, ToolCall
from orchestrator.errors import InvalidError
from orchestrator.personas import find_persona
from orchestrator.tool_rules import checked

TOOLS = frozenset({"Agent", "Bash", "Edit", "Read", "TaskStop", "WebFetch", "Write"})
CREATE = f"{FLEET}__create_agent"
pytestmark = pytest.mark.requirement("clearance:rules:however-spelled")


def persona(project: Path, front: str, folder: str = ".fleet") -> Persona:
    """The persona of a file with these lines, with its rules checked."""
    place = project / folder / "agents"
    place.mkdir(parents=True)
    (place / "mine.md").write_text(f"---\nname: mine\ndescription: d\n{front}\n---\nx\n")
    return checked(find_persona("mine", project, None), TOOLS | {CREATE})


@pytest.mark.parametrize("folder", [".fleet", ".claude"])
@pytest.mark.parametrize("rule", ["bash", "BASH", " Bash", "'bash'", "[bash]", "\n  - bAsh"])
def test_a_tool_is_denied_or_asked_for_in_any_spelling(tmp_path: Path, folder: str, rule: str) -> None:
    denied = persona(tmp_path / "a", f"deny: {rule}", folder)
    asked = persona(tmp_path / "b", f"ask: {rule}", folder)
    assert (denied.deny, right(denied, "Bash")) == (("Bash",), Right.DENIED)
    assert (asked.ask, right(asked, "Bash")) == (("Bash",), Right.ASKED)


def test_former_names_of_tools_are_those_of_today(tmp_path: Path) -> None:
    found = persona(tmp_path, "tools: read Task, Bash\ndeny: KillShell Task")
    assert (found.tools, found.deny, found.offered) == (
        ("Read", "Agent", "Bash"),
        ("TaskStop", "Agent"),
        ("Read", "Bash"),
    )


def test_a_whole_server_of_tools_is_denied_by_its_name(tmp_path: Path) -> None:
    for number, rule in enumerate((FLEET, f"{FLEET}__*", CREATE)):
        found = persona(tmp_path / str(number), f"tools: Read, {FLEET}\ndeny: {rule}")
        assert not found.directs_with("create_agent")


def test_every_server_is_denied_by_a_star_but_for_the_agents_own_fleet(tmp_path: Path) -> None:
    found = persona(tmp_path, f"tools: Read, {FLEET}\ndeny: mcp__*")
    assert not found.directs_with("create_agent")
    assert right(found, "mcp__github__push") is Right.DENIED
    assert right(found, "Read") is Right.ALLOWED
    assert isinstance(verdict(ToolCall(id="1", name="mcp__crew__report_progress", input={}), found), Allow)
    asked = persona(tmp_path / "asked", "ask: mcp__*")
    assert (right(asked, "mcp__github__push"), right(asked, "Bash")) == (Right.ASKED, Right.ALLOWED)


@pytest.mark.parametrize("folder", [".fleet", ".claude"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deny: mcp__git*", "mcp__git*"),
        ("deny: Bsah", "deny: Bsah (did you mean Bash?)"),
        ("ask: [Read, webfetsh]", "ask: webfetsh (did you mean WebFetch?)"),
        ("deny: mcp__plugin_fleet_flet__create_agent", f"did you mean {CREATE}?"),
        ("deny: mcp__crew__ask_orchestrator", "always may talk to its fleet"),
        ("policy: [{tool: Bsah, answer: allow}]", "policy: Bsah (did you mean Bash?)"),
    ],
)
def test_a_rule_that_names_no_tool_refuses_the_persona(tmp_path: Path, folder: str, line: str, said: str) -> None:
    with pytest.raises(InvalidError) as error:
        persona(tmp_path, line, folder)
    assert said in error.value.message
    assert "mine.md" in error.value.message


def test_a_tool_of_a_server_that_no_agent_has_may_be_denied(tmp_path: Path) -> None:
    assert persona(tmp_path, "deny: mcp__github__push").deny == ("mcp__github__push",)


def test_rules_that_an_older_fleet_stored_hold_as_well() -> None:
    parent = Persona(name="p", description="", prompt="", source="", deny=("bash", "Task"), ask=("webfetch",))
    child = Persona(name="c", description="", prompt="", source="")
    assert [right(parent, tool) for tool in ("Bash", "Agent", "WebFetch", "Read")] == [0, 0, 1, 2]
    assert set(beyond(child, parent)) == {"bash", "Task", "webfetch"}


@pytest.mark.parametrize(
    ("front", "tools", "ask", "deny", "warned"),
    [
        ("tools: Read, Frobnicate, docker", ("Read",), (), (), "cannot have: Frobnicate, docker"),
        ("tools: Read, Bash(git *), Bash(ls:*)", ("Read",), ("Bash",), (), "asks before each call of Bash"),
        ("tools: Bash, Bash(git *)", ("Bash",), (), (), ""),
        ("tools: {Read: true, Bash: false}", ("Read",), (), (), "reads tools, a map"),
        ("tools: {Bash: false}", (), (), (), "reads tools, a map"),
        ("tools:", (), (), (), ""),
        ("tools: '*'", None, (), (), ""),
        ("ask: Bash(rm *), WebFetch", None, ("Bash", "WebFetch"), (), "asks before each call of Bash"),
        ("disallowedTools: Bash, Write\ndeny: edit", None, (), ("Edit", "Bash", "Write"), ""),
        ("verdict: PASS or FAIL", None, (), (), "leaves out verdict"),
        ("children: [a, b]\npolicy: strict", None, (), (), "leaves out policy"),
        ("hooks: {Stop: [{hooks: []}]}\ncolor: red\nmetadata: {a: {b: c}}", None, (), (), ""),
    ],
)  # fmt: skip
@pytest.mark.requirement("persona:files:as-claude-code")
def test_a_file_for_claude_code_keeps_what_restricts_and_warns_of_the_rest(
    tmp_path: Path, front: str, tools: tuple[str, ...] | None, ask: tuple[str, ...], deny: tuple[str, ...], warned: str
) -> None:
    found = persona(tmp_path, front, ".claude")
    assert (found.tools, found.ask, found.deny) == (tools, ask, deny)
    assert warned in "; ".join(found.warnings)
    assert bool(found.warnings) == bool(warned)
    assert (found.children, found.verdict, found.policy) == (0, False, ())


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("tools: 7", "not a list of tools"),
        ("tools: {Read: maybe}", "a map whose values"),
        ("ask: 7", "ask: 7 is not a list"),
        ("ask: '*'", "names no tool"),
        ("deny: Bash(rm *)", "deny whole tools"),
        ("disallowedTools: Bash(rm *)", "deny whole tools"),
        ("disallowedTools: {Bash: true}", "is not a list of tools"),
        ("permissionMode: plan", "lets it change nothing"),
        ("hooks: {PreToolUse: []}", "a hook before tool calls guards them"),
        ("PreToolUse: []", "a hook before tool calls guards them"),
        ("hooks: nonsense", "a hook before tool calls"),
        ("Deny: Bash", "did you mean deny?"),
        ("denny: Bash", "did you mean deny?"),
        ("disallowed-tools: Bash", "did you mean disallowedTools?"),
        ("max_turns: none", 'max_turns: "none"'),
    ],
)
@pytest.mark.requirement("persona:files:as-claude-code")
def test_a_file_for_claude_code_that_restricts_as_fleet_cannot_is_refused(
    tmp_path: Path, front: str, said: str
) -> None:
    with pytest.raises(InvalidError) as error:
        persona(tmp_path, front, ".claude")
    assert said in str(error.value)
