"""Trust in persona files that replace one of Fleet's own and may do more than it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator import paths, trusted_personas
from orchestrator.domain.clearance import wider
from orchestrator.domain.persona import Persona
from orchestrator.domain.text import named, named_path, quantity
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.errors import NotFoundError, RefusedError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.views import TrustedPersona
from orchestrator.personas import find_persona, own_persona
from orchestrator.tool_rules import checked as checked_tools
from orchestrator.trusted_personas import TrustedFile

MAX_SHOWN = 6
MIN_HASH_CHARACTERS = 8


def check_trust(context: FleetContext, persona: Persona) -> None:
    """Check that the persona may do no more than Fleet's own persona of that name, unless a person trusts its file.

    Raises:
        RefusedError: it may do more; the message says what.
    """
    more = _more(persona)
    if more and persona.digest not in {one.digest for one in trusted_personas.read(context.state)}:
        raise RefusedError(
            f"persona {named(persona.name)} of {named(persona.origin)} replaces Fleet's own and may do more: "
            f"{_some(more)}",
            hint=f"a person who has read that file runs: fleet trust {named(persona.name)}; or give it another name",
        )


async def trust(context: FleetContext, call: CallContext, wanted: str) -> TrustedPersona:
    """Trust the persona's file as it is now; `wanted` is its name, or the path of its file.

    Raises:
        NotFoundError: no persona has this name or path.
    """
    persona = await _find(context, call.caller, wanted)
    if not persona.origin:
        raise RefusedError(f"persona {named(persona.name)} is Fleet's own", hint="it needs no trust")
    trusted = TrustedFile(digest=persona.digest, name=persona.name, path=persona.source, at=context.work.clock())
    kept = [one for one in trusted_personas.read(context.state) if one.digest != persona.digest]
    trusted_personas.write(context.state, [*kept, trusted])
    return _view(trusted, tuple(_more(persona)))


def trusted(context: FleetContext) -> tuple[TrustedPersona, ...]:
    """Return all trusted files, oldest first."""
    return tuple(_view(one) for one in trusted_personas.read(context.state))


def revoke(context: FleetContext, wanted: str) -> tuple[TrustedPersona, ...]:
    """No longer trust the files of this name, path or hash; returns them.

    Raises:
        NotFoundError: none is trusted.
    """
    every = trusted_personas.read(context.state)
    is_hash = len(wanted) >= MIN_HASH_CHARACTERS
    gone = [one for one in every if wanted in {one.name, one.path} or (is_hash and one.digest.startswith(wanted))]
    if not gone:
        raise NotFoundError(f"no trusted persona {wanted[:80]!r}", hint="fleet trust --list")
    trusted_personas.write(context.state, [one for one in every if one not in gone])
    return tuple(map(_view, gone))


async def _find(context: FleetContext, caller: Caller, wanted: str) -> Persona:
    """The persona of this name, or the one in this file if its name refers to that one here."""
    home = caller.environment.get("HOME")
    place = Path(caller.project), Path(home) if home else None
    name = Path(wanted).stem if wanted.endswith(".md") else wanted
    found = await asyncio.to_thread(find_persona, name, *place, paths.hidden(context.state))
    if wanted != name and (Path(caller.cwd) / wanted).resolve() != Path(found.source).resolve():
        raise NotFoundError(
            f"persona {named(name)} comes from {named_path(found.source)}, not from {named_path(wanted)}",
            hint=f"fleet trust {named(name)}",
        )
    tools = context.fleet_tools.union(*(provider.tool_names() for provider in context.providers.values()))
    return checked_tools(found, tools)


def _more(persona: Persona) -> list[str]:
    own = own_persona(persona.name) if persona.origin else None
    return [] if own is None else wider(persona, own)


def _view(one: TrustedFile, more: tuple[str, ...] = ()) -> TrustedPersona:
    return TrustedPersona(name=one.name, path=one.path, digest=one.digest, more=more)


def _some(more: list[str]) -> str:
    rest = len(more) - MAX_SHOWN
    return ", ".join(more[:MAX_SHOWN]) + (f" and {quantity(rest, 'other')}" if rest > 0 else "")
