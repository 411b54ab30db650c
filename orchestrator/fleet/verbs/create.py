"""Creates an agent: the whole request is checked before anything is written."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from dataclasses import replace
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.agent import Account, AgentSpec, NewAgent, checked_name, checked_text
from orchestrator.domain.budget import Unit, checked_caps
from orchestrator.domain.persona import Persona
from orchestrator.domain.text import named
from orchestrator.domain.tool import CallContext, Caller, Json
from orchestrator.errors import InvalidError
from orchestrator.fleet.briefing import system_prompt
from orchestrator.fleet.checks.criteria import Verify
from orchestrator.fleet.context import FleetContext, stored_key
from orchestrator.fleet.verbs.children import Parent, check_clearance, new_child, parent_of
from orchestrator.fleet.verbs.inputs import briefs_of, find_inputs
from orchestrator.fleet.verbs.trust import check_trust
from orchestrator.fleet.verbs.workplace import workplace
from orchestrator.personas import find_persona
from orchestrator.providers.base import Provider
from orchestrator.provisioning.checkouts import write_area
from orchestrator.store.agents import lifecycle
from orchestrator.store.families.children import ChildLimits
from orchestrator.store.turns.turns import Claim
from orchestrator.tool_rules import checked as checked_tools

DEFAULT_PROVIDER = "claude"
MAX_TURNS = 1000
MAX_PRIORITY = 100


def new_id(prefix: str) -> str:
    """Return a fresh id of 128 random bits; ids need no order in time, because rows carry their time."""
    return f"{prefix}_{secrets.token_hex(16)}"


async def create(
    context: FleetContext, call: CallContext, new: NewAgent, parent: Parent | None = None
) -> tuple[str, bool]:
    """Create the agent; return its id and whether the same idempotency key had created it before.

    Raises:
        InvalidError, NotFoundError, ConflictError, RefusedError: see the message; nothing was written.
    """
    spec = await checked(context, call, new, parent)
    if parent is None:
        return await context.work.commit(lifecycle.create, spec, limits_of(context))
    return await context.work.commit(lifecycle.create, spec, parent.limits(limits_of(context)), parent.run)


async def checked(context: FleetContext, call: CallContext, new: NewAgent, parent: Parent | None = None) -> AgentSpec:
    """Return the agent as it can be created, after all checks that need no transaction.

    Raises:
        InvalidError, NotFoundError, ConflictError, RefusedError: see the message.
    """
    spec = await _checked(context, call, new)
    if parent is not None:
        check_clearance(parent.persona, spec.persona)
        own = parent.agent
        account = Account(id=own.account, public=own.account_public, environment=own.environment)
        provider = spec.provider if parent.persona.orchestrates else own.provider
        spec = replace(spec, account=account, provider=provider)
    return replace(spec, caps=_caps(context, new, spec))


async def create_child(context: FleetContext, claim: Claim, call: CallContext, arguments: Json) -> str:
    """Create an agent for the agent whose run this is; returns the line for that agent.

    Raises:
        FleetError: nothing was created.
    """
    parent = await parent_of(context.work, claim)
    agent_id, existed = await create(context, parent.call(call.key), new_child(parent, arguments), parent)
    again = " (this very call created it before)" if existed else ""
    return f"{arguments['name']} {agent_id} created{again}; wait_for_children brings its result"


def check_passed(caller: Caller) -> None:
    """Check that the caller's FLEET_PASS_ENV can be kept.

    Raises:
        InvalidError: it names a variable that never passes, or nothing that is a name.
    """
    if caller.pass_problem:
        hint = "correct the variable where you start this session, then start it again; `fleet doctor` checks it"
        raise InvalidError(caller.pass_problem, hint=hint)


def limits_of(context: FleetContext) -> ChildLimits:
    """Return the limits from the settings."""
    settings = context.settings
    return ChildLimits(agents=settings.max_agents, depth=settings.max_depth, children=settings.max_children)


async def _checked(context: FleetContext, call: CallContext, new: NewAgent) -> AgentSpec:
    caller = call.caller
    _check_project(caller)
    name = checked_name(new.name)
    task = checked_text("task", new.task)
    provider = _provider(context, new.provider or DEFAULT_PROVIDER)
    persona = await _persona(context, caller, provider, new.persona)
    model = new.model or persona.model
    if model is not None:
        provider.check_model(model)
    cwd = await asyncio.to_thread(workplace, caller.project, call.roots, new.cwd)
    inputs = await find_inputs(context, caller, new.inputs)
    return AgentSpec(
        id=new_id("ag"),
        name=name,
        project=caller.project,
        orchestrator=caller.orchestrator,
        call_key=stored_key(call),
        created_at=context.work.clock(),
        persona=persona,
        provider=provider.name,
        model=model,
        task=task,
        turn_id=new_id("tn"),
        cwd=str(cwd),
        checkout=write_area(cwd),
        desks=str(system_prompt.desks_path(caller.project)),
        session_id=str(uuid.uuid4()),
        account=context.work.accounts.bring(caller),
        max_turns=_max_turns(new.max_turns, persona.max_turns),
        priority=_priority(new.priority),
        rehearsal=bool(context.settings.rehearsal),
        checks=await Verify(checks=new.checks, retries=new.check_retries).checked(),
        inputs=[agent.id for agent in inputs.agents],
        any_end=inputs.any_end,
        briefs=await briefs_of(context, caller, name, new.brief, inputs),
    )


def _check_project(caller: Caller) -> None:
    """Check that there can be agents for the caller; older Pythons raise OSError for a name that is too long."""
    try:
        found = Path(caller.project).is_dir()
    except OSError:
        found = False
    if not found:
        raise InvalidError(
            f"the project {named(caller.project)} is not a directory", hint="start your session in one that exists"
        )
    check_passed(caller)


async def _persona(context: FleetContext, caller: Caller, provider: Provider, name: str) -> Persona:
    """The persona of this name, with its rules checked."""
    home = caller.environment.get("HOME")
    place = Path(caller.project), Path(home) if home else None
    found = await asyncio.to_thread(find_persona, name, *place, paths.hidden(context.state))
    persona = checked_tools(found, provider.tool_names() | context.fleet_tools)
    check_trust(context, persona)
    return persona


def _caps(context: FleetContext, new: NewAgent, spec: AgentSpec) -> dict[Unit, float]:
    caps = checked_caps(new.caps)
    if Unit.USD in caps and not context.providers[spec.provider].has_price(spec.model):
        raise InvalidError(
            f"the price of {named(spec.model or '')} is not known, so a cap in dollars cannot be kept",
            hint="give max_tokens instead: only budgets in tokens and time can be promised for this model",
        )
    return caps


def _priority(asked: int) -> int:
    if not -MAX_PRIORITY <= asked <= MAX_PRIORITY:
        raise InvalidError(
            f"priority is {asked}", hint=f"give {-MAX_PRIORITY} to {MAX_PRIORITY}; the higher goes first"
        )
    return asked


def _provider(context: FleetContext, name: str) -> Provider:
    provider = context.providers.get(name)
    if provider is None:
        raise InvalidError(f"no provider {name[:80]!r}", hint=f"providers here: {', '.join(context.providers)}")
    return provider


def _max_turns(asked: int | None, default: int | None) -> int | None:
    if asked is not None and not 1 <= asked <= MAX_TURNS:
        raise InvalidError(f"max_turns is {asked}", hint=f"give 1 to {MAX_TURNS} model turns, or omit it")
    return asked if asked is not None else default
