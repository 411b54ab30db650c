"""Text that Fleet did not write never passes for Fleet's own, whatever it is and wherever it is shown.

Agents, repositories and persona files say hostile things in every place that has a reader. Each carries a mark, which
may be found only inside fences, behind margins and in quotation marks.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator.cli.render.events import event_text
from orchestrator.cli.render.table import fleet_table
from orchestrator.cli.verbs import agents, inspect, run, run_watch, wait
from orchestrator.cli.verbs.run_watch import RunWatch
from orchestrator.domain.agent import NewAgent
from orchestrator.domain.durable_wait import DurableWait
from orchestrator.domain.event import Retrying, ToolEnded, ToolStarted
from orchestrator.domain.text import ForeignText, clean, fenced, listed, listed_paths, margin, named, quoted, raw
from orchestrator.errors import FleetError
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.verbs.durable_wait import WaitRequest
from orchestrator.fleet.views import AgentDetail
from orchestrator.server.http.problems import document
from orchestrator.server.mcp import tools
from orchestrator.tool_table import result
from tests.fixtures.hostile import (
    HOSTILE,
    MARK,
    PIECES,
    assert_fleets_own,
    file_name,
    in_turn,
    outside,
    persona_name,
    yaml_text,
)
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Lab, Report, SleepOnChildren, Spawn, at_work, open_lab
from tests.fleet.test_facts import git

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client

MAIL = "mcp__mail__send"
LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
"""what `repr` makes of a text: it escapes line breaks, controls and its quotation marks"""


@settings(max_examples=60, deadline=None)
@given(st.text() | HOSTILE, st.integers(3, 200))
def test_nothing_leaves_its_fence_its_margin_or_its_quotation_marks(text: str, limit: int) -> None:
    foreign = ForeignText(f"{MARK} {text}")
    shown = (str(foreign), f"{foreign:>10}", quoted(foreign, limit), fenced(foreign), named(foreign, limit))
    paths = listed_paths([foreign, f"{MARK} {text}" * 9], 2, limit_bytes=90, total=5)
    for one in (*shown, *margin(foreign), listed([foreign, foreign], 1, total=5), paths):
        assert [line for line in outside(one) if MARK in line] == []
    assert fenced(foreign).split("\n")[1:-1] == clean(raw(foreign)).rstrip("\n").split("\n")


async def told(lab: Lab, tool_name: str, **arguments: object) -> str:
    """What an orchestrator reads when it calls this tool, as the doors send it."""
    tool = next(tool for tool in tools.table(lab.fleet) if tool.name == tool_name)
    try:
        text = await tool.call(lab.call(), arguments)
    except FleetError as error:
        return LITERAL.sub('""', f"error {document(error).detail} {document(error).hint}")
    [content] = result(text).model_dump()["content"]
    return str(content["text"])


async def people_read(lab: Lab, name: str) -> str:
    """What a person reads about the agent at a terminal."""
    detail = await lab.fleet.detail(lab.call(), name)
    copied = AgentDetail.model_validate(json.loads(json.dumps(detail.model_dump())))  # as the HTTP API sends it
    return "\n".join(inspect._detail_lines(copied))


class Answering:
    """A client of the command line that answers each request with this view."""

    def __init__(self, view: AgentDetail) -> None:
        self.view = view

    def get(self, model: type[AgentDetail], path: str) -> AgentDetail:
        """Return the view as the HTTP API sends it."""
        del path
        return model.model_validate(json.loads(json.dumps(self.view.model_dump())))


async def run_shows(lab: Lab, name: str) -> str:
    """What `fleet run` says of this agent: what its orchestrator asks, as it asks it, and how it ended."""
    client = Answering(await lab.fleet.detail(lab.call(), name))
    detail = client.get(AgentDetail, "")
    watch = RunWatch(cast("Client", client), detail.agent)
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()):
        for event in await lab.fleet.events(lab.call(), since="0", limit=1000):
            if event.agent == detail.agent.id and event.kind not in run_watch._ENDS:
                watch._take(event)
        run._show(run.RunEnd(detail=detail, left=(detail.agent,)), as_json=False)
    return re.sub(r"^(\S+ asks you:) .*$", r"\1", said.getvalue(), flags=re.MULTILINE)  # it is the whole line


def printed(digest: Digest) -> str:
    """What `fleet wait` prints."""
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()) as shown:
        wait.print_digest(Digest.model_validate(json.loads(json.dumps(digest.model_dump()))), as_json=False)
    return shown.getvalue() + said.getvalue()


async def parents_read(lab: Lab, hostile: Callable[[], str]) -> str:
    """What an agent reads of its children that said hostile things, once they have ended."""
    define(lab.project, "lead", "tools: Read, Grep, Glob\nchildren: 5")
    await tools_create(lab, "boss", persona="lead")
    lab.play("boss", Spawn("one"), Spawn("two"), SleepOnChildren())
    await lab.becomes("boss", "waiting", "children")
    lab.finish("one", hostile())
    await lab.becomes("one", "complete")
    await told(lab, "command_agent", agent="one", task="again")
    await at_work(lab, "one", turns=2)
    lab.fail("one", "api", hostile())
    lab.fail("two", "api", hostile())
    lab.finish("boss")
    await lab.becomes("boss", "complete")
    return lab.provider.answers["boss"][-1]


async def permissions(lab: Lab, hostile: Callable[[], str]) -> dict[str, str]:
    """What is shown of calls that must be permitted."""
    define(lab.project, "shell", f"tools: Read\nask: [Bash, {MAIL}]")
    shown: dict[str, str] = {}
    for tool, tool_input in (("Bash", {"command": hostile()}), (MAIL, {hostile(): hostile(), "deep": [hostile()]})):
        name = f"wants-{tool[:4].lower().rstrip('_')}"
        await tools_create(lab, name, persona="shell")
        await at_work(lab, name)
        waits = await lab.fleet.begin_durable_wait(lab.call(), WaitRequest(agents=(name,)), asks_person=True)
        lab.play(name, Ask("", tool=tool, input=tool_input))
        await lab.becomes(name, "waiting", "permission")
        assert isinstance(waits, DurableWait)
        assert_forms(await lab.fleet.durable_wait(lab.call(), waits.id), f"{name} wants to use {tool}:")
        shown[f"{name} digest"] = await told(lab, "wait_for_agents", agents=[name], timeout_seconds=0)
        shown[f"{name} printed"] = printed(await lab.wait(name))
        shown[f"{name} status"] = await told(lab, "get_agent_status", agents=[name])
        shown[f"{name} output"] = await told(lab, "get_agent_output", agent=name)
        shown[f"{name} show"] = await people_read(lab, name)
        shown[f"{name} run"] = await run_shows(lab, name)
        await lab.fleet.interrupt(lab.call(), name)
    return shown


async def of_persona(lab: Lab, persona: str) -> dict[str, str]:
    """What is shown of an agent whose persona has this name."""
    created = await lab.fleet.create(lab.call(), NewAgent(name="sly", task="look", persona=persona))
    shown = {"created": agents._created_line(created), "taken": await told(lab, "create_agent", name="sly", task="x")}
    shown["receipt"] = await told(lab, "create_agent", name="sly2", task="look", persona=persona)
    await at_work(lab, "sly")
    shown["sly status"] = await told(lab, "get_agent_status", agents=["sly", "sly2"])
    shown["sly table"] = await table(lab)
    shown["sly show"] = await people_read(lab, "sly")
    await told(lab, "create_agent", name="reads", task="x", inputs=["sly"])
    lab.finish("sly", "ended")
    await lab.becomes("sly", "complete")
    await lab.becomes("reads", "working")
    desk = lab.project / ".fleet" / "desk" / (await lab.view("reads")).id
    return shown | {f"sly {path.name}": path.read_text() for path in desk.glob("*.md")}


async def table(lab: Lab) -> str:
    """The cells of `fleet ps`, each on a line of its own."""
    view = await lab.fleet.status(lab.call(orchestrator="watcher"), [])
    cells = [list(column.cells) for column in fleet_table(view).columns]
    return "\n".join(str(cell) for column in cells for cell in column)


def write_sly(project: Path, hostile: Callable[[], str]) -> str:
    """Give the project a persona of which everything that may be is hostile; returns its name."""
    (project / ".claude" / "agents").mkdir(parents=True)
    sly = persona_name(hostile())
    front = f"---\nname: {yaml_text(sly)}\ndescription: {yaml_text(hostile())}\ntools: Read\n---\nprompt\n"
    (project / ".claude" / "agents" / f"{file_name(hostile())}.md").write_text(front)
    return sly


async def renderings(lab: Lab, hostile: Callable[[], str]) -> dict[str, str]:
    """Let agents say hostile things wherever they can, and return every text that anybody reads about them."""
    sly = write_sly(lab.project, hostile)
    (lab.project / "said.txt").write_text(hostile().encode("utf-8", "replace").decode())
    await tools_create(lab, "build", persona="builder", checks=["cat said.txt; false"])
    await at_work(lab, "build")
    (lab.project / file_name(hostile())).write_text("x")
    tool, summary = hostile(), hostile()
    lab.play("build", ToolStarted(call_id="1", tool=tool, summary=summary), Report(hostile()))
    await lab.becomes("build", "working")
    shown = {"status": await told(lab, "get_agent_status"), "table": await table(lab)}
    shown["named"] = await told(lab, "get_agent_status", agents=["build"])
    lab.play(
        "build", ToolEnded(call_id="1", tool=tool, ok=True, consumed=(f"/{hostile()}",), produced=(f"/x/{hostile()}",))
    )
    lab.play("build", Retrying(attempt=1, max_attempts=2, status=500, error=hostile()))
    for _ in range(3):
        lab.finish("build", hostile())
    await lab.becomes("build", "failed")
    await tools_create(lab, "asker", persona="scout")
    await lab.becomes("asker", "working")
    waits = await lab.fleet.begin_durable_wait(lab.call(), WaitRequest(agents=("asker",)), asks_person=True)
    lab.play("asker", Ask(hostile(), [hostile(), hostile()]))
    await lab.becomes("asker", "waiting")
    await tools_create(lab, "broken", persona="scout")
    lab.fail("broken", "api", hostile())
    await lab.becomes("broken", "failed")
    await tools_create(lab, "next", persona="planner", inputs=["broken", "build"])
    await lab.becomes("next", "working")
    desk = lab.project / ".fleet" / "desk" / (await lab.view("next")).id
    shown |= {path.name: path.read_text() for path in desk.glob("*.md")}
    assert isinstance(waits, DurableWait)
    assert_forms(await lab.fleet.durable_wait(lab.call(), waits.id))
    shown["printed digest"] = printed(await lab.wait(key="printed"))
    shown["digest"] = await told(lab, "wait_for_agents", timeout_seconds=0)
    shown["waiting"] = await told(lab, "get_agent_status")
    shown["output"] = await told(lab, "get_agent_output", agent="build")
    shown["failed output"] = await told(lab, "get_agent_output", agent="broken")
    shown["registry"] = await told(lab, "list_agents")
    for name in ("build", "asker", "broken"):
        shown[f"show {name}"] = await people_read(lab, name)
        shown[f"run {name}"] = await run_shows(lab, name)
    shown["children"] = await parents_read(lab, hostile)
    shown |= await permissions(lab, hostile)
    shown |= await of_persona(lab, sly)
    shown["answer"] = await told(lab, "command_agent", agent="asker", task=hostile())
    shown["unknown agent"] = await told(lab, "get_agent_status", agents=[hostile()])
    shown["unknown persona"] = await told(lab, "create_agent", name="x", task="x", persona=hostile())
    shown["bad name"] = await told(lab, "create_agent", name=hostile(), task="x")
    shown["bad cwd"] = await told(lab, "create_agent", name="x", task="x", cwd=hostile())
    shown["bad check"] = await told(lab, "create_agent", name="x", task="x", checks=[{"exists": f"../{hostile()}"}])
    shown["removed"] = agents._deleted_line((await lab.fleet.delete(lab.call(), ["wants-bash"]))[0])
    shown["deleted"] = await told(lab, "delete_agent", agents=["build", "asker", "broken", "next"])
    for event in await lab.fleet.events(lab.call(), since="0", limit=1000):
        shown[f"event {event.cursor}"] = text = event_text(event)
        assert len(text.splitlines()) <= 1, "an event is one line, behind its time, agent and kind"
    return shown


async def tools_create(lab: Lab, name: str, **arguments: object) -> None:
    """Create an agent as an orchestrator does."""
    assert await told(lab, "create_agent", name=name, task="look", **arguments)


def assert_forms(asking: DurableWait, head: str = "asker asks:") -> None:
    """Assert that each form says who asks, on its first line."""
    assert asking.forms
    for form in asking.forms.values():
        first, *others = form.text.split("\n")
        assert first.startswith(head)
        assert all(line.startswith("| ") for line in others)


def check_renderings(texts: list[str]) -> None:
    """Play the whole scene with these texts."""
    hostile = in_turn(texts)

    async def scene(place: Path) -> dict[str, str]:
        (place / "project").mkdir()
        git(place / "project", "init", "--quiet")
        async with open_lab(place) as lab:
            return await renderings(lab, hostile)

    with tempfile.TemporaryDirectory() as folder:
        assert_fleets_own(asyncio.run(scene(Path(folder))))


SCENE = settings(
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow,),
)


@pytest.mark.requirement("mcp:results:fenced", "text:foreign:never-fleets-own", "guarantee:text:never-fleets-own")
@settings(SCENE, max_examples=2)
@given(st.lists(HOSTILE, min_size=3, max_size=8))
def test_no_rendering_shows_foreign_text_as_fleets_own(texts: list[str]) -> None:
    check_renderings(["".join(f"{MARK}{piece}" for piece in PIECES), *texts])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.requirement("text:foreign:never-fleets-own", "guarantee:text:never-fleets-own")
@settings(SCENE, max_examples=30)
@given(st.lists(HOSTILE, min_size=3, max_size=8))
def test_no_rendering_shows_foreign_text_as_fleets_own_however_often_it_is_tried(texts: list[str]) -> None:
    check_renderings(texts)
