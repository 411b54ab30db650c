"""Builds an agent's prompts: its persona, its place in the fleet, the project's instructions, and hand-off files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.domain.agent import Brief
from orchestrator.domain.check import VERDICT_LINE
from orchestrator.domain.persona import Persona
from orchestrator.domain.text import margin, named
from orchestrator.fleet.briefing.instructions import MAX_PATH_CHARACTERS, Workplace, instructions
from orchestrator.fleet.briefing.plan import briefed

DESKS = Path(".fleet") / "desk"


def desks_path(project: str) -> Path:
    """Return the folder of the project in which agents have their own folders."""
    return Path(project) / DESKS


def desk_path(project: str, agent_id: str) -> Path:
    """The agent's own folder in its project."""
    return desks_path(project) / agent_id


def system_prompt(persona: Persona, site: Workplace, *, name: str, desk: Path, briefs: Sequence[Brief] = ()) -> str:
    """The whole system prompt of an agent's session."""
    cwd = named(str(site.cwd), MAX_PATH_CHARACTERS)
    if persona.orchestrates:
        place = (
            f"You are the agent `{name}`, and nobody sees your steps: your last message is your report. Working "
            f"directory: {cwd}. Ask the person who started you with mcp__crew__ask_orchestrator, in a message of "
            "its own: it may be asleep, too."
        ) + briefed(persona)
        return "\n\n".join([persona.prompt, "# Your place\n" + place, *map(_brief, briefs), *instructions(site)])
    place = (
        f"You are the agent `{name}` ({named(persona.name)}) in Fleet, a program that runs agents side by side for an "
        "orchestrator. "
        f"Working directory: {cwd}. Nobody sees your steps: your last message is your result, and it is handed on "
        f"as `{persona.produces}`; make it complete and self-contained. If you cannot go on without a decision, use "
        "mcp__crew__ask_orchestrator; on long work use mcp__crew__report_progress now and then."
    )
    if persona.may_change:
        place += f" Your own folder for scratch files: {desk}."
    place += briefed(persona)
    if persona.verdict:
        place += (
            f" The last line of your result must be {VERDICT_LINE}, alone on its line: agents that wait for your pass "
            "start only then."
        )
    return "\n\n".join([persona.prompt, "# Your place\n" + place, *map(_brief, briefs), *instructions(site)])


def _brief(brief: Brief) -> str:
    return (
        "# Brief\nWhat your orchestrator tells every agent of this chain, in its words behind |. Your own part is your "
        "task.\n" + "\n".join(margin(brief.text))
    )


def with_files(task: str, files: Sequence[Path]) -> str:
    """The task, with the hand-off files named below it."""
    if not files:
        return task
    names = "\n".join(f"- {named(str(path), MAX_PATH_CHARACTERS)}" for path in files)
    return f"{task}\n\nHanded to you by other agents (read these first):\n{names}"
