"""Whatever agents and sessions do, no result that an orchestrator reads is longer than 400 tokens but for a page."""

from __future__ import annotations

import re

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.errors import ConflictError, NotFoundError
from orchestrator.server.mcp import tools
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Lab

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("result:bounded:400-tokens")]
LIMIT_BYTES = 4 * 400
LONG = "Wörter, die niemand braucht; " * 200
OPTIONS = tuple(f"möglichkeit {number} " * 5 for number in range(12))
COMMAND = "echo " + "x" * 650


def long_name(number: int) -> str:
    """A name as long as one may be."""
    return f"agent-{number}-".ljust(64, "x")


async def crowd(lab: Lab, count: int) -> list[str]:
    """Agents of a session that has ended; each asks a long question, or wants to run a long command."""
    define(lab.project, "hand", "tools: Read\nask: [Bash]")
    names = [long_name(number) for number in range(count)]
    for number, name in enumerate(names):
        wants = number % 3 == 2
        new = NewAgent(name=name, task="look", persona="hand" if wants else "scout")
        await lab.fleet.create(lab.call(f"k-{name}", orchestrator="ended"), new)
        if wants:
            lab.play(name, Ask("", tool="Bash", input={"command": f"{COMMAND} {number}"}))
            await lab.becomes(name, "waiting", "permission")
        else:
            await lab.asks(name, LONG, OPTIONS)
    return names


async def test_no_tool_returns_more_however_many_agents_ask_however_much(lab: Lab) -> None:
    define(lab.project, "wordy", f"description: {'ä' * 2000}")
    names = await crowd(lab, 40)
    calls: list[tuple[str, dict[str, object]]] = [
        ("get_agent_status", {}),
        ("get_agent_status", {"agents": names}),
        ("get_agent_status", {"agents": names[:1]}),
        ("list_agents", {}),
        ("wait_for_agents", {"agents": names}),
        ("create_agent", {"name": long_name(99), "task": "look", "persona": "wordy", "checks": [LONG[:4000]] * 8}),
        ("command_agent", {"agent": names[0], "task": "1"}),
        ("delete_agent", {"agents": names[:12]}),
        ("delete_all_agents", {"scope": "project"}),
    ]
    sizes: dict[str, int] = {}
    for number, (tool, arguments) in enumerate(calls):
        told = await lab.tool(tool, orchestrator=f"new-{number}", **arguments)
        sizes[f"{number} {tool}"] = len(told.encode())
        if tool in {"get_agent_status", "create_agent"}:
            assert "\nleft by ended sessions: " in told, "the first result of a session carries the news"
    assert {tool: size for tool, size in sizes.items() if size > LIMIT_BYTES} == {}


async def test_a_page_is_as_long_as_its_reader_asked_for(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", LONG)
    await lab.becomes("a", "complete")
    assert LONG.strip() in await lab.tool("get_agent_output", agent="a")


async def test_who_names_many_agents_reads_about_the_first_ones_and_how_many_there_are_more(lab: Lab) -> None:
    names = await crowd(lab, 6)
    lines = (await lab.tool("get_agent_status", orchestrator="ended", agents=names)).split("\n")
    assert re.fullmatch(r"… and \d more: name fewer agents", lines[-1])
    assert len(lines) - 1 + int(lines[-1].split()[2]) == len(names)


@pytest.mark.requirement("permission:allow:only-what-was-shown")
async def test_a_named_agent_shows_all_that_it_wants_as_far_as_there_is_room(lab: Lab) -> None:
    define(lab.project, "hand", "tools: Read\nask: [Bash]")
    for name in ("a", "b"):
        await lab.create(name, persona="hand")
        lab.play(name, Ask("", tool="Bash", input={"command": f"{COMMAND} {name}"}))
        await lab.becomes(name, "waiting", "permission")
    told = await lab.tool("get_agent_status", agents=["a", "b"])
    assert len(told.encode()) <= LIMIT_BYTES
    shown, cut = told.split("\n")
    assert f'"{COMMAND} a"' in shown
    assert shown.endswith(' -> command_agent(agent="a", task="allow" or "always" or "deny: <why>")')
    assert f"{COMMAND} b" not in cut
    assert 'get_agent_output(agent="b") shows it whole; then' in cut
    with pytest.raises(ConflictError, match="nothing was allowed"):
        await lab.tool("command_agent", agent="b", task="allow")
    assert "answered" in await lab.tool("command_agent", agent="a", task="allow")
    assert f'"{COMMAND} b"' in await lab.tool("get_agent_status", agents=["b"])
    assert "answered" in await lab.tool("command_agent", agent="b", task="allow")


@pytest.mark.requirement("permission:allow:only-what-was-shown")
async def test_what_the_bound_leaves_out_was_not_shown(lab: Lab) -> None:
    names = await crowd(lab, 3)
    await lab.create("zz", persona="hand")
    lab.play("zz", Ask("", tool="Bash", input={"command": "rm -rf precious"}))
    await lab.becomes("zz", "waiting", "permission")
    told = await lab.tool("get_agent_status", agents=[*names, "zz"])
    assert "zz" not in told
    with pytest.raises(ConflictError, match="nothing was answered"):
        await lab.tool("command_agent", agent="zz", task="allow")


async def test_a_digest_leaves_room_for_the_line_about_agents_that_the_wait_has_taken_over(lab: Lab) -> None:
    names = [long_name(number) for number in range(8)]
    for name in names:
        new = NewAgent(name=name, task="look", persona="scout")
        await lab.fleet.create(lab.call(f"k-{name}", orchestrator="ended"), new)
        lab.finish(name, LONG)
        await lab.becomes(name, "complete")
    told = await lab.tool("wait_for_agents", agents=names)
    assert len(told.encode()) <= LIMIT_BYTES
    assert "ask for less" not in told, "the digest itself keeps the bound"
    last = told.split("\n")[-1]
    assert last.startswith(f"yours now, as the session that created them has ended: {names[0]}, ")


async def test_who_creates_an_agent_again_that_asks_much_reads_its_question_and_the_news(lab: Lab) -> None:
    await crowd(lab, 5)
    name = long_name(99)
    call = lab.call("k1", orchestrator="new")
    await lab.fleet.create(call, NewAgent(name=name, task="look", persona="scout"))
    await lab.asks(name, LONG, OPTIONS)
    [create] = [tool for tool in tools.table(lab.fleet) if tool.name == "create_agent"]
    told = await create.call(call, {"name": name, "task": "look", "persona": "scout"})
    assert isinstance(told, str)
    assert len(told.encode()) <= LIMIT_BYTES
    assert "ask for less" not in told
    first, news = told.split("\n")
    assert 'asks: "Wörter' in first
    assert news.startswith("left by ended sessions: ")


@pytest.mark.requirement("session:adopt:by-name")
async def test_news_that_a_failed_call_could_not_tell_is_told_in_the_next_result(lab: Lab) -> None:
    await crowd(lab, 1)
    with pytest.raises(NotFoundError):
        await lab.tool("get_agent_status", orchestrator="new", agents=["nobody"])
    assert "\nleft by ended sessions: " in await lab.tool("get_agent_status", orchestrator="new")
