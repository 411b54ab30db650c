"""Endpoints for agents: create, command, answer, read and delete them."""

from __future__ import annotations

from orchestrator.domain.agent import NewAgent
from orchestrator.fleet.views import AgentDetail, Created, Deleted, FleetView, Orphans, OutputPage, Receipt, Registry
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import (
    AdoptBody,
    AdoptedAgents,
    AnswerBody,
    CreateBody,
    DeletedAgents,
    NoBody,
    NoQuery,
    OutputQuery,
    RegistryQuery,
    ScopeQuery,
    StatusQuery,
    TurnBody,
)


async def get_status(asked: ApiRequest[NoBody, StatusQuery]) -> FleetView:
    """List the project's agents, or only those named in the query."""
    return await asked.fleet.status(asked.call, asked.query.agent, everyone=asked.query.everyone)


async def create_agent(asked: ApiRequest[CreateBody, NoQuery]) -> Created:
    """Create an agent; a repeated idempotency key returns the agent that it created before."""
    return await asked.fleet.create(asked.call, NewAgent(**dict(asked.body)))


async def delete_agents(asked: ApiRequest[NoBody, ScopeQuery]) -> DeletedAgents:
    """Stop and delete all agents of the caller, or of the project."""
    return DeletedAgents(deleted=await asked.fleet.delete_all(asked.call, scope=asked.query.scope))


async def get_agent(asked: ApiRequest[NoBody, NoQuery]) -> AgentDetail:
    """Return everything about one agent: its task, turns and open question."""
    return await asked.fleet.detail(asked.call, asked.agent)


async def delete_agent(asked: ApiRequest[NoBody, NoQuery]) -> Deleted:
    """Stop and delete one agent; its results and changes are kept."""
    (deleted,) = await asked.fleet.delete(asked.call, (asked.agent,))
    return deleted


async def command_agent(asked: ApiRequest[TurnBody, NoQuery]) -> Receipt:
    """Give an agent its next task, or new inputs, checks or caps."""
    body = asked.body
    return await asked.fleet.command(
        asked.call,
        asked.agent,
        body.task,
        mode=body.mode,
        inputs=body.inputs,
        caps=body.caps,
        verify=body.verify,
    )


async def answer_agent(asked: ApiRequest[AnswerBody, NoQuery]) -> Receipt:
    """Answer an agent's open question."""
    return await asked.fleet.answer(asked.call, asked.agent, asked.body.text, question=asked.body.question)


async def interrupt_agent(asked: ApiRequest[NoBody, NoQuery]) -> Receipt:
    """End an agent's current turn."""
    return await asked.fleet.interrupt(asked.call, asked.agent)


async def get_output(asked: ApiRequest[NoBody, OutputQuery]) -> OutputPage:
    """Return one page of the result of a turn."""
    query = asked.query
    return await asked.fleet.output(asked.call, asked.agent, turn=query.turn, offset=query.offset, limit=query.limit)


async def get_registry(asked: ApiRequest[NoBody, RegistryQuery]) -> Registry:
    """List the agents and personas that match a status or a capability."""
    return await asked.fleet.registry(asked.call, status=asked.query.status, capability=asked.query.capability)


async def get_orphans(asked: ApiRequest[NoBody, NoQuery]) -> Orphans:
    """List the agents that can be adopted here: their session has ended, or their project no longer exists."""
    return await asked.fleet.orphans(asked.call)


async def adopt_agents(asked: ApiRequest[AdoptBody, NoQuery]) -> AdoptedAgents:
    """Give agents to another session; those of a moved project are bound to the caller's project as well."""
    body = asked.body
    adopted = await asked.fleet.adopt(asked.call, body.agents, everything=body.everything, to=body.to)
    return AdoptedAgents(adopted=adopted)


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/v1/agents", get_status, NoBody, StatusQuery, FleetView),
    Endpoint("POST", "/v1/agents", create_agent, CreateBody, NoQuery, Created, status=201),
    Endpoint("DELETE", "/v1/agents", delete_agents, NoBody, ScopeQuery, DeletedAgents),
    Endpoint("GET", "/v1/agents/{ref}", get_agent, NoBody, NoQuery, AgentDetail),
    Endpoint("DELETE", "/v1/agents/{ref}", delete_agent, NoBody, NoQuery, Deleted),
    Endpoint("POST", "/v1/agents/{ref}/turns", command_agent, TurnBody, NoQuery, Receipt),
    Endpoint("POST", "/v1/agents/{ref}/answer", answer_agent, AnswerBody, NoQuery, Receipt),
    Endpoint("POST", "/v1/agents/{ref}/interrupt", interrupt_agent, NoBody, NoQuery, Receipt),
    Endpoint("GET", "/v1/agents/{ref}/output", get_output, NoBody, OutputQuery, OutputPage),
    Endpoint("GET", "/v1/orphans", get_orphans, NoBody, NoQuery, Orphans),
    Endpoint("POST", "/v1/adoptions", adopt_agents, AdoptBody, NoQuery, AdoptedAgents),
    Endpoint("GET", "/v1/registry", get_registry, NoBody, RegistryQuery, Registry),
)
