"""Orchestrators under fire: each keeps agents busy through its own door, and records what it was promised."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.chaos.place import DOOR, Place
from tests.fixtures.raw_door import MODERN, RawDoor, open_process

META = "_meta"
TOOL_USE = "claudecode/toolUseId"
NUMBERS = count(1)
CHECKS = ["sleep 0.3; test -e README.md"]
"""every turn passes them, whatever is killed meanwhile"""
OPEN_TURNS = "SELECT count(*) FROM turn JOIN agent ON agent.id = agent_id WHERE ended_at IS NULL"


@dataclass(frozen=True)
class Promise:
    """A turn whose create or command call returned ok."""

    agent: str
    token: str


@dataclass
class Ledger:
    """What was promised to all orchestrators so far."""

    promises: list[Promise] = field(default_factory=list[Promise])
    refused: list[str] = field(default_factory=list[str])
    """answers that were errors: nothing was promised"""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, agent: str, token: str) -> None:
        """Take a promise down."""
        with self.lock:
            self.promises.append(Promise(agent, token))

    def of(self, agents: list[str]) -> list[Promise]:
        """What was promised about these agents."""
        with self.lock:
            return [promise for promise in self.promises if promise.agent in agents]


class Orchestrator(threading.Thread):
    """Creates agents, gives them turns, sleeps until they are done, deletes them; a new door whenever one dies."""

    def __init__(self, place: Place, ledger: Ledger, number: int, persona: str) -> None:
        super().__init__(name=f"orchestrator {number}", daemon=True)
        self.place = place
        self.ledger = ledger
        self.number = number
        self.persona = persona
        self.over = threading.Event()
        self.door: RawDoor | None = None
        self.wounds = 0

    def run(self) -> None:
        """Work until told to end; then finish what is promised."""
        while not self.over.is_set():
            self._round()
        if self.door is not None:
            self.door.kill()

    def _round(self) -> None:
        number = next(NUMBERS)
        agents = [f"{self.persona}-{number}-{part}" for part in range(2)]
        for agent in agents:
            if self._promise("create_agent", {"name": agent, "persona": self.persona, "checks": CHECKS}, agent):
                self._promise("command_agent", {"agent": agent}, agent)
        known = sorted({promise.agent for promise in self.ledger.of(agents)})
        while known and not self._are_done(known):
            self.call("wait_for_agents", {"agents": known, "timeout_seconds": 20})
        for agent in known:
            self.call("delete_agent", {"agents": [agent]})

    def _promise(self, tool: str, arguments: Mapping[str, Any], agent: str) -> bool:
        token = f"t{next(NUMBERS)}"
        answer = self.call(tool, {**arguments, "task": f"do {token}"})
        if answer is None:
            return False
        if answer.get("isError"):
            self.ledger.refused.append(json.dumps(answer)[:300])
            return False
        self.ledger.note(agent, token)
        return True

    def _are_done(self, agents: list[str]) -> bool:
        marks = ", ".join("?" * len(agents))
        query = (
            f"SELECT count(*) FROM turn JOIN agent ON agent.id = agent_id WHERE name IN ({marks}) AND ended_at IS NULL"
        )
        return self.place.rows(query, *agents)[0][0] == 0

    def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a tool call; None if the door died under it, so that nobody knows what became of it."""
        try:
            if self.door is None or self.door.process.poll() is not None:
                self._open()
            assert self.door is not None
            era = {META: {**MODERN[META], TOOL_USE: f"toolu_{self.number}_{next(NUMBERS)}"}}
            message = self.door.call("tools/call", {"name": tool, "arguments": dict(arguments)}, era=era)
        except (AssertionError, OSError, ValueError):
            self._lose_door()
            return None
        if "result" not in message:
            self.ledger.refused.append(json.dumps(message)[:300])
            return {"isError": True}
        return message["result"]

    def _open(self) -> None:
        self._lose_door()
        session = {"CLAUDE_CODE_SESSION_ID": f"orchestrator-{self.number}"}
        self.door = open_process(DOOR, {**self.place.environment, **session}, self.place.project)

    def _lose_door(self) -> None:
        door, self.door = self.door, None
        if door is not None:
            self.wounds += 1
            with suppress(OSError):
                door.kill()
