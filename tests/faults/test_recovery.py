"""Whatever dies in the middle of a turn, the turn resumes from its transcript and ends once; with real programs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine

from orchestrator import paths, rehearsal
from orchestrator.store.scheduling.admission import Admission, admit
from orchestrator.supervision import leftovers
from tests.faults.places import Place, account_of, environment_of, make_folders
from tests.fixtures.daemon import Daemon, clean_env, spawn_daemon, wait_until
from tests.fixtures.personas import define
from tests.fixtures.raw_door import end_daemon, open_process, text_of

SCRIPT = Path(__file__).with_name("recovery.yaml")
pytestmark = pytest.mark.timeout(240)
CROWD = 24
"""of 32 agents with 32 slots, so many are held in their tools until all of them are there"""
TERMINAL = ("turn.complete", "turn.failed", "turn.interrupted", "turn.cancelled")


@dataclass
class Scene:
    """A fleet whose daemon can be killed and started again, on a rehearsed model that keeps its own log."""

    root: Path
    state: Path
    project: Path
    settings: dict[str, str]
    model: rehearsal.Rehearsal
    daemon: Daemon

    @property
    def place(self) -> Place:
        """Whoever asks the daemon of now."""
        return Place(self.daemon, self.project, account_of(self.model), environment_of(self.root / "home"))

    def start(self) -> None:
        """A daemon that serves, whatever became of the last one."""
        self.daemon = spawn_daemon(self.state, clean_env(self.root / "home", self.state, **self.settings))
        wait_until(self.daemon.is_serving, "a serving daemon")

    def murder(self) -> None:
        """Kill the daemon, and start the next one."""
        self.daemon.stop(signal.SIGKILL)
        self.start()

    def define(self, persona: str, **keys: object) -> None:
        """Give the project a persona with these keys."""
        define(self.project, persona, "".join(f"{key}: {value}\n" for key, value in keys.items()))

    def calls(self, agent: str) -> list[dict[str, Any]]:
        """The calls of the model that this agent made, as the model's own log tells."""
        return [record for record in self.model.log() if record.get("agent") == agent and record.get("status") == 200]

    def events(self, agent: str) -> list[dict[str, Any]]:
        """The agent's events."""
        return self.place.ask("GET", f"/v1/events?since=0&agent={agent}")["events"]

    def kinds(self, agent: str) -> list[str]:
        """The kinds of the agent's events."""
        return [event["kind"] for event in self.events(agent)]

    def statuses(self) -> Counter[str]:
        """How many agents have which status."""
        return Counter(str(agent["status"]) for agent in self.place.ask("GET", "/v1/agents")["agents"])

    def ended_once(self, agent: str) -> None:
        """Exactly one terminal event for each of the agent's turns."""
        ends = [event["turn"] for event in self.events(agent) if event["kind"] in TERMINAL]
        assert sorted(ends) == sorted(set(ends))

    def programs(self, agent: str) -> list[int]:
        """The processes of the agent's session, its supervisor first."""
        return sorted(leftovers.find_processes(self.place.ask("GET", f"/v1/agents/{agent}")["session_id"]))

    def program(self, agent: str) -> int:
        """The agent's `claude`, once it has begun to work in its shell."""
        log = self.project / f"{agent}.log"
        wait_until(lambda: log.exists() and "two" in log.read_text(), "the second tool")
        words = {pid: psutil.Process(pid).cmdline() for pid in self.programs(agent)}
        [found] = [pid for pid, words in words.items() if Path(words[0]).name == "claude"]
        return found

    def transcripts(self) -> list[Path]:
        """The programs' own files."""
        return list(self.state.glob("agents/*/claude/projects/*/*.jsonl"))

    def transcript(self) -> str:
        """What stands in them by now."""
        return "".join(path.read_text() for path in self.transcripts())


@contextmanager
def staged(root: Path, script: Path = SCRIPT, **settings: str) -> Generator[Scene]:
    """A scene; nothing of it is left at the end."""
    _, project, state = make_folders(root)
    with rehearsal.start(script, log=root / "model.jsonl") as model:
        given = {"FLEET_REHEARSAL": "recovery", "FLEET_MAX_RETRIES": "1", "FLEET_IDLE_EXIT_SECONDS": "0", **settings}
        scene = Scene(root, state, project, given, model, Daemon(state, {}))
        scene.start()
        try:
            yield scene
        finally:
            scene.daemon.stop()
            end_daemon(state)  # a door may have been the first to start the next one


def has_gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.requirement("recovery:start:rows-reconciled", "guarantee:session:one-live-per-agent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_turn_goes_on_in_a_new_daemon_after_the_end_of_the_old_in_the_middle_of_a_tool(
    tmp_path: Path, number: int
) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("tool-one")
        old = scene.program("tool-one")
        (scene.project / "tool-one.go").touch()
        session = scene.place.ask("GET", "/v1/agents/tool-one")["session_id"]
        scene.daemon.stop(number)
        assert number == signal.SIGKILL or not leftovers.find_processes(session), "who is told to end leaves nothing"
        scene.start()
        scene.place.ask("GET", "/v1/agents")
        turn = scene.place.outcome("tool-one")

        assert (turn["status"], turn["result"]) == ("complete", "tool-one is done")
        assert has_gone(old)
        kinds = scene.kinds("tool-one")
        assert [kind for kind in kinds if kind in TERMINAL] == ["turn.complete"]
        assert kinds.count("turn.lost") == 1
        written = (scene.project / "tool-one.log").read_text().split()
        assert written.count("one") == 1
        assert turn["cost_usd"] is None
        assert turn["model_calls"] >= 3


@pytest.mark.requirement("recovery:start:rows-reconciled", "turn:steer:running")
def test_a_text_that_was_read_before_the_daemon_died_is_not_read_again(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("steer-one")
        scene.program("steer-one")
        scene.place.ask("POST", "/v1/agents/steer-one/turns", {"task": "mind the gap", "mode": "steer"})
        wait_until(lambda: "mind the gap" in scene.transcript(), "the program to have the text")
        (scene.project / "steer-one.go").touch()
        wait_until(lambda: "three" in (scene.project / "steer-one.log").read_text(), "the tool behind the text")
        wait_until(lambda: "queued_command" in scene.transcript(), "a transcript with the text as read")
        scene.murder()
        (scene.project / "steer-one.on").touch()
        scene.place.outcome("steer-one")
        turns = scene.place.ask("GET", "/v1/agents/steer-one")["turns"]

        assert turns[0]["result"] == "steer-one is done"
        assert [(one["status"], one["reason"]) for one in turns] == [("complete", ""), ("cancelled", "steered")]
        scene.ended_once("steer-one")


@pytest.mark.requirement(
    "recovery:transcript:read-first", "recovery:late:one-terminal-event", "guarantee:outcome:exactly-one-and-true"
)
def test_an_answer_that_nobody_recorded_is_recorded_without_a_call_of_the_model(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("think-one")
        wait_until(lambda: '"type":"user"' in scene.transcript(), "the prompt")
        os.kill(scene.daemon.pid, signal.SIGSTOP)
        wait_until(lambda: "end_turn" in scene.transcript(), "the answer")
        calls = len(scene.calls("think-one"))
        scene.murder()
        turn = scene.place.outcome("think-one")

        assert (turn["status"], turn["result"]) == ("complete", "thought")
        assert len(scene.calls("think-one")) == calls == 1
        assert turn["input_tokens"] > 0
        assert turn["model_calls"] == 1
        scene.ended_once("think-one")


def test_a_killed_program_is_resumed_in_the_same_daemon(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("tool-two")
        pid = scene.program("tool-two")
        (scene.project / "tool-two.go").touch()
        os.kill(pid, signal.SIGKILL)
        turn = scene.place.outcome("tool-two")

        assert (turn["status"], turn["result"]) == ("complete", "tool-two is done")
        scene.ended_once("tool-two")


def test_a_program_that_is_stopped_is_ended_for_its_silence_and_the_turn_goes_on_in_a_new_one(tmp_path: Path) -> None:
    with staged(tmp_path, FLEET_STALL_SECONDS="1", FLEET_SILENCE_SECONDS="6") as scene:
        scene.place.create("think-two")
        wait_until(lambda: '"type":"user"' in scene.transcript(), "the prompt")
        stopped = scene.programs("think-two")
        for pid in stopped[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        turn = scene.place.outcome("think-two")

        assert (turn["status"], turn["result"]) == ("complete", "thought")
        assert scene.kinds("think-two").count("turn.lost") == 1
        assert "session.stalled" in scene.kinds("think-two")
        assert all(has_gone(pid) for pid in stopped)
        scene.ended_once("think-two")


@pytest.mark.requirement("recovery:loop:fails-after-max-resumes", "turn:outcome:one-notice-per-turn")
def test_a_turn_whose_programs_all_die_fails_with_its_history_and_those_behind_it_are_held(tmp_path: Path) -> None:
    with staged(tmp_path, FLEET_MAX_RESUMES="2") as scene:
        scene.place.ask("POST", "/v1/agents", {"name": "hang-two", "task": "think for ever"})
        scene.place.ask("POST", "/v1/agents/hang-two/turns", {"task": "say a word"})
        for attempt in (1, 2, 3):
            wait_until(lambda: scene.kinds("hang-two").count("session.opened") == attempt, "its session")  # noqa: B023 - called at once
            for pid in scene.programs("hang-two"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "turn.failed" in scene.kinds("hang-two"), "the end of the turn", seconds=60)
        agent = scene.place.ask("GET", "/v1/agents/hang-two")["agent"]
        assert (agent["status"], agent["reason"]) == ("waiting", "held: 1 task after crash loop failure")
        scene.place.ask("POST", "/v1/agents/hang-two/turns", {"task": "say a word"})
        wait_until(lambda: scene.kinds("hang-two").count("turn.complete") == 2, "the turns behind it", seconds=60)
        first, second, _ = scene.place.ask("GET", "/v1/agents/hang-two")["turns"]

        assert (first["status"], first["reason"]) == ("failed", "crash_loop")
        assert first["detail"].startswith("its session died 3 times: ")
        assert "process (" in first["detail"]
        assert (second["status"], second["result"]) == ("complete", "behind the loop")
        scene.ended_once("hang-two")


@pytest.mark.requirement("recovery:loop:fails-after-max-resumes")
def test_a_daemon_that_dies_again_and_again_ends_the_turn_as_a_crash_loop(tmp_path: Path) -> None:
    with staged(tmp_path, FLEET_MAX_RESUMES="1") as scene:
        scene.place.create("hang-one")
        for attempt in (1, 2):
            wait_until(lambda: scene.kinds("hang-one").count("session.opened") == attempt, "its session")  # noqa: B023 - called at once
            scene.murder()
            scene.place.ask("GET", "/v1/agents")
        turn = scene.place.outcome("hang-one")

        assert (turn["status"], turn["reason"]) == ("failed", "crash_loop")
        assert turn["detail"].startswith("its session died 2 times: the daemon ended, last at ")
        scene.ended_once("hang-one")


def test_an_answer_reaches_its_question_though_the_daemon_dies_while_it_goes_on(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("ask-one")
        wait_until(lambda: "turn.waiting" in scene.kinds("ask-one"), "the question")
        scene.place.ask("POST", "/v1/agents/ask-one/answer", {"text": "the left one"})
        wait_until(lambda: scene.kinds("ask-one").count("session.opened") == 2, "the answer on its way")
        scene.murder()
        turn = scene.place.outcome("ask-one")

        assert turn["status"] == "complete"
        assert "the left one" in turn["result"]
        scene.ended_once("ask-one")


@pytest.mark.requirement("recovery:transcript:read-first")
def test_an_agent_whose_transcripts_are_lost_goes_on_from_the_database(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.place.create("small-one")
        assert scene.place.outcome("small-one")["result"] == "done by small-one"
        scene.daemon.stop()
        for path in scene.transcripts():
            path.unlink()
        scene.start()
        scene.place.ask("POST", "/v1/agents/small-one/turns", {"task": "and once more"})
        turn = scene.place.outcome("small-one")

        assert turn["status"] == "complete"
        sent = json.dumps(scene.calls("small-one")[-1])
        assert len(scene.calls("small-one")) == 2, sent
        first, last = (record["input_tokens"] for record in scene.calls("small-one"))
        assert last > first, "the conversation before it was sent, too"


@pytest.mark.requirement(
    "door:reconnect:through-restart", "recovery:start:rows-reconciled", "turn:outcome:one-notice-per-turn"
)
def test_an_orchestrator_that_sleeps_through_kills_of_the_daemon_is_woken_with_every_result(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        place = scene.place
        environment = {**clean_env(tmp_path / "home", scene.state, **scene.settings), **place.account}
        door = open_process((sys.executable, "-m", "orchestrator", "mcp"), environment, scene.project)
        names = [f"think-{number}" for number in range(3)]
        try:
            for name in names:
                door.tool("create_agent", {"name": name, "persona": "scout", "task": "think"})
            asked = door.post_tool("wait_for_agents", {"agents": names})
            for _ in range(2):
                wait_until(lambda: "session.opened" in scene.kinds(names[0]), "agents at work")
                scene.murder()
            text = text_of(door.answer(asked))
        finally:
            door.kill()

        assert all(name in text for name in names)
        assert text.count("thought") == len(names)
        for name in names:
            scene.ended_once(name)
            assert scene.place.outcome(name)["status"] == "complete"
            assert {str(record["task"]) for record in scene.calls(name)} == {"think"}


def claim_for_nobody(scene: Scene, name: str) -> None:
    """Let the next turn in the queue be the daemon's by its row, without any task of it that knows."""
    engine = create_engine(f"sqlite:///{paths.database_path(scene.state)}")
    with engine.begin() as connection:
        [owner] = connection.exec_driver_sql("SELECT owner FROM agent WHERE status = 'working'").scalars()
        admission = Admission(owner=owner, slots=2, payable=lambda _: True)
        [claim] = admit(connection, admission, time.time())
    engine.dispose()
    assert claim.agent_id == scene.place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]["id"]


@pytest.mark.requirement(
    "status:unknown:reconciled-within-seconds",
    "recovery:unknown:resolved-within-seconds",
    "guarantee:status:never-older-than-stated",
)
def test_a_turn_that_no_task_of_its_daemon_carries_is_found_and_done_after_all(tmp_path: Path) -> None:
    with staged(tmp_path, AGENT_MAX_CONCURRENT="1", FLEET_REST_SECONDS="0") as scene:
        scene.define("reader", tools="Read, Bash")
        scene.place.create("many-one", persona="reader")
        wait_until((scene.project / "many-one.began").exists, "the one that has the slot")
        scene.place.create("small-one", persona="reader")
        claim_for_nobody(scene, "small-one")
        wait_until(lambda: "turn.lost" in scene.kinds("small-one"), "somebody who noticed")
        (scene.project / "many.go").touch()
        turn = scene.place.outcome("small-one")

        assert (turn["status"], turn["result"]) == ("complete", "done by small-one")
        assert scene.kinds("small-one").count("turn.lost") == 1
        assert "turn_without_worker" in scene.daemon.events()
        scene.ended_once("small-one")


def most_at_once(events: Sequence[Mapping[str, Any]]) -> int:
    """The greatest number of sessions that were open in the middle of their turns at one instant."""
    steps = [(event["at"], 1) for event in events if event["kind"] == "session.opened"]
    steps += [(event["at"], -1) for event in events if event["kind"] in TERMINAL]
    return max(accumulate(step for _, step in sorted(steps)))


@pytest.mark.requirement("fault:load:many-agents-two-cores")
def test_32_agents_that_are_created_at_once_work_at_once_and_all_finish(tmp_path: Path) -> None:
    with staged(tmp_path, AGENT_MAX_CONCURRENT="32", FLEET_REST_SECONDS="0") as scene:
        scene.define("reader", tools="Read, Bash")  # many may share a checkout that none of them writes
        names = [f"many-{number}" for number in range(32)]
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(scene.place.create, name, persona="reader") for name in names]
        assert [one.result() for one in made] == [None] * len(names)
        wait_until(lambda: len(list(scene.project.glob("many-*.began"))) >= CROWD, "a crowd at work", seconds=120)
        (scene.project / "many.go").touch()
        wait_until(lambda: scene.statuses() == {"complete": len(names)}, "the end of all", seconds=120)

        assert most_at_once([event for name in names for event in scene.events(name)]) >= CROWD
        for name in names:
            scene.ended_once(name)
            assert len(scene.calls(name)) == 2
