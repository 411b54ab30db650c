"""Conversations outside their session: mirrored, written back elsewhere, and read for a take-over."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from orchestrator import rehearsal
from orchestrator.domain.event import SessionOutcome
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.errors import ProviderError
from orchestrator.providers.base import Prompt, Session, SessionSpec, TranscriptLine
from orchestrator.providers.claude.provider import ClaudeProvider
from orchestrator.providers.claude.transcript.files import transcript_place

from .lab import Crew, Lab, ended, prompt, run
from .test_claude import VENDOR

pytestmark = pytest.mark.anyio


@dataclass
class Kept:
    """A transcript store that a test can look into."""

    rows: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    uuids: set[str] = field(default_factory=set[str])

    async def append(self, agent_id: str, subpath: str, lines: Sequence[TranscriptLine]) -> None:
        for line in lines:
            if line.uuid is None or line.uuid not in self.uuids:
                self.rows[agent_id].append((subpath, line.body))
            self.uuids |= {line.uuid} if line.uuid else set()

    async def subpaths(self, agent_id: str) -> Sequence[str]:
        return list({subpath for subpath, _ in self.rows[agent_id]})

    async def lines(self, agent_id: str, subpath: str) -> AsyncGenerator[str]:
        for at, body in self.rows[agent_id]:
            if at == subpath:
                yield body


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
def kept() -> Kept:
    return Kept()


@pytest.fixture
def provider(lab: Lab, kept: Kept) -> ClaudeProvider:
    return ClaudeProvider(shim_dir=lab.place / "shim", max_retries=1, transcripts=kept)


@pytest.mark.requirement("recovery:session:fresh-home-other-cwd")
async def test_a_conversation_goes_on_in_a_fresh_folder_home_and_directory(
    lab: Lab, provider: ClaudeProvider, kept: Kept
) -> None:
    first = lab.spec()
    session = await lab.open(first, provider)
    assert ended(await run(session, "say one")).text == "one"
    await session.close()
    assert any('"end_turn"' in body for _, body in kept.rows[first.agent_id])

    elsewhere, home = lab.place / "else where", lab.place / "home2"
    elsewhere.mkdir()
    home.mkdir()
    moved = replace(
        first,
        cwd=elsewhere,
        folder=lab.place / "fresh",
        resume=True,
        environment=VENDOR.environment(lab.endpoint.url, home),
    )
    calls = len(lab.endpoint.log())
    end = ended(await run(await lab.open(moved, provider), "say two"))
    assert (end.outcome, end.text) == (SessionOutcome.COMPLETE, "two")
    (before, after) = (record["request_bytes"] for record in lab.endpoint.log()[calls - 1 : calls + 1])
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after > before, "what was said before was sent, too"
    assert len(list((lab.place / "fresh").glob("claude/projects/*/*.jsonl"))) == 1


async def test_a_conversation_follows_its_agent_into_another_directory(lab: Lab, provider: ClaudeProvider) -> None:
    spec = lab.spec()
    session = await lab.open(spec, provider)
    await run(session, "say one")
    await session.close()
    elsewhere = lab.place / "elsewhere"
    elsewhere.mkdir()
    end = ended(await run(await lab.open(replace(spec, cwd=elsewhere), provider), "say two"))
    assert end.text == "two"
    assert len(list(spec.folder.glob("claude/projects/*/*.jsonl"))) == 1


@pytest.mark.requirement("recovery:transcript:read-first")
async def test_the_transcript_tells_where_a_turn_stands(lab: Lab, provider: ClaudeProvider) -> None:
    crew = Crew()
    spec, sent = lab.spec(crew), prompt("say one")
    assert (await provider.recall(spec, [sent.id])).status is TranscriptStatus.ABSENT
    session = await lab.open(spec, provider)
    async for _ in session.run(sent):
        pass
    answered = await told_after(provider, spec, session, sent)
    assert (answered.status, answered.text) == (TranscriptStatus.ANSWERED, "one")
    assert answered.usage.model_calls == 1
    assert answered.usage.input_tokens > 0
    assert (await provider.recall(spec, ["00000000-0000-4000-8000-000000000000"])).status is TranscriptStatus.ABSENT

    asking, asked = await lab.open(spec, provider), prompt("ask")
    async for _ in asking.run(asked):
        pass
    deferred = await told_after(provider, spec, asking, asked)
    assert deferred.status is TranscriptStatus.DEFERRED
    assert deferred.deferred is not None
    assert deferred.deferred.name == VENDOR.ask
    assert deferred.deferred.input == {"question": "Which colour?"}


async def told_after(provider: ClaudeProvider, spec: SessionSpec, session: Session, sent: Prompt) -> TranscriptState:
    await session.close()
    return await provider.recall(spec, [sent.id])


async def test_an_early_death_leaves_a_conversation_that_begins_anew(lab: Lab, provider: ClaudeProvider) -> None:
    spec = lab.spec()
    session = await lab.open(spec, provider)
    await run(session, "say one")
    await session.close()
    (path,) = spec.folder.glob("claude/projects/*/*.jsonl")
    path.write_text(path.read_text().splitlines()[0] + "\n")
    lost = ClaudeProvider(shim_dir=lab.place / "shim", max_retries=1, transcripts=Kept())
    assert ended(await run(await lab.open(replace(spec, resume=True), lost), "say two")).text == "two"


SENT = "11111111-1111-4111-8111-111111111111"


def said(kept: Kept, spec: SessionSpec) -> Path:
    """Have the mirror know a conversation; where the program would look for it."""
    body = {"type": "user", "uuid": SENT, "message": {"role": "user", "content": "say one"}}
    kept.rows[spec.agent_id] = [("", json.dumps(body, separators=(",", ":")))]
    return spec.folder / transcript_place(spec.cwd, spec.session_id)


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("what", ["the draft", "the transcript"])
async def test_a_transcript_is_never_written_back_through_a_link(
    lab: Lab, provider: ClaudeProvider, kept: Kept, what: str
) -> None:
    spec, victim = lab.spec(), lab.place / "fleet.db"
    path = said(kept, spec)
    path.parent.mkdir(parents=True)
    victim.write_text("untouched")
    (path.with_name(f".{path.name}.new") if what == "the draft" else path).symlink_to(victim)
    assert (await provider.recall(spec, [SENT])).status is TranscriptStatus.OPEN
    assert victim.read_text() == "untouched"
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_no_folder_on_the_way_to_a_transcript_is_a_link(
    lab: Lab, provider: ClaudeProvider, kept: Kept, depth: int
) -> None:
    spec, outside = lab.spec(), lab.place / "outside"
    outside.mkdir()
    link = said(kept, spec).parents[depth]
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    for use in (provider.recall(spec, [SENT]), provider.open(spec)):
        with pytest.raises(ProviderError, match="is a link"):
            await use
    assert list(outside.iterdir()) == []


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("what", ["pipe", "link to a device", "link to another's"])
async def test_what_stands_in_place_of_a_transcript_is_not_read_and_the_mirror_replaces_it(
    lab: Lab, provider: ClaudeProvider, kept: Kept, what: str
) -> None:
    spec = lab.spec()
    path = said(kept, spec)
    path.parent.mkdir(parents=True)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        (lab.place / "theirs").write_text("")
        path.symlink_to(lab.place / "theirs")
    assert (await provider.recall(spec, [SENT])).status is TranscriptStatus.OPEN
    assert path.read_text().count(SENT) == 1


@pytest.mark.requirement("agent:self:never-own-orchestrator")
async def test_a_transcript_that_is_too_large_fails_its_own_agent_with_the_reason(
    lab: Lab, provider: ClaudeProvider, kept: Kept
) -> None:
    spec = lab.spec()
    path = said(kept, spec)
    path.parent.mkdir(parents=True)
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(ProviderError, match="has more than") as caught:
        await provider.recall(spec, [SENT])
    assert str(path) in caught.value.message
