"""One attempt at a turn: prepares what its session needs, and records how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from orchestrator import log, paths
from orchestrator.domain import clearance
from orchestrator.domain.agent import Brief
from orchestrator.domain.checkout import CheckoutDiff, CheckoutState
from orchestrator.domain.event import Ended, EventKind, SessionOutcome
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import NewQuestion
from orchestrator.domain.text import named_path, one_line, storable
from orchestrator.domain.tool import CallContext, Json, Tool, ToolCall
from orchestrator.domain.turn import TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.errors import ConflictError, FleetError, NotFoundError
from orchestrator.fleet.briefing import plan, system_prompt
from orchestrator.fleet.briefing.agent_tools import MAX_PROGRESS_CHARACTERS, AgentPort, crew_tools
from orchestrator.fleet.briefing.handoff import SourceResult, write_inputs, write_result
from orchestrator.fleet.briefing.instructions import Workplace
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.briefing.plan import last_told
from orchestrator.fleet.checks.criteria import Acceptance, acceptance_of, announced
from orchestrator.fleet.execution import author
from orchestrator.fleet.execution.delegation import Delegation
from orchestrator.fleet.execution.git_reader import git_reader
from orchestrator.fleet.execution.looks import look_after, look_before, tidy
from orchestrator.fleet.execution.pause import prompt_of, resume_id
from orchestrator.fleet.execution.runtime import Runtime
from orchestrator.fleet.execution.source_results import source_results
from orchestrator.fleet.projections.children_digest import children_digest
from orchestrator.fleet.questions import gate
from orchestrator.fleet.sessions import steering
from orchestrator.fleet.sessions.slot import AgentSlot, LiveTurn
from orchestrator.providers.base import Prompt, SessionSpec
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.store.agents import plans
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow, TurnRow
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.cancellation import unless_cancelled
from orchestrator.store.turns.events import Fact
from orchestrator.store.turns.steering import fold
from orchestrator.store.turns.turns import Claim, finish, suspend_for_answer, suspend_for_children
from orchestrator.supervision.tiers import working_tree_of

LOG = log.logger("fleet.attempt")
REHEARSAL_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
ENDINGS = {
    SessionOutcome.COMPLETE: TurnStatus.COMPLETE,
    SessionOutcome.FAILED: TurnStatus.FAILED,
    SessionOutcome.INTERRUPTED: TurnStatus.INTERRUPTED,
}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a turn, ready to start."""

    provider: str
    spec: SessionSpec
    prompt: Prompt | None
    checkout: Path | None
    before: CheckoutState | None
    unknown: str
    """why git cannot tell what this turn changes"""
    persona: Persona
    desk: Path
    answer_seconds: float | None
    """how long a question of this turn waits before its default applies; None: forever"""
    ended: Ended | None = None
    """the end of its session's run, if its transcript already contains one or a question precedes it"""
    acceptance: Acceptance = field(default_factory=Acceptance)
    told: Prompt | None = None
    """the last report to the turn: failed checks, or the result of its plan"""


async def prepare(runtime: Runtime, slot: AgentSlot, claim: Claim) -> Attempt:
    """Read the rows, write the hand-off files and inspect the checkout.

    Raises:
        FleetError: something is missing; the turn fails with this error.
    """
    work = runtime.work
    agent, turn, results = await work.store.read(partial(_rows, claim=claim))
    if turn is None:
        raise NotFoundError(f"turn {claim.turn_id} is gone")
    persona, cwd = persona_of(agent), Path(agent.cwd)
    _check_place(cwd)
    desk = system_prompt.desk_path(agent.project, agent.id)
    files = await asyncio.to_thread(write_inputs, desk, results)
    checkout = checkout_of(cwd)
    before, unknown = await look_before(runtime, slot.live, turn, persona, checkout)
    acceptance = acceptance_of(agent, turn, persona)
    text = announced(
        system_prompt.with_files(turn.prompt, [_seen_from(cwd, path) for path in files]), acceptance.checks
    )
    prompt = prompt_of(claim, prompt_id(turn.id), text)
    answers = await author.answers_of(work, persona, agent.id)
    spec = await asyncio.to_thread(_spec, runtime, slot, agent, persona, answers.variables())  # it reads files
    told = await last_told(work, claim, turn, persona, acceptance, partial(children_digest, work, agent.id))
    if claim.was_suspended and prompt is not None:
        prompt = prompt if told is None else replace(prompt, text=told.text)
        await work.store.write(plans.add_children_results, claim, prompt.id)
    return Attempt(
        provider=agent.provider,
        spec=spec,
        ended=await author.unknown_author(claim, persona, spec, answers),
        prompt=prompt,
        checkout=checkout,
        before=before,
        unknown=unknown,
        persona=persona,
        desk=desk,
        answer_seconds=persona.answer_within_seconds or runtime.settings.answer_seconds,
        acceptance=acceptance,
        told=told,
    )


def planned(claim: Claim, attempt: Attempt, ended: Ended) -> Ended:
    """Return how the run ends; with a wait if its text is a plan and not the turn's result."""
    return plan.planned(attempt.persona, resume_id(prompt_id(claim.turn_id), claim.resumes + 1), ended)


def _check_place(cwd: Path) -> None:
    """Check that the agent's directory is still the one it was given: an agent may have replaced it by a link.

    Raises:
        NotFoundError: it is gone or has been replaced.
    """
    place = named_path(cwd)
    try:
        working_tree_of(cwd)
    except OSError as error:
        hint = f"put the directory back in its place (rm {place}; mv … {place}), or delete the agent"
        raise NotFoundError(f"the agent's directory {place} is not usable: {error.strerror}", hint=hint) from error
    if not cwd.is_dir():
        raise NotFoundError(f"the agent's directory {place} is gone", hint="create it again, or delete the agent")


def _seen_from(cwd: Path, path: Path) -> Path:
    """Return the path as the agent can use it: relative if it is below the agent's directory."""
    return path.relative_to(cwd) if path.is_relative_to(cwd) else path


def _rows(connection: Connection, claim: Claim) -> tuple[AgentRow, TurnRow | None, list[SourceResult]]:
    [agent] = agent_queries.by_ids(connection, {claim.agent_id})
    results = source_results(connection, claim, persona_of(agent))
    return agent, agent_queries.turn(connection, claim.turn_id), results


def _spec(runtime: Runtime, slot: AgentSlot, agent: AgentRow, persona: Persona, more: Mapping[str, str]) -> SessionSpec:
    cwd, state = Path(agent.cwd), runtime.state
    port = replace(
        _agent_port(runtime, slot, may_create=persona.children > 0 and not persona.plans),
        git=git_reader(persona, cwd, state),
    )
    desk = _seen_from(cwd, system_prompt.desk_path(agent.project, agent.id))
    site = Workplace(project=Path(agent.project), cwd=cwd, hidden=paths.hidden(state), user=_user_folder(agent))
    briefs = [Brief(**brief) for brief in agent.briefs or ()]
    prompt = system_prompt.system_prompt(persona, site, name=agent.name, desk=desk, briefs=briefs)
    return SessionSpec(
        agent_id=agent.id,
        agent_name=agent.name,
        persona=agent.persona,
        session_id=agent.session_id,
        resume=agent.session_started,
        cwd=cwd,
        folder=state / "agents" / agent.id,
        system_prompt=prompt,
        environment={**_environment(runtime, agent), **more},
        decide=gate.gate(runtime.work, slot, persona),
        model=agent.model,
        tools=persona.offered,
        crew=crew_tools(port),
        fleet=_fleet_tools(runtime.delegation, slot, persona),
        max_turns=agent.max_turns,
        session_cost_usd=agent.session_cost_usd,
        rehearsal=agent.rehearsal,
        briefs=tuple(brief.text for brief in briefs),
    )


def _user_folder(agent: AgentRow) -> Path | None:
    """Return the folder of the instructions of the user who created the agent."""
    home = agent.environment.get("HOME")
    given = agent.account_public.get("CLAUDE_CONFIG_DIR") or (home and f"{home}/.claude")
    return Path(given) if given and Path(given).is_absolute() else None


def _fleet_tools(delegation: Delegation, slot: AgentSlot, persona: Persona) -> tuple[Tool, ...]:
    """Return the fleet's tools that the persona has; none unless it orchestrates."""
    if not persona.orchestrates:
        return ()
    return tuple(tool for tool in delegation.tools(slot) if persona.directs_with(tool.name))


def _environment(runtime: Runtime, agent: AgentRow) -> Mapping[str, str]:
    """Return all variables of the agent's processes: its creator's, its account's, and its own name in a rehearsal."""
    accounts = runtime.work.accounts
    env = {**agent.environment, **agent.account_public, **accounts.secrets(agent.account)}
    created_with = env.pop(paths.SSH_AGENT, None)
    if persona_of(agent).has_shell and (ssh_agent := accounts.ssh_agent(agent.project, created_with)):
        env[paths.SSH_AGENT] = ssh_agent
    if runtime.settings.rehearsal:
        own = [f"x-fleet-agent: {agent.name}", f"x-fleet-persona: {agent.persona}"]
        if persona_of(agent).orchestrates:
            own = own[1:]  # to a script, it is an orchestrator like any other, not a background agent
        env[REHEARSAL_HEADERS] = "\n".join([*filter(None, [env.get(REHEARSAL_HEADERS)]), *own])
    return env


def _agent_port(runtime: Runtime, slot: AgentSlot, *, may_create: bool) -> AgentPort:
    work, delegation = runtime.work, runtime.delegation

    async def progress(text: str) -> None:
        if (live := slot.live) is not None:
            line = one_line(text, MAX_PROGRESS_CHARACTERS)
            fact = Fact(kind=EventKind.PROGRESS, at=work.clock(), body={"text": line}, values={"progress": line})
            live.recorder.note(fact)
            await live.recorder.flush()

    async def answer(call_id: str | None) -> str | None:
        return await gate.answer_of(work, slot.agent_id, call_id)

    async def create(call: CallContext, arguments: Json) -> str:
        if slot.live is None:
            raise ConflictError("no turn is running", hint="end your turn")
        return await delegation.create_child(slot.live.claim, call, arguments)

    async def digest() -> str:
        return await children_digest(work, slot.agent_id)

    if not may_create:
        return AgentPort(progress=progress, answer=answer)
    return AgentPort(progress=progress, answer=answer, create=create, children=digest)


def prompt_id(turn_id: str) -> str:
    """Return the turn's id as the UUID of its prompt in the transcript."""
    digits = turn_id.partition("_")[2]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def finish_attempt(runtime: Runtime, live: LiveTurn, attempt: Attempt | None, ended: Ended) -> None:
    """Record the end of an attempt: events, the question or result, the files, and the changes in the checkout."""
    work, claim, recorder = runtime.work, live.claim, live.recorder
    usage = ended.run_usage
    try:
        await recorder.flush()
        if ended.steered:
            await work.commit(fold, claim, [steering.turn_of(prompt) for prompt in ended.steered], work.clock())
        if ended.outcome is SessionOutcome.DEFERRED and ended.deferred is not None:
            problem = await _defer(runtime, claim, attempt, ended.deferred, usage)
            if not problem:
                return
            hint = "command it again with how to split the task; its conversation is kept"
            ended = replace(
                ended, outcome=SessionOutcome.FAILED, reason=clearance.PLAN, detail=problem, hint=hint, deferred=None
            )
        changes, unknown = await _after(runtime, live, attempt)
        if attempt is not None and ended.text and not recorder.stale:
            await _keep_result(attempt, ended.text)
        end = TurnResult(
            status=ENDINGS.get(ended.outcome, TurnStatus.FAILED),
            reason=storable(ended.reason),
            detail=storable(ended.detail),
            hint=storable(ended.hint),
            result=storable(ended.text),
            changes=changes,
            changes_unknown=unknown,
        )
        now = work.clock()
        asked = _asked(attempt, ended.deferred, now) if ended.deferred else None
        await work.commit(finish, claim, end, usage, now, asked=asked)
        if attempt is not None and attempt.checkout is not None and attempt.persona.may_change:
            await tidy(work, runtime.state, attempt.checkout, attempt.before)
    except StaleOwnerError:
        LOG.info("late_end_dropped", reason=ended.reason)


async def _defer(runtime: Runtime, claim: Claim, attempt: Attempt | None, call: ToolCall, usage: RunUsage) -> str:
    """Suspend the turn in the middle of this call: for an answer, its children, or the agents that it directs.

    Returns '' or why its plan makes the turn fail.
    """
    work, now = runtime.work, runtime.work.clock()
    asked = _asked(attempt, call, now)
    if call.name == clearance.PLAN:
        return await runtime.delegation.fan_out(claim, call, asked, usage)
    if call.name == clearance.WAIT_FOR_AGENTS:
        await runtime.delegation.begin_wait(claim, call, asked, usage)
        return ""
    suspend = suspend_for_children if call.name == clearance.WAIT_FOR_CHILDREN else suspend_for_answer
    await work.commit(unless_cancelled, suspend, claim, now, asked, usage, now)
    return ""


def _asked(attempt: Attempt | None, call: ToolCall, now: float) -> NewQuestion:
    return gate.asked(call, attempt.persona if attempt else None, attempt.answer_seconds if attempt else None, now)


async def _keep_result(attempt: Attempt, text: str) -> None:
    """Write the result to the desk as well; the turn's row has it even if that fails."""
    try:
        _check_place(attempt.spec.cwd)
        await asyncio.to_thread(write_result, attempt.desk, attempt.persona.produces, text)
    except FleetError as error:
        LOG.warning("result_file_not_written", error=error.message)


async def _after(runtime: Runtime, live: LiveTurn, attempt: Attempt | None) -> tuple[CheckoutDiff | None, str]:
    if attempt is None or attempt.checkout is None or attempt.before is None:
        return None, attempt.unknown if attempt else ""
    try:
        _check_place(attempt.spec.cwd)
    except NotFoundError as error:
        return None, str(error)
    return await look_after(runtime, live, attempt.checkout, attempt.before)
