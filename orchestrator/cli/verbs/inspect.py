"""Commands that read agents: ps, show, output."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import paths
from orchestrator.cli.options import Agent, AsJson, connected, in_path
from orchestrator.cli.render import output
from orchestrator.domain.duration import format_age
from orchestrator.domain.question import line_of, lines_of
from orchestrator.domain.text import ForeignText, clean, listed, margin, named, one_line, quantity, quoted, raw
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from rich.console import Group

    from orchestrator.cli.http.client import Client
    from orchestrator.fleet.state_views import QuestionView
    from orchestrator.fleet.views import AgentDetail, FleetView, OutputPage, TurnView

_REFRESH_SECONDS = 0.5
MAX_QUESTION_CHARACTERS = 400

SCREENFUL = 600
SHOWN_FILES = 100
MAX_FILES_BYTES = 4000
"""characters of a result that `show` prints; `fleet output` prints the rest"""


def ps(
    everyone: Annotated[bool, typer.Option("--all", help="Show the agents of all projects.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the table updated until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show this project's agents, and which of them need you."""
    with connected() as client:
        if watch:
            _watch(client, everyone=everyone, as_json=as_json)
            return
        view = _fleet(client, everyone=everyone)
        moved = paths.moved_note(client.target.state)
    if moved:
        output.say(f"fleet: {output.moved_words(moved)}; fleet doctor says how to bring it back")
    if as_json:
        output.document(view.model_dump(mode="json"))
    else:
        _print_fleet(view, everyone=everyone)


def _fleet(client: Client, *, everyone: bool) -> FleetView:
    from orchestrator.fleet.views import FleetView

    return client.get(FleetView, "/v1/agents", everyone=everyone)


def _print_fleet(view: FleetView, *, everyone: bool) -> None:
    if not view.agents:
        output.say("no agents here" + ("" if everyone else "; fleet ps --all shows those of other projects"))
        return
    screen = output.console()
    with screen.capture() as captured:
        screen.print(_picture(view, everyone=everyone))
    sys.stdout.write("\n".join(text.rstrip() for text in captured.get().splitlines()) + "\n")


def _picture(view: FleetView, *, everyone: bool) -> Group:
    from rich.console import Group
    from rich.text import Text

    from orchestrator.cli.render.table import fleet_table, totals_line

    asking = [
        Text(
            f"{one.name}{_asks(one.question)} -> {output.answer_command(one.name, one.question.kind, one.question.id)}"
        )
        for one in view.agents
        if one.question is not None
    ]
    return Group(fleet_table(view, projects=everyone), *asking, Text(totals_line(view.totals), style="dim"))


def _asks(question: QuestionView) -> str:
    if question.kind == "permission":
        return f" wants to use {named(question.tool)}: {line_of(question.text)}"
    return f": {quoted(question.text, MAX_QUESTION_CHARACTERS)}"


def _watch(client: Client, *, everyone: bool, as_json: bool) -> None:
    pause = threading.Event()
    if as_json or not sys.stdout.isatty():
        seen = ""
        while not pause.wait(_REFRESH_SECONDS if seen else 0):
            view = _fleet(client, everyone=everyone)
            if as_json and view.cursor != seen:
                output.json_line(view.model_dump(mode="json"))
            elif view.cursor != seen:
                _print_fleet(view, everyone=everyone)
                sys.stdout.flush()
            seen = view.cursor
    from rich.live import Live

    with Live(console=output.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_picture(_fleet(client, everyone=everyone), everyone=everyone), refresh=True)
            pause.wait(_REFRESH_SECONDS)


def show(agent: Agent, as_json: AsJson = False) -> None:
    """Show everything about one agent.

    Its task, turns, files, changes, and its open question with the command that answers it.
    """
    from orchestrator.fleet.views import AgentDetail

    with connected() as client:
        detail = client.get(AgentDetail, f"/v1/agents/{in_path(agent)}")
    if as_json:
        output.document(detail.model_dump(mode="json"))
        return
    for text in _detail_lines(detail):
        print(text)


def _detail_lines(detail: AgentDetail) -> list[str]:
    from orchestrator.cli.render.table import context_bar, status_words
    from orchestrator.domain.usage import shown_cost, shown_tokens
    from orchestrator.fleet.projections.digest import evidence_words

    agent = detail.agent
    mark = ", rehearsal" if agent.rehearsal else ""
    fields = [
        ("agent", f"{agent.name}  {agent.id}"),
        ("status", status_words(agent)),
        ("persona", f"{named(agent.persona)} (from {named(detail.system_prompt_source)})"),
        ("model", f"{agent.provider}/{named(agent.model or '?')}"),
        ("context", context_bar(agent.context_tokens, agent.context_window_tokens)),
        (
            "spent",
            f"{shown_tokens(agent.tokens)} tokens, {shown_cost(agent.cost_usd)}{mark}, {agent.tool_calls} tool calls",
        ),
        ("works in", named(agent.cwd)),
        ("session", detail.session_id or "none yet"),
        ("desk", named(detail.desk)),
        ("inputs", ", ".join(agent.inputs)),
        ("waits for", ", ".join(agent.waits_for)),
        ("progress", quoted(agent.progress, 300) if agent.progress else ""),
        ("last tool", quoted(agent.last_tool, 300) if agent.last_tool else ""),
        ("since", evidence_words(agent.evidence) if agent.evidence else ""),
    ]
    lines = [f"{name:<10} {value}" for name, value in fields if value]
    lines += [*_question_lines(detail), *_asked_lines(detail)]
    for brief in detail.briefs:
        lines += ["", f"brief of {brief.of}", *_indented(margin(brief.text))]
    lines += ["", "task", *_indented(margin(detail.task))]
    for turn in detail.turns:
        lines += _turn_lines(turn)
    for kind in ("consumed", "produced"):
        files = [f"{named(file.path, 300)} (turn {file.turn})" for file in detail.files if file.kind == kind]
        lines += ["", f"files {kind} ({len(files)})", *(f"  {file}" for file in files)] if files else []
    return lines


def _question_lines(detail: AgentDetail) -> list[str]:
    question = detail.agent.question
    if question is None:
        return []
    is_permission = question.kind == "permission"
    head = f"{question.kind} ({format_age(question.age_seconds)} old)"
    if question.deadline_seconds is not None:
        default = quoted(question.fallback, 200)
        head += f"; unanswered in {format_age(question.deadline_seconds)} it is: {default}"
    lines = [
        "",
        head,
        *([f"  it wants to use {named(question.tool)}:"] if is_permission else []),
        *_indented(margin(lines_of(question.text) if is_permission else question.text)),
    ]
    lines += [f"  {at}. {quoted(option)}" for at, option in enumerate(question.options, 1)]
    return [*lines, f"  -> {output.answer_command(detail.agent.name, question.kind, question.id)}"]


def _asked_lines(detail: AgentDetail) -> list[str]:
    """Lines for its past questions: who answered them, and what."""
    lines = [
        f"{one.kind} in turn {one.turn}: {f'{named(one.tool)}: ' if one.kind == 'permission' else ''}{quoted(one.text)}"
        f" -> {named(one.answer) if one.answer else one.state}"
        + (f" (by {one.answered_by})" if one.answered_by else "")
        for one in detail.asked
        if one.state != "open"
    ]
    return ["", f"asked ({len(lines)})", *(f"  {text}" for text in lines)] if lines else []


def _turn_lines(turn: TurnView) -> list[str]:
    from orchestrator.cli.verbs.check_options import checked_lines
    from orchestrator.domain.usage import shown_cost, shown_tokens
    from orchestrator.fleet.projections.change_words import change_words

    tokens = turn.input_tokens + turn.output_tokens + turn.cache_read_tokens + turn.cache_write_tokens
    reason = f" ({turn.reason})" if turn.reason else ""
    spent = f"{quantity(turn.model_calls, 'model call')}, {shown_tokens(tokens)} tokens, {shown_cost(turn.cost_usd)}"
    lines = ["", f"turn {turn.turn}: {turn.status}{reason}, {spent}"]
    if turn.turn > 1:
        lines.append(f"  task: {quoted(turn.task)}")
    if turn.detail:
        lines.append(f"  why: {quoted(turn.detail, 600)}")
    if changed := change_words(turn.changes, turn.changes_unknown, max_files=SHOWN_FILES, max_bytes=MAX_FILES_BYTES):
        lines.append(f"  {changed}")
    lines += checked_lines(turn.checked)
    if turn.result:
        lines += _indented(margin(raw(turn.result)[:SCREENFUL]))
        lines += ["  […] fleet output prints it whole"] if len(turn.result) > SCREENFUL else []
    return lines


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def show_output(
    agent: Agent,
    turn: Annotated[int | None, typer.Option(help="Number of the turn, from 1 (default: the last that ended).")] = None,
    offset: Annotated[int, typer.Option(help="Start at this character.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Print at most this many characters (default: all).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the result of an agent's turn.

    The text goes to stdout unchanged, facts about it to stderr.
    """
    from orchestrator.fleet.views import OutputPage

    for name, value, least in (("--turn", turn, 1), ("--offset", offset, 0), ("--limit", limit, 1)):
        if value is not None and value < least:
            raise InvalidError(f"{name} {value} is below {least}", hint=f"use {least} or more")
    path = f"/v1/agents/{in_path(agent)}/output"
    with connected() as client:
        page = client.get(OutputPage, path, turn=turn, offset=offset, limit=limit)
        pages = [page]
        while limit is None and page.next_offset is not None:
            page = client.get(OutputPage, path, turn=page.turn, offset=page.next_offset)
            pages.append(page)
    whole = pages[0].model_copy(
        update={"text": ForeignText("".join(raw(one.text) for one in pages)), "next_offset": pages[-1].next_offset}
    )
    _print_output(whole, as_json=as_json)


def _print_output(page: OutputPage, *, as_json: bool) -> None:
    if as_json:
        output.document(page.model_dump(mode="json"))
        return
    text = clean(raw(page.text)) if sys.stdout.isatty() else raw(page.text)
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
    sys.stdout.flush()
    end = page.next_offset if page.next_offset is not None else page.total_characters
    reason = f" ({page.reason})" if page.reason else ""
    head = f"{page.name}: turn {page.turn} of {page.turns}, {page.status}{reason}"
    output.say(one_line(f"{head}; characters {page.offset}-{end} of {page.total_characters}", 300))
    if page.next_offset is not None:
        output.say(f"  -> fleet output {page.name} --turn {page.turn} --offset {page.next_offset}")
    for kind, files in (("consumed", page.files_consumed), ("produced", page.files_produced)):
        if files:
            output.say(f"files {kind}: {listed(files, 50, limit_bytes=1000)}")
    if page.changes:
        output.say(page.changes)
    if page.path:
        output.say(f"full text: {named(page.path)}")
