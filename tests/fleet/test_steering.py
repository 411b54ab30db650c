"""Steering from two sides at once: each waiting text is handed in once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.domain.event import ToolStarted
from orchestrator.domain.turn import DeliveryMode
from orchestrator.providers.base import Prompt, Session, SessionSpec
from tests.fleet.scripted import ScriptedProvider, SteerableSession, eventually, open_lab

pytestmark = pytest.mark.anyio


@dataclass
class SlowProvider(ScriptedProvider):
    """A vendor whose sessions take a while to take a prompt in."""

    may_take: asyncio.Event = field(default_factory=asyncio.Event)
    offered: list[str] = field(default_factory=list[str])

    async def open(self, spec: SessionSpec) -> Session:
        """Open a session."""
        session = SlowSession(self, spec)
        self.sessions.append(session)
        return session


@dataclass(eq=False)
class SlowSession(SteerableSession):
    """Its session."""

    async def steer(self, prompt: Prompt) -> bool:
        """Take the prompt in, once the test allows it."""
        assert isinstance(self.provider, SlowProvider)
        self.provider.offered.append(prompt.text)
        await self.provider.may_take.wait()
        return await super().steer(prompt)


@pytest.mark.requirement("turn:steer:running")
async def test_a_prompt_that_is_being_handed_in_is_not_handed_in_again_at_a_tool(tmp_path: Path) -> None:
    provider = SlowProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
        steering = asyncio.create_task(lab.fleet.command(lab.call(), "a", "and this", mode=DeliveryMode.STEER))

        async def is_offered() -> bool:
            return bool(provider.offered)

        async def tool_began() -> bool:
            return "tool.started" in [event.kind for event in await lab.events("a")]

        await eventually(is_offered)
        lab.play("a", ToolStarted(call_id="toolu_1", tool="Read", summary="a file"))
        await eventually(tool_began)
        provider.may_take.set()
        await steering
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.offered == ["and this"]
