"""The check of `fleet doctor` on personas: which files of this project and of the user cannot be used, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator import paths
from orchestrator.cli.doctor.result import OK, WARN, ProbeResult
from orchestrator.cli.options import here

MAX_SHOWN = 20


def personas(environment: Mapping[str, str]) -> Iterator[ProbeResult]:
    """Report how many personas there are, then each mistake and each thing that was left out."""
    from orchestrator.domain.persona import FLEET
    from orchestrator.domain.text import named_path
    from orchestrator.errors import InvalidError
    from orchestrator.personas import list_personas
    from orchestrator.providers.claude.catalog import TOOL_NAMES
    from orchestrator.server.mcp import tools
    from orchestrator.tool_rules import checked

    known = TOOL_NAMES | {f"{FLEET}__{name}" for name in tools.names()}
    home = environment.get("HOME")
    hidden: tuple[Path, ...] = ()
    with suppress(paths.StateError):  # the check of the state directory reports it
        hidden = paths.hidden(paths.state_dir(environment))
    listing = list_personas(Path(paths.project_of(here())), Path(home) if home else None, hidden)
    wrong = [(error.message, error.hint) for error in listing.problems]
    warnings, usable = list[tuple[str, str]](), 0
    for persona in listing.found:
        try:
            found = checked(persona, known)
        except InvalidError as error:
            wrong.append((error.message, error.hint))
            continue
        usable += 1
        warnings += [(f"{named_path(persona.source)}: {warning}", "") for warning in found.warnings]
    yield ProbeResult("personas", OK, f"{usable} can be used here" + (f", {len(wrong)} cannot" if wrong else ""))
    told = [*wrong, *warnings]
    for message, hint in told[:MAX_SHOWN]:
        yield ProbeResult("personas", WARN, message, hint)
    if len(told) > MAX_SHOWN:
        yield ProbeResult("personas", WARN, f"… and {len(told) - MAX_SHOWN} more", "correct those above first")
