"""Decodes the persona that is stored in an agent's row, as it was when the agent was created."""

from __future__ import annotations

from orchestrator.domain.persona import Persona
from orchestrator.domain.question import Policy
from orchestrator.store.schema.rows import AgentRow


def persona_of(agent: AgentRow) -> Persona:
    """The persona of the agent, whatever its file says now."""
    body = dict(agent.persona_body)
    tools = body.pop("tools", None)
    policy = tuple(Policy(**one) for one in body.pop("policy", ()))
    body |= {key: tuple(body.pop(key, ())) for key in ("ask", "deny", "warnings")}
    return Persona(**body, policy=policy, tools=None if tools is None else tuple(tools))
