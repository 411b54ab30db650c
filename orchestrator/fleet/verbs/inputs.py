"""What a new agent takes from other agents: their results as inputs, and the briefs of its chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.agent import MAX_BRIEF_BYTES, Brief, checked_text, input_reference, merged_briefs
from orchestrator.domain.tool import Caller
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.context import FleetContext
from orchestrator.store.schema.rows import AgentRow

MAX_INPUTS = 50
REFERENCE = "@"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The agents that were named as inputs; those in `any_end`, ids, may end in any way."""

    agents: Sequence[AgentRow]
    any_end: frozenset[str]

    @property
    def briefs(self) -> Sequence[Brief]:
        """What the chains of these agents were told."""
        return [brief for agent in self.agents for brief in _stored(agent)]


async def find_inputs(context: FleetContext, caller: Caller, references: Sequence[str]) -> Inputs:
    """Find the inputs that `NAME` and `NAME:ended` name.

    Raises:
        NotFoundError: one of them does not exist.
        InvalidError: there are too many.
    """
    if len(references) > MAX_INPUTS:
        raise InvalidError(f"{len(references)} inputs; at most {MAX_INPUTS} are allowed", hint="combine some first")
    named = [input_reference(one) for one in references]
    agents = await context.find_all(caller, [one.agent for one in named], deleted=True)
    loose = await context.find_all(caller, [one.agent for one in named if one.any_end], deleted=True)
    return Inputs(agents=agents, any_end=frozenset(agent.id for agent in loose))


async def briefs_of(context: FleetContext, caller: Caller, name: str, said: str, inputs: Inputs) -> tuple[Brief, ...]:
    """Return the briefs of a new agent: the one that is said or referred to, then those of its inputs, each once.

    Raises:
        NotFoundError, InvalidError: the agent that it refers to does not exist, or has no brief; or they are too long.
    """
    return merged_briefs([*await _said(context, caller, name, said), *inputs.briefs])


async def _said(context: FleetContext, caller: Caller, name: str, said: str) -> Sequence[Brief]:
    if not said.strip():
        return ()
    word = said.strip()
    reference = word.removeprefix(REFERENCE)
    if len(word.split()) == 1:  # a brief of one word says nothing, so it is meant as a name
        try:
            agent = await context.find(caller, reference, deleted=True)
        except (NotFoundError, ConflictError, InvalidError):
            if word.startswith(REFERENCE):
                raise
        else:
            if not agent.briefs:
                hint = f"give {name} the text itself, or name the agent that has it"
                raise InvalidError(f"{agent.name} has no brief", hint=hint)
            return _stored(agent)
    return [Brief(of=name, text=checked_text("brief", said, limit_bytes=MAX_BRIEF_BYTES))]


def _stored(agent: AgentRow) -> list[Brief]:
    return [Brief(**brief) for brief in agent.briefs or ()]
