"""The commands against a real daemon, the real claude and a scripted model."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator import paths, rehearsal
from tests.fixtures.daemon import ROOT, clean_env, wait_until
from tests.fixtures.fleet_command import Command

SCRIPT = """
name: office
parts:
  - part: asker
    match: {agent: "asker*"}
    replies:
      - calls:
          - tool: mcp__crew__ask_orchestrator
            as: answer
            input: {question: "Which \\e[31mcolour?", options: [red, blue]}
      - say: "painted {{ results.answer | match('(red|blue)') }}"
  - part: failing
    match: {agent: "failing*"}
    replies: [{fault: {status: 400, message: the model says no}}]
  - part: slow
    match: {agent: "slow*"}
    replies: [{say: slept, delay_seconds: 60}]
  - part: pausing
    match: {agent: "pausing*", task: "^begin"}
    replies: [{say: slept, delay_seconds: 60}]
  - part: going on
    match: {agent: "pausing*"}
    replies: [{say: "went on"}]
  - part: writer
    match: {agent: "writer*"}
    replies:
      - calls: [{tool: Write, input: {file_path: "made.txt", content: "made\\n"}}]
      - say: "wrote it, \\e[2Jand the task was: {{ task | match('(do \\\\S+)') }}"
  - part: writing once allowed
    match: {agent: "series*", task: "^write (?P<file>[a-z.]+)"}
    replies:
      - calls:
          - tool: Bash
            input: {command: "until [ -e .git/allow-{{ file }} ]; do sleep 0.02; done; echo {{ file }} > {{ file }}"}
      - say: "wrote {{ file }}"
  - part: failing in between
    match: {agent: "series*"}
    replies: [{fault: {status: 400, message: the model says no}}]
  - part: anyone
    match: {}
    replies: [{say: "done {{ agent }}"}]
"""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`fleet` in a git project, with a scripted model behind it; its daemon is ended at the end."""
    place = tmp_path_factory.mktemp("office")
    project, home, script = place / "project", place / "home", place / "office.yaml"
    project.mkdir()
    home.mkdir()
    script.write_text(SCRIPT)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    with (
        tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as state,
        rehearsal.start(script) as model,
    ):
        env = clean_env(
            home,
            Path(state),
            ANTHROPIC_BASE_URL=model.url,
            ANTHROPIC_API_KEY="nobody",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            FLEET_REHEARSAL="office",
            FLEET_REST_SECONDS="0",
        )
        fleet = Command(project, env)
        yield fleet
        ended = fleet("down", "--interrupt")
        assert ended.code == 0, ended.err


@pytest.fixture
def tidy(office: Command) -> Iterator[Command]:
    """The office, with everyone's agents deleted after the test."""
    yield office
    assert office("rm", "--all", "--project").code == 0


@pytest.mark.requirement("cli:up:starts-and-ends", "cli:json:everywhere")
def test_up_starts_one_daemon_and_says_where_it_is(office: Command) -> None:
    first, second = office("up", "--json"), office("up", "--json")
    assert first.code == second.code == 0, first.err
    assert first.json["running"]
    assert first.json["pid"] == second.json["pid"]
    assert Path(first.json["log"]).is_file()
    assert first.json["rehearsal"] is True
    assert office("doctor", "--json").json["ok"]


@pytest.mark.requirement(
    "cli:verbs:same-as-tools",
    "cli:output:pages",
    "cli:show:one-agent",
    "cli:ps:lists-agents",
    "cli:json:everywhere",
    "agent:create:name-task-model-persona",
    "agent:output:result-and-files",
    "agent:delete:one",
    "view:agent:all-fields",
)
def test_an_agent_is_created_waited_for_read_and_deleted(tidy: Command) -> None:
    made = tidy("create", "writer", "do this", "--wait", "--json", "--max-turns", "5")
    assert made.code == 0, made.err
    (outcome,) = made.json["outcomes"]
    assert (outcome["name"], outcome["status"]) == ("writer", "complete")

    raw = tidy("output", "writer")
    assert raw.code == 0
    assert raw.out == "wrote it, \x1b[2Jand the task was: do this\n"
    assert "made.txt" in raw.err
    page = tidy("output", "writer", "--offset", "6", "--limit", "2", "--json").json
    assert (page["text"], page["next_offset"]) == ("it", 8)
    assert "--offset 8" in tidy("output", "writer", "--limit", "8").err

    shown = tidy("show", "writer")
    assert "\x1b" not in shown.out
    assert "made.txt" in shown.out
    assert "do this" in shown.out
    detail = tidy("show", "writer", "--json").json
    short = detail["agent"]["id"][:9]
    assert tidy("show", short, "--json").json["agent"]["name"] == "writer"

    table = tidy("ps")
    assert table.code == 0
    header, group, row, totals = table.out.splitlines()
    assert header.split()[:3] == ["name", "status", "persona"]
    assert group == "Done (1)"
    assert row.split()[0] == "writer"
    assert "complete" in row
    assert "1 agent (1 complete)" in totals
    assert "rehearsal" in totals
    assert "\x1b" not in table.out
    assert "\x1b" in tidy("ps", FORCE_COLOR="1").out
    assert "\x1b" not in tidy("ps", FORCE_COLOR="1", NO_COLOR="1").out

    gone = tidy("rm", "writer", "--json")
    assert [one["was"] for one in gone.json["deleted"]] == ["complete"]
    assert tidy("ps", "--json").json["agents"] == []
    nobody = tidy("ps")
    assert (nobody.code, nobody.out) == (0, "")


@pytest.mark.requirement(
    "cli:verbs:same-as-tools",
    "cli:exit:documented-codes",
    "cli:show:one-agent",
    "question:route:orchestrator-never-user",
)
def test_a_question_ends_a_wait_with_5_and_show_says_how_to_answer(tidy: Command) -> None:
    assert tidy("create", "asker", "paint it").code == 0
    waited = tidy("wait", "asker", "--timeout", "60")
    assert waited.code == 5, waited.out + waited.err
    assert "fleet show asker" in waited.err
    shown = tidy("show", "asker")
    assert "Which colour?" in shown.out
    assert '  2. "blue"' in shown.out
    assert 'fleet answer asker "…"' in shown.out
    assert "Needs you (1)" in tidy("ps").out
    answered = tidy("answer", "asker", "blue")
    assert answered.code == 0
    assert tidy("wait", "asker", "--timeout", "60").code == 0
    assert tidy("output", "asker").out == "painted blue\n"
    late = tidy("answer", "asker", "red")
    assert late.code == 1
    assert "-> " in late.err


@pytest.mark.requirement("cli:verbs:same-as-tools", "cli:exit:documented-codes", "cli:down:refuses-while-working")
def test_a_failure_is_1_a_time_out_4_and_down_refuses_while_an_agent_works(tidy: Command) -> None:
    failed = tidy("create", "failing", "try", "--wait")
    assert failed.code == 1, failed.out + failed.err
    assert "the model says no" in tidy("show", "failing").out
    assert tidy("create", "slow", "sleep").code == 0
    wait_until(lambda: _status(tidy, "slow") == "working", "a working agent")
    timed_out = tidy("wait", "slow", "--timeout", "0.2", "--json")
    assert timed_out.code == 4
    assert timed_out.json["timed_out"]
    refused = tidy("down")
    assert refused.code == 1
    assert "slow" in refused.err
    assert _status(tidy, "slow") == "working"
    stopped = tidy("interrupt", "slow", "--json")
    assert stopped.code == 0
    wait_until(lambda: _status(tidy, "slow") == "interrupted", "an interrupted agent")


def _status(fleet: Command, agent: str) -> str:
    return str(fleet("show", agent, "--json").json["agent"]["status"])


@pytest.mark.requirement("cli:down:refuses-while-working")
def test_down_with_interrupt_loses_nothing(tidy: Command) -> None:
    assert tidy("create", "pausing", "begin").code == 0
    wait_until(lambda: tidy("show", "pausing", "--json").json["session_id"], "an agent with a session")
    assert tidy("command", "pausing", "go on").code == 0
    before = tidy("show", "pausing", "--json").json
    down = tidy("down", "--interrupt", "--json")
    assert down.code == 0, down.err
    assert down.json["interrupted"] == 1
    assert tidy("down").code == 0
    assert "no daemon runs" in tidy("down").err
    wait_until(lambda: _status(tidy, "pausing") == "complete", "the end of the queued turn")
    after = tidy("show", "pausing", "--json").json
    assert [(turn["status"], turn["reason"]) for turn in after["turns"]] == [
        ("interrupted", "stopped"),
        ("complete", ""),
    ]
    assert after["session_id"] == before["session_id"]
    assert tidy("output", "pausing").out == "went on\n"


@pytest.mark.requirement("cli:logs:follows", "view:live:events-stream")
def test_logs_follow_an_agent_across_a_restart_of_the_daemon(tidy: Command) -> None:
    assert tidy("create", "one", "begin", "--wait").code == 0
    stored = tidy("logs", "one", "--json")
    kinds = [event["kind"] for event in stored.lines]
    assert kinds[0] == "agent.created"
    assert "turn.complete" in kinds
    assert {event["schema"] for event in stored.lines} == {2}
    plain = tidy("logs", "one", "--tail", "2")
    assert len(plain.out.splitlines()) == 2
    assert len(tidy("logs", "--json").lines) >= len(stored.lines)

    following = tidy.start("logs", "-f", "one", "--json")
    assert following.stdout is not None
    assert following.stderr is not None
    seen = [following.stdout.readline() for _ in kinds]
    assert tidy("down").code == 0
    assert "went away" in following.stderr.readline()
    assert tidy("command", "one", "again").code == 0
    assert tidy("wait", "one", "--timeout", "60").code == 0
    more = following.stdout.readline()
    while '"turn.complete"' not in seen[-1]:
        seen.append(more)
        more = following.stdout.readline() if '"turn.complete"' not in more else more
    assert len({line.split('"cursor": ')[1].split(",")[0] for line in seen}) == len(seen)
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)
    assert following.returncode == 130


@pytest.mark.requirement("cli:ps:lists-agents", "cli:json:everywhere")
def test_ps_watches_the_fleet_until_ctrl_c(tidy: Command) -> None:
    watching = tidy.start("ps", "--watch", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["agents"] == []
    assert tidy("create", "one", "begin").code == 0
    agents: list[dict[str, object]] = []
    while not agents:  # what happened before may still be told
        agents = json.loads(watching.stdout.readline())["agents"]
    (seen,) = agents
    assert seen["name"] == "one"
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert watching.returncode == 130


@pytest.mark.requirement("cli:ps:lists-agents")
def test_ps_watches_on_a_terminal_and_leaves_it_as_it_was(tidy: Command) -> None:
    assert tidy("create", "one", "begin", "--wait").code == 0
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "orchestrator", "ps", "--watch"]
    env = {**tidy.env, "TERM": "xterm-256color", "COLUMNS": "150", "LINES": "30"}
    watching = subprocess.Popen(command, cwd=tidy.cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"Done (1)" not in seen:
        seen += os.read(ours, 65536)
    watching.send_signal(signal.SIGINT)
    with suppress(OSError):  # a terminal whose last program has ended
        while more := os.read(ours, 65536):
            seen += more
    os.close(ours)
    assert watching.wait(60) == 130
    assert b"\x1b[?1049h" in seen  # the alternate screen,
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h")  # and back
    assert b"\x1b[?25h" in seen  # the cursor is shown again


@pytest.mark.requirement("cli:exit:documented-codes")
@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nobody"],
        ["logs", "nobody"],
        ["logs", "-f", "nobody"],
        ["output", "nobody"],
        ["command", "nobody", "do it"],
        ["answer", "nobody", "yes"],
        ["interrupt", "nobody"],
        ["wait", "nobody"],
        ["rm", "nobody"],
        ["show", ".."],
        ["create", "one", "do it", "--input", "nobody"],
        ["create", "one", "do it", "--persona", "nobody"],
    ],
)
def test_what_is_not_there_ends_with_3(arguments: list[str], office: Command) -> None:
    ran = office(*arguments)
    assert (ran.code, ran.out) == (3, ""), ran.err
    assert "-> " in ran.err


@pytest.mark.requirement("cli:exit:documented-codes")
@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["create", "one", ""], ""),
        (["create", "one", "-"], "x" * (1 << 20)),
        (["create", "one", "-"], "nul \x00 here"),
        (["create", "no such name", "do it"], ""),
        (["create", "one", "do it", "--model", "nonsense"], ""),
        (["create", "one", "do it", "--cwd", "no/such/place"], ""),
        (["create", "one", "do it", "--max-turns", "0"], ""),
        (["show", ""], ""),
        (["wait", "one", "--timeout", "1e400"], ""),
    ],
)
def test_what_can_mean_nothing_ends_with_2(arguments: list[str], stdin: str, office: Command) -> None:
    ran = office(*arguments, stdin=stdin)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert "-> " in ran.err
    assert office("ps", "--json").json["agents"] == []


def test_a_hint_names_commands_and_not_an_orchestrators_tools(office: Command) -> None:
    assert "fleet create" in office("show", "nobody").err


def test_what_a_rule_refuses_ends_with_1(office: Command) -> None:
    ran = office("create", "one", "do it", "--cwd", "/etc")
    assert (ran.code, ran.out) == (1, "")
    assert "outside the project" in ran.err


def test_a_daemon_of_another_build_is_named_with_the_command_that_replaces_it(fleet: Command, tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "orchestrator", tmp_path / "old" / "orchestrator", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "old" / "orchestrator" / "__init__.py").write_text('"""Fleet, before."""\n\nVERSION = "0.0.9"\n')
    old = Command(fleet.cwd, {**fleet.env, "PYTHONPATH": str(tmp_path / "old")})
    assert old("up").code == 0
    try:
        refused = fleet("ps")
        assert refused.code == 1
        assert "0.0.9" in refused.err
        assert "fleet down && fleet up" in refused.err
        assert "0.0.9" in fleet("doctor").out
    finally:
        assert fleet("down").code == 0
    renewed = fleet("up", "--json")
    assert renewed.json["build"] == paths.build()
    assert fleet("down").code == 0


@pytest.mark.requirement(
    "wait:digest:every-turn-once",
    "wait:wake:earlier-turn",
    "cli:exit:documented-codes",
    "guarantee:turns:none-vanishes",
)
def test_three_tasks_of_which_the_second_fails_are_each_told_once_with_their_changes(tidy: Command) -> None:
    project = tidy.cwd
    assert tidy("create", "series", "write first.txt").code == 0
    wait_until(lambda: "working" in tidy("ps").out, "the agent at work")
    assert tidy("command", "series", "fail").code == 0
    assert tidy("command", "series", "write third.txt").code == 0
    (project / ".git" / "allow-first.txt").touch()

    failed = tidy("wait", "series", "--json")
    first, second = failed.json["outcomes"]
    assert failed.code == 1, failed.err
    assert (first["turn"], first["status"], first["changes"]["files"]) == (1, "complete", ["first.txt"])
    assert (second["turn"], second["status"]) == (2, "failed")
    assert failed.json["working"] == ["series"]
    (project / ".git" / "allow-third.txt").touch()

    last = tidy("wait", "series", "--json")
    (third,) = last.json["outcomes"]
    assert last.code == 0, last.err
    assert (third["turn"], third["status"], third["text"]) == (3, "complete", "wrote third.txt")
    assert third["changes"]["files"] == ["third.txt"]
    assert tidy("wait", "series", "--json").json["outcomes"] == []
