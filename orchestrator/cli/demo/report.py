"""The demo's report, as JSON and as text; `demo.py` has judged before whether it succeeded."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.demo.sandbox import Stage, TestRun, git
from orchestrator.cli.render import output
from orchestrator.domain.duration import format_age
from orchestrator.domain.text import clean, one_line, raw
from orchestrator.domain.usage import shown_cost, shown_tokens

if TYPE_CHECKING:
    from orchestrator.cli.demo.playback import Performed
    from orchestrator.fleet.views import AgentDetail

_DIFF_LINES = 40
_STAT = re.compile(r"(\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?")


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What the run changed in the working copy, according to git."""

    files: tuple[str, ...]
    insertions: int
    deletions: int
    stat: str
    diff: str


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Everything that the report is built from."""

    stage: Stage
    rehearsal: str
    before: TestRun
    after: TestRun
    changed: Changed
    performed: Performed
    agents: tuple[AgentDetail, ...]
    problems: tuple[str, ...]


def changes_in(repository: Path) -> Changed:
    """Return the difference to the first commit, including new files but not Fleet's own folder."""
    git(repository, "add", "--all", "--intent-to-add", "--", ".", ":(exclude).fleet")
    first = git(repository, "rev-list", "--max-parents=0", "HEAD").split()[-1]
    against = (first, "--", ".", ":(exclude).fleet")
    stat = git(repository, "diff", "--stat=100", *against)
    found = _STAT.search(stat)
    counts = [int(group or 0) for group in found.groups()] if found else [0, 0, 0]
    names = git(repository, "diff", "--name-only", "-z", *against).split("\0")
    return Changed(
        files=tuple(name for name in names if name),
        insertions=counts[1],
        deletions=counts[2],
        stat=stat.rstrip(),
        diff=git(repository, "diff", "--no-color", *against),
    )


def document(finding: DemoResult) -> dict[str, object]:
    """Return the report as a JSON document."""
    stage, said = finding.stage, finding.performed.transcript
    path = finding.performed.file
    return {
        "ok": not finding.problems,
        "problems": list(finding.problems),
        "rehearsal": finding.rehearsal or None,
        "seconds": round(finding.performed.seconds, 2),
        "repository": str(stage.repository),
        "state": str(stage.state),
        "tests": {"before": asdict(finding.before), "after": asdict(finding.after)},
        "changes": asdict(finding.changed),
        "agents": [_agent(detail) for detail in finding.agents],
        "orchestrator": {
            "session_id": said.session_id,
            "model_turns": len(said.messages),
            "fleet_calls": len([name for name in said.calls.values() if "fleet" in name]),
            "call_tokens": said.call_bytes // 4,
            "result_tokens": said.result_bytes // 4,
            "usage": said.usage,
            "cost_usd": said.cost_usd,
            "transcript": str(path) if path else None,
            "answer": str(said.result.get("result", "")),
        },
        "next": list(next_commands(finding)),
    }


def _agent(detail: AgentDetail) -> dict[str, object]:
    agent = detail.agent
    last = detail.turns[-1] if detail.turns else None
    return {
        "id": agent.id,
        "name": agent.name,
        "persona": agent.persona,
        "model": agent.model,
        "status": agent.status,
        "last_turn": last.status if last else None,
        "reason": (raw(last.detail) or last.reason) if last else agent.reason,
        "turns": len(detail.turns),
        "seconds": agent.elapsed_seconds,
        "tool_calls": agent.tool_calls,
        "tokens": agent.tokens,
        "context_tokens": agent.context_tokens,
        "cost_usd": agent.cost_usd,
        "rehearsal": agent.rehearsal,
        "files_consumed": sum(file.kind == "consumed" for file in detail.files),
        "files_produced": sum(file.kind == "produced" for file in detail.files),
    }


def next_commands(finding: DemoResult) -> tuple[str, ...]:
    """Return commands that show more of this run; deleted agents can still be read."""
    repository, state = shlex.quote(str(finding.stage.repository)), shlex.quote(str(finding.stage.state))
    prefix = f"cd {repository} && FLEET_STATE={state} {own_program()}"
    last = finding.agents[-1].agent.name if finding.agents else "AGENT"
    commands = (f"{prefix} show {last}", f"{prefix} output {last}", f"{prefix} logs {last}", f"{prefix} ps")
    return (*commands, f"git -C {repository} diff")


def own_program() -> str:
    """Return how the user's shell calls this program: `fleet` if PATH finds this one, else its path."""
    beside = Path(sysconfig.get_path("scripts")) / "fleet"
    found = shutil.which("fleet")
    if found is not None and (not beside.is_file() or Path(found).resolve() == beside.resolve()):
        return "fleet"
    return shlex.quote(str(beside)) if beside.is_file() else f"{shlex.quote(sys.executable)} -m orchestrator"


def print_report(finding: DemoResult, diff_lines: int = _DIFF_LINES) -> None:
    """Print the report as text."""
    report = document(finding)
    print("\n== changes")
    print(finding.changed.stat or "nothing was changed")
    shown = finding.changed.diff.splitlines()
    print("\n".join(_painted(shown[:diff_lines])))
    if len(shown) > diff_lines:
        print(f"… {len(shown) - diff_lines} more lines: git -C {finding.stage.repository} diff")
    print("\n== tests")
    for when, run in (("before", finding.before), ("after", finding.after)):
        print(f"{when:<7} {'passed' if run.passed else 'FAILED'}  {run.command}: {one_line(run.summary)}")
    print(f"\n== agents{' (rehearsal: a script played the model, it cost nothing)' if finding.rehearsal else ''}")
    for text in _agent_lines(finding):
        print(text)
    print("\n== orchestrator")
    for text in _orchestrator_lines(finding, report):
        print(text)
    print("\n== next steps")
    for command in next_commands(finding):
        print(f"  {command}")
    for problem in finding.problems:
        output.say(f"fleet demo FAILED: {clean(problem)}")


def _painted(lines: list[str]) -> list[str]:
    if not output.coloured(sys.stdout):
        return [clean(text) for text in lines]
    colours = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
    return [f"{colours[text[0]]}{clean(text)}\x1b[0m" if text[:1] in colours else clean(text) for text in lines]


def _agent_lines(finding: DemoResult) -> list[str]:
    rows: list[str] = []
    total_tokens, total_cost = 0, 0.0
    unknown = False
    for detail in finding.agents:
        agent, about = detail.agent, _agent(detail)
        status = f"{about['last_turn']}" + (", deleted" if agent.status == "deleted" else "")
        cost = shown_cost(agent.cost_usd) + (" (rehearsal)" if agent.rehearsal else "")
        took = format_age(agent.elapsed_seconds)
        done = f"{_many(len(detail.turns), 'turn')}, {_many(agent.tool_calls, 'tool call')}"
        facts = f"{done}, {shown_tokens(agent.tokens)} tokens, {cost}, {took}"
        rows.append(f"{one_line(agent.name):<18} {one_line(agent.persona):<9} {status:<20} {facts}")
        total_tokens += agent.tokens
        total_cost += agent.cost_usd or 0.0
        unknown = unknown or agent.cost_usd is None
    cost = f"{shown_cost(total_cost)}{' + unknown' if unknown else ''}{' (rehearsal)' if finding.rehearsal else ''}"
    return [*rows, f"together {shown_tokens(total_tokens)} tokens, {cost}"]


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _orchestrator_lines(finding: DemoResult, report: Mapping[str, object]) -> list[str]:
    said = finding.performed.transcript
    tokens = (said.call_bytes + said.result_bytes) // 4
    usage = said.usage
    inside = f"{said.call_bytes // 4} in calls, {said.result_bytes // 4} in results"
    parts = ", ".join(f"{name} {value}" for name, value in usage.items())
    whole = f"{shown_tokens(sum(usage.values()))} tokens in all ({parts})" if usage else "unknown"
    lines = [
        f"Fleet cost it {tokens} tokens (bytes / 4): {inside}, over {len(said.messages)} model turns",
        f"its own session: {whole}",
        f"transcript: {finding.performed.file or 'none was written'}",
        f"working copy: {report['repository']}",
    ]
    answer = str(said.result.get("result", "")).strip()
    return [*lines, *(["it reports:", *(f"  {part}" for part in clean(answer).splitlines())] if answer else [])]
