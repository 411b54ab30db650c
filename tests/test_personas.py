"""Personas are found in order, a broken file affects only itself, and every mistake has its place and its remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.persona import Persona
from orchestrator.domain.question import Policy
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.front_matter import FrontMatter
from orchestrator.persona_files import MAX_BYTES
from orchestrator.personas import find_persona, folders, list_personas

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = {"scout", "planner", "builder", "reviewer", "shipper"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without personas of its own."""
    place = tmp_path / "project"
    place.mkdir()
    return place


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    """A home without personas of its own."""
    place = tmp_path / "own-home"
    place.mkdir()
    return place


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """A persona file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mine(project: Path, text: str | bytes, name: str = "mine") -> Persona:
    """The persona that this file makes."""
    write(project / ".fleet" / "agents", name, text)
    return find_persona(name, project, None)


def test_the_shipped_personas_are_there_and_the_orchestrator_is_no_agents_persona(
    project: Path, own_home: Path
) -> None:
    found = {persona.name: persona for persona in list_personas(project, own_home).found}
    assert set(found) == SHIPPED
    assert found["scout"].produces == "relevant-files.md"
    assert found["planner"].produces == "detailed-plan.md"
    assert (found["scout"].writes, found["builder"].writes) == (False, True)


@pytest.mark.requirement("persona:user:usable")
def test_the_first_file_of_a_name_wins_project_then_fleet_then_home_then_package(project: Path, own_home: Path) -> None:
    places = [project / ".claude" / "agents", project / ".fleet" / "agents", own_home / ".claude" / "agents"]
    assert [folder.path for folder in folders(project, own_home)][:3] == places
    for folder in reversed(places):
        path = write(folder, "scout", f"---\nname: scout\ndescription: d\n---\nfrom {folder}")
        assert find_persona("scout", project, own_home).source == str(path)
        listed = [persona for persona in list_personas(project, own_home).found if persona.name == "scout"]
        assert [persona.source for persona in listed] == [str(path)]


def test_without_a_home_the_users_own_personas_are_left_out(project: Path, own_home: Path) -> None:
    write(own_home / ".claude" / "agents", "mine", "---\nname: mine\ndescription: d\n---\ndo it")
    assert find_persona("mine", project, own_home).prompt == "do it"
    with pytest.raises(NotFoundError):
        find_persona("mine", project, None)


def test_a_whole_file_is_read_as_it_is_written(project: Path) -> None:
    text = (
        "---\nname: mine\ndescription: Use this: always, even now\ntools: Read, Grep\nmodel: inherit\n"
        "produces: notes.md\nmax_turns: 7\n---\n\n# Prompt\n\ntext ---\n---\nmore\n"
    )
    persona = mine(project, text)
    assert persona.tools == ("Read", "Grep")
    assert persona.model is None
    assert persona.produces == "notes.md"
    assert persona.description == "Use this: always, even now"
    assert persona.prompt == "# Prompt\n\ntext ---\n---\nmore"


@pytest.mark.parametrize(
    ("line", "tools"),
    [
        ("", None),
        ("tools:", ()),
        ("tools: ''", ()),
        ("tools: '*'", None),
        ("tools: Read, Grep ,", ("Read", "Grep")),
        ("tools: [Read, Grep]", ("Read", "Grep")),
        ("tools:\n  - Read\n  - Grep", ("Read", "Grep")),
        ("tools: []", ()),
    ],
)
def test_tools_may_be_written_in_every_usual_way(project: Path, line: str, tools: tuple[str, ...] | None) -> None:
    assert mine(project, f"---\nname: mine\n{line}\n---\nx").tools == tools


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tools: 7", "tools: 7: not a list of tools"),
        ("tools: {Read: yes}", "not a list of tools"),
        ("ask: Bash(ls:*)", '"Bash(ls:*)" is a pattern'),
        ("deny: '*'", "* is a pattern"),
        ("max_turns: 0", "max_turns: 0: input should be greater than 0"),
        ("max_turns: many", 'max_turns: "many": input should be a valid integer'),
        ("max_turns: true", "max_turns: true: input should be a valid integer"),
        ("max_turns: 2.5", "max_turns: 2.5: input should be a valid integer"),
        ("children: -1", "children: -1: input should be greater than or equal to 0"),
        ("produces: ../x", "not a plain file name"),
        ("produces: a/b", "not a plain file name"),
        ("produces: .hidden", "not a plain file name"),
        ("produces: ''", "not a plain file name"),
        ('produces: "a\\0b"', "not a plain file name"),
        ('produces: "a\\nb"', "not a plain file name"),
        ("answer_within: soon", 'answer_within: "soon": "soon" is not a duration such as'),
        ("verdict: perhaps", 'verdict: "perhaps": input should be a valid boolean'),
        ("children: 3\nfans_out: tasks", "fans_out: \"tasks\": input should be 'tools' or 'plan'"),
        ("children: 3\nfans_out: [plan]", "fans_out: \"['plan']\": input should be 'tools' or 'plan'"),
        ("children: 3\nfans_out: true", "fans_out: true: input should be 'tools' or 'plan'"),
        ("fans_out: plan", "plan without children"),
        ("children: 0\nfans_out: plan", "plan without children"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(project: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidError) as error:
        mine(project, f"---\nname: mine\n{line}\n---\nx")
    assert "mine.md" in error.value.message
    assert said in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("deny", 'policy: "deny": input should be a valid'),
        ("[{}]", 'policy[0].answer: "{}": field required'),
        ("[allow]", 'policy[0]: "allow": input should be'),
        (
            "[{answer: allow}]",
            "policy[0]: \"{'answer': 'allow'}\": names neither a kind (permission, question) nor a tool",
        ),
        ("[{tool: Bash, answer: maybe}]", "allow, always, or deny: <why>"),
        ("[{tool: Bash, answer: allow, command: ls}]", 'policy[0].command: "ls": extra inputs are not permitted'),
        ("[{kind: wish, answer: x}]", "policy[0].kind: \"wish\": input should be 'question' or 'permission'"),
        ("[{tool: 7, answer: allow}]", "policy[0].tool: 7: input should be a valid string"),
    ],
)
def test_a_policy_that_cannot_mean_anything_is_refused_with_its_place(project: Path, policy: str, said: str) -> None:
    with pytest.raises(InvalidError) as error:
        mine(project, f"---\nname: mine\npolicy: {policy}\n---\nx")
    assert "mine.md" in error.value.message
    assert said in error.value.message
    assert "policy: [{tool: WebFetch, answer: allow}]" in error.value.hint


def test_a_policy_entry_without_a_kind_answers_the_permission_of_its_tool(project: Path) -> None:
    entries = "[{tool: WebFetch, answer: Allow}, {kind: question, answer: as you like}]"
    assert mine(project, f"---\nname: mine\npolicy: {entries}\n---\nx").policy == (
        Policy(answer="allow", kind="permission", tool="WebFetch"),
        Policy(answer="as you like", kind="question"),
    )


def test_all_wrong_fields_are_named_at_once_each_with_an_example(project: Path) -> None:
    with pytest.raises(InvalidError) as error:
        mine(project, "---\nname: mine\nmax_turns: none\nchildren: some\n---\nx")
    assert 'max_turns: "none"' in error.value.message
    assert 'children: "some"' in error.value.message
    assert error.value.hint == "write e.g. max_turns: 40, children: 5"


@pytest.mark.requirement("clearance:rules:however-spelled")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Deny: [Bash]", "no such key (did you mean deny?)"),
        ("denyy: Bash", "no such key (did you mean deny?)"),
        ("permissionMode: plan", "lets it change nothing"),
        ("hooks: {PreToolUse: []}", "Fleet runs no hooks of a file"),
    ],
)
def test_a_key_that_restricts_is_not_ignored_in_a_file_for_fleet_either(project: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidError) as error:
        mine(project, f"---\nname: mine\ndescription: d\n{line}\n---\nx")
    assert said in error.value.message


def test_what_claude_code_denies_is_denied_in_a_file_for_fleet_too(project: Path) -> None:
    rules = "disallowedTools: Bash\nmaxTurns: 4\ndeny: [Write]"
    found = mine(project, f"---\nname: mine\ndescription: d\n{rules}\n---\nx")
    assert set(found.deny) == {"Bash", "Write"}
    assert found.max_turns == 4


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("max_turns: 100\nmaxTurns: 5", 5),
        ("max_turns:\nmaxTurns: 5", 5),
        ("max_turns: 3\nmaxTurns: 5", 3),
        ("task: x", None),
    ],
)
def test_the_smaller_number_of_turns_holds_and_a_key_that_is_no_rule_is_let_be(
    project: Path, line: str, most: int | None
) -> None:
    assert mine(project, f"---\nname: mine\ndescription: d\n{line}\n---\nx").max_turns == most


def test_a_key_without_a_value_counts_as_not_given(project: Path) -> None:
    front = "".join(f"{key}:\n" for key in FrontMatter.model_fields if key not in {"name", "tools"})
    persona = mine(project, f"---\nname: mine\n{front}---\nx")
    plain = mine(project, "---\nname: mine\n---\nx")
    assert replace(persona, digest=plain.digest) == plain


def test_numbers_are_read_from_front_matter_that_is_not_yaml(project: Path) -> None:
    persona = mine(project, "---\nname: mine\ndescription: Use: always\nmax_turns: 7\nchildren: 2\n---\nx")
    assert (persona.max_turns, persona.children) == (7, 2)


def test_the_examples_of_every_key_are_valid(project: Path) -> None:
    for key, field in FrontMatter.model_fields.items():
        for example in field.examples or ():
            line = f"{example}\nchildren: 5" if key == "fans_out" else str(example)
            name = "" if key == "name" else "name: mine\n"
            assert mine(project, f"---\n{name}{line}\n---\nx", name="scout" if key == "name" else "mine")


def test_every_key_is_documented() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert not [key for key in FrontMatter.model_fields if f"`{key}`" not in reference]


def test_agents_fan_out_by_tools_unless_their_persona_says_by_a_plan(project: Path) -> None:
    assert not mine(project, "---\nname: mine\nchildren: 3\n---\nx").plans
    assert not mine(project, "---\nname: mine\nchildren: 3\nfans_out: tools\n---\nx").plans
    assert mine(project, "---\nname: mine\nchildren: 3\nfans_out: plan\n---\nx").plans


@pytest.mark.parametrize(
    "text", ["", "just a prompt", "# Notes\n---\nname: mine\n---\n", "---\nname: mine\nnot closed"]
)
def test_a_file_without_front_matter_is_no_persona(project: Path, text: str) -> None:
    with pytest.raises(NotFoundError):
        mine(project, text)


BROKEN = {
    "no text": b"\xff\xfe\x00binary",
    "endless": b"---\nname: mine\ndescription: x\n---\n" + b"x" * (MAX_BYTES + 1),
    "endless front matter": b"---\nname: mine\ndescription: x\n" + b"x: y\n" * 20_000 + b"---\nx",
    "anchor": b"---\nname: mine\ndescription: &x x\n---\nx",
    "tag": b"---\nname: mine\ndescription: !x x\n---\nx",
    "date": b"---\nname: x\ndescription: 2026-13-45\n---\nx",
    "deep": b"---\nname: mine\ndescription: x\nx: " + b"[" * 5000 + b"\n---\nx",
    "two keys": b"---\nname: mine\nname: y\n---\nx",
    "list": b"---\n- a\n- b\n---\nx",
    "line in the name": b'---\nname: "x\\n[root complete]"\ndescription: x\n---\nx',
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_does_not_hide_the_others(project: Path, what: str) -> None:
    write(project / ".claude" / "agents", "aaa", BROKEN[what])
    assert find_persona("scout", project, None).name == "scout"
    names = {persona.name for persona in list_personas(project, None).found}
    assert names >= SHIPPED
    assert all(name.isprintable() for name in names)


@pytest.mark.parametrize("what", ["endless", "endless front matter", "anchor", "tag", "two keys", "deep"])
def test_a_broken_file_that_is_asked_for_is_named(project: Path, what: str) -> None:
    with pytest.raises(InvalidError) as error:
        mine(project, BROKEN[what])
    assert "mine.md" in error.value.message


def test_a_folder_or_a_link_to_nothing_is_no_persona(project: Path) -> None:
    folder = project / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "folder.md").mkdir()
    (folder / "gone.md").symlink_to(project / "nowhere")
    assert {persona.name for persona in list_personas(project, None).found} == SHIPPED


def test_a_file_from_another_system_is_read_the_same(project: Path) -> None:
    persona = mine(project, b"\xef\xbb\xbf---\r\nname: mine\r\ndescription: d\r\ntools: Read\r\n---\r\nthe prompt\r\n")
    assert (persona.tools, persona.prompt) == (("Read",), "the prompt")


@pytest.mark.parametrize("name", ["look\U0001f600", "a\u00e4\U0001f600 \u2019\U000118dc", "da---sh"])
@pytest.mark.parametrize("folder", [".claude", ".fleet"])
def test_a_name_that_is_escaped_as_in_json_is_what_claude_code_reads(project: Path, folder: str, name: str) -> None:
    escaped = json.dumps(name).replace("-", "\\u002d")
    write(project / folder / "agents", "x", f"---\nname: {escaped}\ndescription: {escaped}\n---\nx")
    persona = find_persona(name, project, None)
    assert (persona.name, persona.description) == (name, name)
    assert name in {one.name for one in list_personas(project, None).found}


@pytest.mark.parametrize("line", ['description: "\\ud83d"', 'default_answer: "\\ude00\\ud83d"', '"\\ud83d": x'])
def test_half_a_character_makes_a_file_none_as_claude_code_ignores_it(project: Path, line: str) -> None:
    write(project / ".fleet" / "agents", "half", f"---\nname: half\n{line}\n---\nx")
    with pytest.raises(InvalidError) as error:
        find_persona("half", project, None)
    assert "is not YAML, so Claude Code ignores it, too" in error.value.message


@pytest.mark.parametrize("folder", [".claude", ".fleet"])
def test_a_name_that_cannot_be_shown_is_said_to_be_none(project: Path, folder: str) -> None:
    write(project / folder / "agents", "odd", '---\nname: "odd\\u0085x"\ndescription: d\n---\nx')
    (problem,) = list_personas(project, None).problems
    assert "a name is one short line" in problem.message


def test_a_number_as_a_name_is_refused_as_claude_code_ignores_it(project: Path) -> None:
    write(project / ".fleet" / "agents", "seven", "---\nname: 7\n---\nx")
    (problem,) = list_personas(project, None).problems
    assert 'name: 7 is not text -> write it in quotes: name: "7"' in str(problem)


def test_an_unknown_persona_is_answered_with_those_there_are(project: Path) -> None:
    with pytest.raises(NotFoundError) as error:
        find_persona("scot", project, None)
    assert "did you mean scout?" in error.value.hint
    assert "builder" in error.value.hint


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.text(st.sampled_from("-:[]{}'\"&*!|>%@`#,? \n\tab0.1e~"), max_size=60))
def test_no_front_matter_whatever_stops_the_listing(project: Path, head: str) -> None:
    write(project / ".claude" / "agents", "odd", f"---\n{head}\n---\nprompt".encode(errors="replace"))
    assert {persona.name for persona in list_personas(project, None).found} >= SHIPPED - {"odd"}
    find_persona("scout", project, None)
