"""The contract with the real `claude` program, and what is specific to it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from sqlalchemy import select

from orchestrator import rehearsal
from orchestrator.domain.event import SessionOutcome, ToolEnded, Used
from orchestrator.errors import ProviderError
from orchestrator.fleet.sessions.processes import open_session
from orchestrator.providers.base import Session, SessionSpec
from orchestrator.providers.claude.catalog import DEFAULT_TOOLS
from orchestrator.providers.claude.program import RESUMED
from orchestrator.providers.claude.provider import ClaudeProvider
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.store.schema.tables import PROCESS
from orchestrator.supervision.hidden import hidden_place
from orchestrator.supervision.tiers import choose_tier
from tests.fixtures.daemon import wait_until
from tests.store.world import open_world

from .contract import Contract
from .lab import Crew, Lab, Vendor, ended, of, plain, run, wait_for

pytestmark = pytest.mark.anyio

MODEL = "claude-haiku-4-5"


def environment(url: str, home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "not-a-key",
    }


def make(place: Path) -> ClaudeProvider:
    tier = choose_tier("", "/usr/local/bin:/usr/bin:/bin")  # as the daemon does it: the contract holds in the best tier
    folder = place / "shim dir's"
    folder.mkdir(exist_ok=True)
    return ClaudeProvider(shim_dir=folder, max_retries=1, tier=tier, hidden=(hidden_place(folder),))


VENDOR = Vendor(
    make=make,
    script=Path(__file__).with_name("scripts") / "claude.yaml",
    environment=environment,
    model=MODEL,
    shell="Bash",
    ask="mcp__crew__ask",
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rehearsal.Rehearsal]:
    with rehearsal.start(VENDOR.script, log=tmp_path_factory.mktemp("endpoint") / "log.jsonl") as running:
        yield running


@pytest.fixture
async def lab(endpoint: rehearsal.Rehearsal, tmp_path: Path) -> AsyncIterator[Lab]:
    (tmp_path / "work").mkdir()
    lab = Lab(VENDOR, endpoint, tmp_path)
    yield lab
    await lab.close()


@pytest.fixture
async def impatient(lab: Lab) -> Session:
    """A session that is watched with short limits."""
    limits = SilenceLimits(
        stall_seconds=3, silence_seconds=6, tool_seconds=40
    )  # a busy machine's program is slow, not silent
    return await lab.open(lab.spec(), ClaudeProvider(shim_dir=lab.place / "shim", max_retries=1, limits=limits))


class TestClaude(Contract):
    """Every behaviour of the contract."""


def processes(place: Path) -> list[psutil.Process]:
    """The living processes of this test's agents, detached ones too: all work below its own directory."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(place)):
                found.append(process)
    return found


def program(place: Path) -> psutil.Process:
    """The one claude program that runs."""
    found: list[psutil.Process] = []
    for process in processes(place):
        with suppress(psutil.Error):  # what a shell has just run is gone in a moment
            if process.exe().endswith("_bundled/claude"):
                found.append(process)
    (one,) = found
    return one


def sleepers(place: Path) -> int:
    """How many programs `sleep` run there."""
    found = 0
    for process in processes(place):
        with suppress(psutil.Error):
            found += process.name() == "sleep"
    return found


@pytest.mark.requirement("error:program:killed")
async def test_a_killed_program_ends_the_run_at_once_and_its_agent_goes_on(lab: Lab) -> None:
    spec = lab.spec()
    session = await lab.open(spec)
    first = ended(await run(session, "say one"))
    running = asyncio.create_task(run(session, "shell touch began; sleep 60"))
    await wait_for((lab.work / "began").exists, "the tool has begun")
    program(lab.work).kill()
    end = ended(await running)
    assert (end.outcome, end.reason, end.text) == (SessionOutcome.FAILED, "process", "I run it.")
    assert "killed by SIGKILL" in end.detail
    assert (end.cost_usd, end.session_cost_usd) == (None, first.session_cost_usd)
    await wait_for(lambda: not processes(lab.work), "nothing is left")
    dead = ended(await run(session, "say are you there"))
    assert (dead.outcome, dead.reason) == (SessionOutcome.FAILED, "process")
    again = await lab.open(replace(spec, resume=True, session_cost_usd=end.session_cost_usd))
    later = ended(await run(again, "say back again"))
    assert later.text == "back again"
    assert first.cost_usd is not None
    assert later.cost_usd is not None
    assert later.cost_usd >= first.cost_usd


@pytest.mark.requirement("error:program:missing")
async def test_a_program_that_cannot_start_says_why(lab: Lab) -> None:
    broken = lab.place / "broken claude"
    broken.write_text("#!/bin/sh\necho 'libfoo.so.1: cannot open shared object' >&2\nexit 7\n")
    broken.chmod(0o700)
    with pytest.raises(ProviderError, match=r"cannot open shared object") as failure:
        await lab.open(lab.spec(), ClaudeProvider(shim_dir=lab.place / "shim", cli=broken))
    assert failure.value.hint
    broken.chmod(0o600)
    with pytest.raises(ProviderError, match=r"cannot run .*broken claude"):
        await lab.open(lab.spec(), ClaudeProvider(shim_dir=lab.place / "shim", cli=broken))
    with pytest.raises(ProviderError, match=r"does not exist: .*nowhere"):
        await lab.open(lab.spec(), ClaudeProvider(shim_dir=lab.place / "shim", cli=lab.place / "nowhere"))


async def test_an_unknown_conversation_cannot_be_resumed(lab: Lab) -> None:
    with pytest.raises(ProviderError, match="No conversation found"):
        await lab.open(lab.spec(resume=True))


@pytest.mark.requirement("question:ask:closes-process")
@pytest.mark.requirement("question:answer:no-foreign-request")
async def test_after_an_answer_the_model_is_not_told_to_continue_from_where_it_left_off(lab: Lab) -> None:
    crew = Crew()
    spec = lab.spec(crew)
    session = await lab.open(spec)
    asked = ended(await run(session, "ask")).deferred
    assert asked is not None
    await session.close()
    crew.answers[asked.id] = "blue"
    assert ended(await run(await lab.open(replace(spec, resume=True)), None)).text
    [transcript] = spec.folder.rglob(f"{spec.session_id}.jsonl")
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    said = [line["message"]["content"] for line in lines if line.get("type") == "user"]
    assert said[-1] == RESUMED
    assert not any("left off" in str(one) for one in said)


async def test_an_answer_survives_the_death_of_the_program_that_asked(lab: Lab) -> None:
    crew = Crew()
    spec = lab.spec(crew)
    session = await lab.open(spec)
    first = ended(await run(session, "work and ask"))
    assert first.outcome is SessionOutcome.DEFERRED
    assert first.deferred is not None
    program(lab.work).kill()
    await session.close()
    crew.answers[first.deferred.id] = "blue"
    second = ended(await run(await lab.open(replace(spec, resume=True)), None))
    assert second.outcome is SessionOutcome.COMPLETE
    assert second.text.startswith("answer: blue")
    assert second.text.endswith("lost: False")
    assert (lab.work / "ran.txt").read_text() == "ran\nran\n"


async def test_a_conversation_that_stands_in_the_folder_is_resumed_though_nobody_said_so(lab: Lab) -> None:
    spec = lab.spec()
    session = await lab.open(spec)
    await run(session, "shell echo the moon is 42")
    await session.close()
    assert ended(await run(await lab.open(spec), "recall")).text.startswith("the moon is 42")


async def test_nothing_to_continue_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.providers.claude.session.CONTINUE_SECONDS", 2.0)
    spec = lab.spec()
    session = await lab.open(spec)
    end = ended(await run(session, None))
    assert (end.outcome, end.reason) == (SessionOutcome.FAILED, "process")
    assert "new session" in end.detail
    await run(session, "say hello")
    await session.close()
    end = ended(await run(await lab.open(replace(spec, resume=True)), None))
    assert "nothing to continue" in end.detail


async def test_a_process_that_detaches_itself_is_gone_when_the_session_closes(lab: Lab) -> None:
    session = await lab.open(lab.spec())
    command = "nohup setsid sleep 300 > /dev/null 2>&1 & (setsid sh -c 'sleep 301 & sleep 302' &) ; echo left"
    assert "left" in ended(await run(session, f"shell {command}")).text
    await wait_for(lambda: sleepers(lab.work) == 3, "all three are left behind")
    await session.close()
    assert not processes(lab.work)


async def test_a_session_closes_in_the_middle_of_a_tool_and_twice(lab: Lab) -> None:
    session = await lab.open(lab.spec())
    running = asyncio.create_task(run(session, "shell touch began; sleep 60"))
    await wait_for((lab.work / "began").exists, "the tool has begun")
    running.cancel()
    await asyncio.wait({running})
    await session.close()
    await session.close()
    assert not processes(lab.work)
    assert ended(await run(session, "say hello")).reason == "process"


async def test_an_opening_that_is_given_up_before_its_pipes_are_known_leaves_no_process(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = lab.place / "slow claude"
    slow.write_text("#!/bin/sh\nsleep 300 &\nwait\n")
    slow.chmod(0o700)
    start_process: Any = subprocess.Popen

    def give_up(*arguments: Any, **options: Any) -> Any:
        process = start_process(*arguments, **options)
        wait_until(lambda: sleepers(lab.work), "the program has a child")
        opening.cancel()
        return process

    provider = ClaudeProvider(shim_dir=lab.place / "shim", cli=slow)
    monkeypatch.setattr(subprocess, "Popen", give_up)
    opening = asyncio.create_task(lab.open(lab.spec(), provider))
    await asyncio.wait({opening}, timeout=30)
    assert opening.cancelled()
    assert not processes(lab.work)


async def test_an_opening_that_is_given_up_leaves_no_process(lab: Lab) -> None:
    opening = asyncio.create_task(lab.open(lab.spec()))
    await wait_for(lambda: processes(lab.work), "the program was started")
    opening.cancel()
    await asyncio.wait({opening})
    assert opening.cancelled()
    assert not processes(lab.work)


class GivenUp(ClaudeProvider):
    """Opens a session whose opener is cancelled at the moment when it is open."""

    async def open(self, spec: SessionSpec) -> Session:
        """The session."""
        session = await super().open(spec)
        opener = asyncio.current_task()
        assert opener is not None
        opener.cancel()
        return session


@pytest.mark.requirement("process:spawn:given-up")
async def test_a_session_that_is_given_up_once_it_is_open_leaves_no_process(lab: Lab) -> None:
    async with open_world(lab.place / "fleet.db") as world:
        claim = await world.start()
        provider = GivenUp(shim_dir=lab.place / "shim")
        opening = asyncio.create_task(open_session(world.store, provider, lab.spec(), claim, "C"))
        await asyncio.wait({opening}, timeout=30)
        assert opening.cancelled()
        assert not processes(lab.work)
        assert [row.ended_at is not None for row in await world.rows(select(PROCESS))] == [True]


async def test_a_stopped_program_is_noticed_and_ended(
    lab: Lab, impatient: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.providers.claude.session.STOP_SECONDS", 1.0)
    program(lab.work).suspend()
    end = ended(await run(impatient, "say hello"))
    assert (end.outcome, end.reason) == (SessionOutcome.FAILED, "silence")
    assert not processes(lab.work)


@pytest.mark.requirement("demo:account:login-file")
async def test_a_login_in_a_file_reaches_the_model_though_the_agent_has_its_own_configuration(lab: Lab) -> None:
    secret = "planted-access-token"
    login = {
        "claudeAiOauth": {
            "accessToken": secret,
            "refreshToken": "planted-refresh-token",
            "expiresAt": 4_102_444_800_000,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
    }
    (lab.place / ".claude").mkdir()
    (lab.place / ".claude" / ".credentials.json").write_text(json.dumps(login))
    spec = lab.spec()
    session = await lab.open(replace(spec, environment=plain(spec.environment)))
    assert ended(await run(session, "say hello")).text == "hello"
    assert credential(lab) == ("bearer", fingerprint(secret))
    assert (spec.folder / "claude").stat().st_mode & 0o777 == 0o700


async def test_a_login_in_the_users_own_configuration_directory_is_found(lab: Lab) -> None:
    login = {
        "claudeAiOauth": {"accessToken": "elsewhere", "expiresAt": 4_102_444_800_000, "scopes": ["user:inference"]}
    }
    (lab.place / "mine").mkdir()
    (lab.place / "mine" / ".credentials.json").write_text(json.dumps(login))
    spec = lab.spec()
    session = await lab.open(
        replace(spec, environment=plain(spec.environment, CLAUDE_CONFIG_DIR=str(lab.place / "mine")))
    )
    assert ended(await run(session, "say hello")).text == "hello"
    assert credential(lab) == ("bearer", fingerprint("elsewhere"))


@pytest.mark.requirement("demo:account:token-variable")
async def test_a_token_in_the_environment_reaches_the_model(lab: Lab) -> None:
    spec = lab.spec()
    environment = plain(spec.environment, CLAUDE_CODE_OAUTH_TOKEN="a-token-of-its-own")
    session = await lab.open(replace(spec, environment=environment))
    assert ended(await run(session, "say hello")).text == "hello"
    assert credential(lab) == ("bearer", fingerprint("a-token-of-its-own"))


async def test_no_login_at_all_ends_as_such(lab: Lab) -> None:
    spec = lab.spec()
    session = await lab.open(replace(spec, environment=plain(spec.environment)))
    end = ended(await run(session, "say hello"))
    assert (end.outcome, end.reason) == (SessionOutcome.FAILED, "auth")


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_the_price_of_an_unknown_model_is_unknown(lab: Lab) -> None:
    end = ended(await run(await lab.open(lab.spec(model="claude-zork-9")), "say hello"))
    assert end.outcome is SessionOutcome.COMPLETE
    assert end.cost_usd is None
    assert end.usage.context_window_tokens is None


async def test_a_sub_agent_counts_and_does_not_wait(lab: Lab) -> None:
    crew = Crew()
    spec = lab.spec(crew, tools=("Agent",))
    events = await run(await lab.open(spec), "delegate")
    end = ended(events)
    assert end.outcome is SessionOutcome.COMPLETE
    assert "a sub-agent cannot wait" in end.text
    assert [(call.name, call.in_subagent) for call in crew.asked] == [("Agent", False), (VENDOR.ask, True)]
    assert [call.tool for call in of(ToolEnded, events)] == [VENDOR.ask, "Agent"]
    calls = [record for record in lab.endpoint.log() if record["session"] == spec.session_id]
    assert len(calls) == 4
    assert end.usage.input_tokens == sum(int(str(record["input_tokens"])) for record in calls)
    assert of(Used, events)[-1].usage.context_tokens == end.usage.context_tokens


@pytest.mark.requirement("persona:tools:exactly-its-own")
async def test_an_agent_is_known_to_the_rehearsal_and_offered_only_its_tools(lab: Lab) -> None:
    spec = lab.spec(tools=("Read", "TodoWrite"))
    headers = {"ANTHROPIC_CUSTOM_HEADERS": "x-team: blue\nX-Fleet-Agent: somebody else"}
    await run(await lab.open(replace(spec, environment={**spec.environment, **headers})), "say hello")
    record = lab.endpoint.log()[-1]
    assert (record["agent"], record["persona"]) == ("worker", "builder")
    assert record["tools"] == ["Read", "mcp__crew__ask", "mcp__crew__note"]


async def test_a_system_prompt_may_be_longer_than_an_argument(lab: Lab) -> None:
    spec = lab.spec(system_prompt="rule \0 \ud800 \N{TANGERINE}\n" * 30_000)
    assert ended(await run(await lab.open(spec), "say hello")).text == "hello"
    assert int(str(lab.endpoint.log()[-1]["request_bytes"])) > 300_000


async def test_every_tool_that_is_offered_by_default_exists(lab: Lab) -> None:
    await run(await lab.open(replace(lab.spec(), tools=None, crew=())), "say hello")
    assert set(cast("list[str]", lab.endpoint.log()[-1]["tools"])) == set(DEFAULT_TOOLS)


def test_models_are_aliases_or_ids_of_every_cloud() -> None:
    provider = ClaudeProvider(shim_dir=Path("unused"))
    for model in (
        "opus",
        "sonnet[1m]",
        "claude-opus-4-7",
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5@20250929",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
    ):
        provider.check_model(model)


def test_the_daemon_can_name_the_provider_without_loading_its_sdk() -> None:
    code = "import sys, orchestrator.providers.claude; print({'claude_agent_sdk', 'mcp', 'anyio'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def credential(lab: Lab) -> tuple[object, object]:
    """Kind and fingerprint of what the last call of the model carried."""
    record = lab.endpoint.log()[-1]
    return record["credential"], record["credential_hash"]


def fingerprint(secret: str) -> str:
    """The form in which the endpoint logs a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("name", ["system-prompt.md", ".system-prompt.md.new"])
async def test_a_link_in_an_agents_own_folder_leads_fleet_nowhere(lab: Lab, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    spec = lab.spec()
    spec.folder.mkdir()
    (spec.folder / name).symlink_to(victim)
    assert ended(await run(await lab.open(spec), "say hello")).text == "hello"
    assert victim.read_text() == "untouched"
