"""The table of faults: whatever the API or the agent's program does, the turn ends typed, once, and in time.

Each row is played by the real `claude` through a real daemon. A row's bound is what the settings promise, in seconds of
the turn itself; it is a ceiling with room for a slow machine, not a measurement.

Not shown here: a proxy that resolves to another server (the program cannot tell it from a page of HTML, row `html`); a
quota message of the real service; loss of the network interface (row `refused` is the nearest); `claude` at its memory
limit (the kernel's kill is row `killed`).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import rehearsal
from orchestrator.supervision import leftovers
from tests.faults.places import Place, placed
from tests.fixtures.daemon import wait_until

SCRIPT = Path(__file__).with_name("table.yaml")
STALL, SILENCE, TOOL, STOP, START = 1.0, 6.0, 9.0, 5.0, 40.0
"""seconds: the settings below, how long a session may take to stop, and to start on a machine that is busy"""
SETTINGS = {
    "FLEET_MAX_RETRIES": "2",
    "FLEET_MAX_RESUMES": "0",
    "FLEET_TURN_RETRIES": "0",
    "FLEET_STALL_SECONDS": str(STALL),
    "FLEET_SILENCE_SECONDS": str(SILENCE),
    "FLEET_TOOL_SECONDS": str(TOOL),
}
TERMINAL = ("turn.complete", "turn.failed", "turn.interrupted", "turn.cancelled")
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Scene:
    """A fleet whose model fails as each agent's name says, and the log that the model keeps."""

    place: Place
    model: rehearsal.Rehearsal

    def programs(self, name: str) -> list[psutil.Process]:
        """The agent's `claude` and whatever it has started."""
        session = self.place.ask("GET", f"/v1/agents/{name}")["session_id"]
        found = [psutil.Process(pid) for pid in sorted(leftovers.find_processes(session))]
        return [one for one in found if one.name() == "claude"]

    def events(self, name: str) -> list[dict[str, Any]]:
        return self.place.ask("GET", f"/v1/events?since=0&agent={name}")["events"]

    def view(self, name: str) -> dict[str, Any]:
        return self.place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]

    def calls(self, name: str) -> int:
        """How many calls of this agent the model saw."""
        return sum(one.get("agent") == name and not one.get("auxiliary") for one in self.model.log())


Act = Callable[[Scene, str], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault and what must come of it."""

    name: str
    status: str
    reason: str
    words: str
    bound_seconds: float
    shows: tuple[str, ...] = ()
    """kinds of events that tell of it meanwhile"""
    calls: tuple[int, int] = (1, 3)
    """least and most calls of the model: one, and its two retries"""
    act: Act | None = None
    account: dict[str, str] = field(default_factory=dict[str, str])


def in_tool(scene: Scene, name: str) -> list[psutil.Process]:
    wait_until((scene.place.project / f"{name}.began").exists, "the agent's shell")
    return scene.programs(name)


def _signal(number: int) -> Act:
    def send(scene: Scene, name: str) -> None:
        for program in in_tool(scene, name):
            os.kill(program.pid, number)

    return send


def _stop_in_thought(scene: Scene, name: str) -> None:
    wait_until(lambda: scene.calls(name) > 1, "its second call of the model")
    for program in scene.programs(name):
        os.kill(program.pid, signal.SIGSTOP)


QUIET = START + SILENCE + STOP
TRIED = START + 20.0
"""two retries of the program, with its own pauses"""
STALLED, RETRIED = ("session.stalled",), ("session.retrying",)
FAILS = [
    Row(name="auth", status="failed", reason="auth", words="401", bound_seconds=START, calls=(1, 2)),
    Row(name="forbidden", status="failed", reason="auth", words="403", bound_seconds=START),
    Row(name="no-model", status="failed", reason="not_found", words="404", bound_seconds=START),
    Row(name="broken-500", status="failed", reason="overloaded", words="500", bound_seconds=TRIED, shows=RETRIED),
    Row(name="overloaded-529", status="failed", reason="overloaded", words="529", bound_seconds=TRIED, shows=RETRIED),
    Row(name="silence", status="failed", reason="silence", words="nothing came", bound_seconds=QUIET, shows=STALLED),
    Row(name="ping-only", status="failed", reason="silence", words="nothing came", bound_seconds=QUIET, shows=STALLED),
    Row(
        name="stalls-midway",
        status="failed",
        reason="silence",
        words="nothing came",
        bound_seconds=QUIET,
        shows=STALLED,
        calls=(1, 1),
    ),
    Row(name="cut", status="failed", reason="api", words="", bound_seconds=TRIED, shows=RETRIED),
    Row(name="cut-midway", status="failed", reason="api", words="", bound_seconds=TRIED),
    Row(name="garbage", status="failed", reason="api", words="", bound_seconds=TRIED, calls=(1, 1)),
    Row(name="error-midway", status="failed", reason="overloaded", words="", bound_seconds=TRIED, calls=(1, 1)),
    Row(name="html", status="failed", reason="api", words="", bound_seconds=TRIED, calls=(1, 1)),
    Row(name="empty", status="failed", reason="api", words="", bound_seconds=TRIED, calls=(1, 1)),
    Row(
        name="refused",
        status="failed",
        reason="api",
        words="",
        bound_seconds=TRIED,
        calls=(0, 0),
        account={"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
    ),
    Row(
        name="tool-killed",
        status="failed",
        reason="process",
        words="",
        bound_seconds=START,
        act=_signal(signal.SIGKILL),
    ),
    Row(
        name="tool-ended",
        status="failed",
        reason="process",
        words="",
        bound_seconds=START,
        act=_signal(signal.SIGTERM),
    ),
    Row(
        name="tool-stopped",
        status="failed",
        reason="silence",
        words="nothing came",
        bound_seconds=START + TOOL + STOP,
        act=_signal(signal.SIGSTOP),
    ),
    Row(
        name="late-stopped",
        status="failed",
        reason="silence",
        words="nothing came",
        bound_seconds=QUIET,
        shows=STALLED,
        calls=(2, 2),
        act=_stop_in_thought,
    ),
    Row(name="passes", status="complete", reason="", words="", bound_seconds=TRIED, shows=RETRIED, calls=(3, 3)),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with placed(tmp_path_factory.mktemp("table"), SCRIPT, **SETTINGS) as (place, model):
        yield Scene(place, model)


def seconds_of(turn: dict[str, Any]) -> float:
    """How long the turn took, as its row tells."""
    begun, ended = (datetime.fromisoformat(turn[name]) for name in ("started_at", "ended_at"))
    return (ended - begun).total_seconds()


def watched(scene: Scene, name: str) -> dict[str, Any]:
    """The agent's turn once it has ended; until then no look finds a status without an age, or an old one untold."""
    limit = max(2 * STALL, TOOL) + 30

    def ended() -> bool:
        view = scene.view(name)
        assert view["age_seconds"] >= 0
        if view["status"] == "working" and not view["reason"]:
            assert view["last_event_age_seconds"] <= limit
            assert view["evidence"] is not None
        return view["status"] not in {"queued", "working"}

    wait_until(ended, f"the end of {name}", seconds=120)
    return scene.place.ask("GET", f"/v1/agents/{name}")["turns"][-1]


@pytest.mark.requirement(
    "status:faults:right-state-in-bound",
    "guarantee:status:never-older-than-stated",
    "guarantee:outcome:exactly-one-and-true",
)
@pytest.mark.parametrize("row", FAILS, ids=lambda row: row.name)
def test_each_fault_ends_in_its_state_within_its_bound(row: Row, scene: Scene) -> None:
    asker = Place(
        scene.place.daemon, scene.place.project, {**scene.place.account, **row.account}, scene.place.environment
    )
    asker.create(row.name)
    if row.act is not None:
        row.act(scene, row.name)
    turn = watched(scene, row.name)

    assert (turn["status"], turn["reason"]) == (row.status, row.reason), turn["detail"]
    assert row.words in turn["detail"]
    assert bool(turn["detail"]) is (row.status == "failed")
    assert (turn["result"] == "fine in the end") is (row.status == "complete")
    assert seconds_of(turn) <= row.bound_seconds
    kinds = [event["kind"] for event in scene.events(row.name)]
    assert [kind for kind in kinds if kind in TERMINAL] == [f"turn.{row.status}"]
    assert set(row.shows) <= set(kinds)
    least, most = row.calls
    assert least <= scene.calls(row.name) <= most, "paid for more often than was told"
    view = scene.view(row.name)
    assert (view["status"], view["reason"]) == (row.status, row.reason)
    assert view["evidence"] is None


@pytest.mark.requirement("status:retrying:shown")
def test_attempts_are_numbered_while_the_model_is_tried_again(scene: Scene) -> None:
    scene.place.create("passes-again")
    seen: set[str] = set()

    def retried() -> bool:
        view = scene.view("passes-again")
        seen.add(view["reason"])
        return view["status"] == "complete"

    wait_until(retried, "its end", seconds=60)
    told = [event["body"]["attempt"] for event in scene.events("passes-again") if event["kind"] == "session.retrying"]
    assert told[-2:] == [1, 2]
    assert any(re.match(r"retrying [12]/2( in [\dm]+s)?$", reason) for reason in seen)


def test_an_exhausted_quota_suspends_the_agent_and_says_until_when(scene: Scene) -> None:
    scene.place.create("quota-429")
    wait_until(lambda: scene.view("quota-429")["status"] == "waiting", "the pause", seconds=60)
    assert scene.view("quota-429")["reason"].startswith("quota until ")
    assert not [event for event in scene.events("quota-429") if event["kind"] in TERMINAL]
