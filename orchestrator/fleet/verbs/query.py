"""The verbs that only read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from orchestrator import paths, untrusted
from orchestrator.domain.agent import Status
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import QuestionKind, whole_text
from orchestrator.domain.ranking import fitting
from orchestrator.domain.text import ForeignText, named, one_line, quantity, quoted, raw
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.fleet.briefing import system_prompt
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.lookup import find_all
from orchestrator.fleet.projections import agent_views, turn_views
from orchestrator.fleet.projections.change_words import change_words
from orchestrator.fleet.questions.shown import in_full, in_line
from orchestrator.fleet.verbs import wait
from orchestrator.fleet.views import (
    AgentDetail,
    AgentView,
    BriefView,
    Changes,
    FileView,
    FleetView,
    OutputPage,
    PersonaView,
    Registry,
)
from orchestrator.personas import list_personas
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import outcomes
from orchestrator.store.queries import totals as sums
from orchestrator.store.schema.rows import AgentRow, ArtifactRow, QuestionRow, TurnRow
from orchestrator.store.waits import questions
from orchestrator.tool_rules import checked as checked_tools

MAX_PAGE_CHARACTERS = 6000
MAX_SHOWN_CHARACTERS = 40


async def status(
    context: FleetContext,
    call: CallContext,
    references: Sequence[str],
    *,
    everyone: bool,
    most: int | None = None,
    notes: bool,
) -> FleetView:
    """Return the agents asked for, or the oldest `most` living ones, with totals of all of them.

    `notes`: the caller is shown all of them.
    """
    project = None if everyone else call.caller.project
    view = await _status(context, call.caller, references, project, most)
    if notes:
        context.shown.note(call, view.agents, in_full if references else in_line)
    return view


async def warm_up(context: FleetContext, most: int) -> None:
    """Read one project's status: statements are then compiled, and pages read, before somebody waits for them."""
    project = await context.work.store.read(agent_queries.last_project)
    if project is not None:
        await _status(context, Caller(project=project, orchestrator="", cwd=project), (), project, most)


async def _status(
    context: FleetContext, caller: Caller, references: Sequence[str], project: str | None, most: int | None
) -> FleetView:
    now = context.work.clock()

    def fleet(connection: Connection) -> FleetView:
        named = find_all(connection, caller, references, deleted=True) if references else []
        agents = named if references else agent_queries.living(connection, project, most)
        shown = agent_views.views(agent_views.rows_of(connection, agents), caller, now, context.patience)
        names = {agent.name for agent in shown}
        blocks = [one for one in sums.blocks(connection, project) if not references or one.waiter in names]
        if references:
            shown = agent_views.with_branches(shown)
            unread = {agent.name: agent.unread for agent in shown if agent.unread and agent.own}
            totals = agent_views.totals(shown, context.settings.slots)
        else:
            unread = outcomes.unread_of(connection, project, caller.orchestrator)
            totals = agent_views.summed(sums.by_status(connection, project), context.settings.slots)
        return FleetView(
            agents=shown,
            totals=totals.model_copy(update={"tier": context.supervision.partition(":")[0]}),
            unread=unread,
            bottlenecks=agent_views.bottlenecks(blocks, now),
            cursor=str(agent_queries.last_cursor(connection)),
        )

    return await context.work.store.read(fleet)


async def view(context: FleetContext, call: CallContext, agent_id: str) -> AgentView:
    """Return the agent as it is now, and note that the caller was shown its question."""
    rows = await context.work.store.read(lambda at: agent_views.rows_of(at, agent_queries.by_ids(at, {agent_id})))
    [shown] = agent_views.views(rows, call.caller, context.work.clock(), context.patience)
    context.shown.note(call, [shown])
    return shown


async def detail(context: FleetContext, call: CallContext, agent: AgentRow) -> AgentDetail:
    """Return everything about one agent."""

    def all_of_it(
        connection: Connection,
    ) -> tuple[agent_views.Rows, Sequence[TurnRow], Sequence[ArtifactRow], Sequence[QuestionRow]]:
        return (
            agent_views.rows_of(connection, [agent]),
            agent_queries.turns(connection, agent.id),
            agent_queries.files(connection, agent.id),
            questions.of_agent(connection, agent.id),
        )

    rows, turns, files, asked = await context.work.store.read(all_of_it)
    views = [turn_views.turn_view(turn) for turn in turns]
    if turns and views[-1].changes is not None:
        views[-1] = views[-1].model_copy(update={"changes": await wait.changes_now(context, agent, turns[-1])})
    [view] = agent_views.views(rows, call.caller, context.work.clock(), context.patience)
    context.shown.note(call, [view], in_full)
    return AgentDetail(
        agent=view,
        task=ForeignText(agent.task),
        briefs=tuple(BriefView(of=brief["of"], text=ForeignText(brief["text"])) for brief in agent.briefs or ()),
        system_prompt_source=persona_of(agent).source,
        session_id=agent.session_id if agent.session_started else None,
        desk=str(system_prompt.desk_path(agent.project, agent.id)),
        turns=tuple(views),
        files=tuple(FileView(path=_shown_path(agent, file.path), kind=file.kind, turn=file.turn) for file in files),
        asked=tuple(agent_views.asked_view(one) for one in asked),
    )


async def output(
    context: FleetContext, call: CallContext, agent: AgentRow, *, turn: int | None, offset: int, limit: int
) -> OutputPage:
    """Return a page of a turn's result text, or of what the agent asks in the turn that waits for an answer.

    Raises:
        InvalidError: offset or limit is out of range; the hint says what is valid.
        NotFoundError: the turn does not exist, or none has ended.
    """
    if not 1 <= limit <= MAX_PAGE_CHARACTERS:
        raise InvalidError(f"limit is {limit}", hint=f"give 1 to {MAX_PAGE_CHARACTERS} characters")

    if (asked := _asked_page(context, call, agent, turn, (offset, limit))) is not None:
        return asked

    def turns_and_files(connection: Connection) -> tuple[Sequence[TurnRow], TurnRow, Sequence[ArtifactRow]]:
        turns = agent_queries.turns(connection, agent.id)
        chosen = _turn(agent, turns, turn)
        return turns, chosen, agent_queries.files(connection, agent.id, chosen.ordinal)

    turns, chosen, files = await context.work.store.read(turns_and_files)
    text = chosen.result
    end = _end(text, offset, limit)
    changes = await wait.changes_now(context, agent, chosen)
    project, desk = Path(agent.project), system_prompt.DESKS / agent.id / persona_of(agent).produces
    is_whole = bool(chosen.result) and chosen is _last_ended(turns)
    return OutputPage(
        agent=agent.id,
        name=agent.name,
        turn=chosen.ordinal,
        turns=agent.turns,
        status=chosen.status,
        reason=chosen.reason,
        detail=ForeignText(chosen.detail),
        text=ForeignText(text[offset:end]),
        offset=offset,
        total_characters=len(text),
        next_offset=end if end < len(text) else None,
        files_consumed=_paths(agent, files, "consumed"),
        files_produced=_paths(agent, files, "produced"),
        checks=turn_views.checks_of(chosen),
        changes=change_words(changes, chosen.changes_unknown),
        files_changed=_changed(changes),
        path=ForeignText(str(project / desk)) if is_whole and untrusted.is_file(project, str(desk)) else None,
    )


def _changed(changes: Changes | None) -> tuple[ForeignText, ...]:
    if changes is None:
        return ()
    return (*changes.files, *(changes.committed.files if changes.committed else ()))


def _end(text: str, offset: int, limit: int) -> int:
    if not 0 <= offset <= len(text):
        raise InvalidError(f"offset is {offset}; the text has {len(text)} characters", hint=f"give 0 to {len(text)}")
    return min(len(text), offset + limit)


def _asked_page(
    context: FleetContext, call: CallContext, agent: AgentRow, turn: int | None, span: tuple[int, int]
) -> OutputPage | None:
    """Return a page of all that the agent asks in this turn: its question with its options, or its tool's whole input.

    Note that the caller is shown it. None: the agent asks nothing in this turn.
    """
    asked, pending = agent_views.question_of(agent, context.work.clock()), agent.pending
    if asked is None or pending is None or turn not in {None, pending["turn"]}:
        return None
    offset, limit = span
    kind = QuestionKind(asked.kind)
    text = whole_text(kind, asked.text, pending["tool"], pending["input"])
    if asked.options:
        text = "\n".join([text, *(f"{at}. {raw(option)}" for at, option in enumerate(asked.options, 1))])
    end = _end(text, offset, limit)
    context.shown.page(call, agent.id, asked.id, (offset, end), len(text))
    return OutputPage(
        agent=agent.id,
        name=agent.name,
        turn=pending["turn"],
        turns=agent.turns,
        status=agent.status,
        reason=f"asks to use {named(asked.tool)}" if kind is QuestionKind.PERMISSION else "asks",
        text=ForeignText(text[offset:end]),
        offset=offset,
        total_characters=len(text),
        next_offset=end if end < len(text) else None,
    )


def _turn(agent: AgentRow, turns: Sequence[TurnRow], ordinal: int | None) -> TurnRow:
    if ordinal is not None:
        found = [turn for turn in turns if turn.ordinal == ordinal]
        if not found:
            raise NotFoundError(
                f"{agent.name} has no turn {one_line(str(ordinal), MAX_SHOWN_CHARACTERS)}",
                hint=f"it has turns 1 to {len(turns)}",
            )
        return found[0]
    ended = _last_ended(turns)
    if ended is None:
        why = agent_views.words_of(agent)
        raise NotFoundError(
            f"{agent.name} has no result yet: it is {agent.status}" + (f" ({why})" if why else ""),
            hint="wait_for_agents returns when it is done",
        )
    return ended


def _last_ended(turns: Sequence[TurnRow]) -> TurnRow | None:
    ended = [turn for turn in turns if turn.status in agent_queries.HEARD]
    return max(ended, key=lambda turn: (turn.ended_at or 0.0, turn.ordinal)) if ended else None


def _shown_path(agent: AgentRow, path: str) -> ForeignText:
    project = Path(agent.project)
    return ForeignText(str(Path(path).relative_to(project)) if Path(path).is_relative_to(project) else path)


def _paths(agent: AgentRow, files: Sequence[ArtifactRow], kind: str) -> tuple[ForeignText, ...]:
    return tuple(_shown_path(agent, file.path) for file in files if file.kind == kind)


async def registry(
    context: FleetContext, call: CallContext, *, status: str | None, capability: str | None, notes: bool
) -> Registry:
    """Return agents and personas that match; `notes`: the caller is shown all of the agents.

    Raises:
        InvalidError: the status is unknown.
    """
    if status is not None and status not in set(Status):
        raise InvalidError(f"status is {status[:MAX_SHOWN_CHARACTERS]!a}", hint=f"give one of {', '.join(Status)}")

    def living(connection: Connection) -> agent_views.Rows:
        return agent_views.rows_of(connection, agent_queries.living(connection, call.caller.project))

    found, mistakes = await _personas(context, call.caller)
    rows = await context.work.store.read(living)  # last: no await, and so no newer question, before the note
    personas = [
        PersonaView(
            name=persona.name,
            description=ForeignText(persona.description),
            tools=None if persona.tools is None else tuple(map(ForeignText, persona.tools)),
            model=None if persona.model is None else ForeignText(persona.model),
            produces=ForeignText(persona.produces),
            source=ForeignText(persona.source),
        )
        for persona in sorted(found, key=lambda persona: bool(persona.origin))
    ]
    agents = [
        view
        for view in agent_views.views(rows, call.caller, context.work.clock(), context.patience)
        if status in {None, view.status}
    ]
    if capability:
        personas = fitting(capability, personas, lambda one: (one.name, raw(one.description)))
        names = {persona.name for persona in personas}
        agents = [view for view in agents if view.persona in names]
    if notes:
        context.shown.note(call, agents)
    return Registry(agents=tuple(agents), personas=tuple(personas), mistakes=mistakes)


async def _personas(context: FleetContext, caller: Caller) -> tuple[list[Persona], int]:
    """Return the personas that an agent can have here, and how many files or folders have mistakes."""
    home = caller.environment.get("HOME")
    place = Path(caller.project), Path(home) if home else None
    listing = await asyncio.to_thread(list_personas, *place, paths.hidden(context.state))
    tools = context.fleet_tools.union(*(provider.tool_names() for provider in context.providers.values()))
    found: list[Persona] = []
    for persona in listing.found:
        with suppress(InvalidError):
            found.append(checked_tools(persona, tools))
    return found, len(listing.problems) + len(listing.found) - len(found)


async def work_left(context: FleetContext, agent: AgentRow) -> str:
    """Say where the changes of a deleted agent are; '' if it made none."""
    turns = await context.work.store.read(partial(agent_queries.turns, agent_id=agent.id))
    changed: list[str] = []
    for turn in turns:
        changes = await wait.changes_now(context, agent, turn)
        if changes and changes.files_changed:
            which = f"turn {turn.ordinal} " if len(turns) > 1 else ""
            changed.append(f"{which}changed {quantity(changes.files_changed, 'file')}: {changes.where}")
        elif changes is None and turn.changes_unknown:
            changed.append(f"what turn {turn.ordinal} changed is unknown: {quoted(turn.changes_unknown)}")
    return "; ".join(changed)
