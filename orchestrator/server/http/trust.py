"""Endpoints for trust in persona files that may do more than Fleet's own persona of their name."""

from __future__ import annotations

from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import NoBody, NoQuery, TrustBody, TrustedPersonas


async def get_trusted(asked: ApiRequest[NoBody, NoQuery]) -> TrustedPersonas:
    """List the trusted persona files."""
    return TrustedPersonas(personas=asked.fleet.trusted())


async def set_trust(asked: ApiRequest[TrustBody, NoQuery]) -> TrustedPersonas:
    """Trust the file of a persona as it is now, or no longer trust it."""
    if asked.body.revoke:
        return TrustedPersonas(personas=asked.fleet.revoke_trust(asked.body.persona))
    return TrustedPersonas(personas=(await asked.fleet.trust(asked.call, asked.body.persona),))


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/v1/trust", get_trusted, NoBody, NoQuery, TrustedPersonas),
    Endpoint("POST", "/v1/trust", set_trust, TrustBody, NoQuery, TrustedPersonas),
)
