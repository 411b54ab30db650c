"""What the inputs of a turn hand over to it: the results of their turns that it has not been handed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.domain.check import FAILED_VERDICT
from orchestrator.domain.persona import Persona
from orchestrator.domain.turn import TurnStatus
from orchestrator.fleet.briefing.handoff import SourceResult
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.projections.change_words import change_words
from orchestrator.fleet.projections.turn_views import changes_of
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow, TurnRow
from orchestrator.store.turns.steering import STEERED, read_in
from orchestrator.store.turns.turns import Claim

ENDED = frozenset({TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED})
MAX_TURNS = 5
"""of one input that are handed over; how many earlier ones are left out is said"""


def source_results(connection: Connection, claim: Claim, persona: Persona) -> list[SourceResult]:
    """Return the results of the turn's inputs, in order.

    A persona that gives a verdict also gets the tasks of its inputs and the results that these were handed, such as the
    plan: it judges by them.
    """
    if claim.continues:
        return []
    direct = [row.source_id for row in agent_queries.inputs(connection, {claim.agent_id}) if row.turn == claim.turn]
    turns = agent_queries.outcomes(connection, direct)
    behind: Sequence[str] = _inputs_of(connection, turns) if persona.verdict else ()
    further = [source_id for source_id in dict.fromkeys(behind) if source_id not in {*direct, claim.agent_id}]
    turns |= agent_queries.outcomes(connection, further)
    sources = {row.id: row for row in agent_queries.by_ids(connection, {*direct, *further})}
    found: list[SourceResult] = []
    for one in direct:
        rows = agent_queries.turns(connection, one)
        unhanded = _unhanded(rows, turns.get(one), _last_start(connection, claim, one)) or [None]
        ended = unhanded[-MAX_TURNS:]
        told = _steered(rows) if persona.verdict else {}
        results = [
            _result(sources[one], turn, told, with_task=persona.verdict, numbered=len(ended) > 1) for turn in ended
        ]
        found += [replace(results[0], left_out=len(unhanded) - len(ended)), *results[1:]]
    return found + [_result(sources[one], turns.get(one)) for one in further]


def _last_start(connection: Connection, claim: Claim, source_id: str) -> float:
    """Return when an earlier turn of the claimed agent was handed what this source had done."""
    rows = agent_queries.inputs(connection, {claim.agent_id})
    had = {row.turn for row in rows if row.source_id == source_id and row.turn < claim.turn}
    earlier = [row for row in agent_queries.turns(connection, claim.agent_id) if row.ordinal in had] if had else []
    return max((row.started_at or 0.0 for row in earlier), default=0.0)


def _unhanded(rows: Sequence[TurnRow], last: TurnRow | None, since: float) -> list[TurnRow | None]:
    """Return the last ended turn, and before it those that ended since then: their changes are part of the work."""
    if last is None:
        return []
    earlier = [
        row for row in rows if row.ordinal < last.ordinal and row.status in ENDED and (row.ended_at or 0) > since
    ]
    return [*earlier, last]


def _steered(rows: Sequence[TurnRow]) -> dict[str, list[str]]:
    """Return what each turn was told while it ran, by the words in which the text's own turn says where it was read."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.reason == STEERED:
            told.setdefault(row.detail, []).append(row.prompt)
    return told


def _inputs_of(connection: Connection, turns: dict[str, TurnRow]) -> Sequence[str]:
    """Return the inputs that these turns had."""
    rows = agent_queries.inputs(connection, set(turns))
    return [row.source_id for row in rows if row.turn == turns[row.agent_id].ordinal]


def _changed(turn: TurnRow) -> str:
    """Return what the turn changed, and that it committed nothing if so."""
    changes = changes_of(turn)
    words = change_words(changes, turn.changes_unknown)
    is_open = changes is not None and changes.files_changed > 0 and changes.committed is None
    return f"{words}; not committed by this turn" if is_open else words


def _ending(turn: TurnRow) -> str:
    """Return how the turn ended; a review with findings has not failed for those who read them."""
    if turn.status == TurnStatus.COMPLETE:
        return str(turn.status)
    return "it asks for changes" if turn.reason == FAILED_VERDICT else f"it ended as {turn.status}"


def _result(
    source: AgentRow,
    ended: TurnRow | None,
    told: Mapping[str, Sequence[str]] | None = None,
    *,
    with_task: bool = False,
    numbered: bool = False,
) -> SourceResult:
    persona = persona_of(source)
    steers = (told or {}).get(read_in(ended.ordinal), ()) if ended else ()
    return SourceResult(
        agent=source.name,
        persona=source.persona,
        status=_ending(ended) if ended else f"it ended as {source.status}",
        produces=persona.produces,
        text=(ended.result or ended.detail) if ended else "",
        may_change=persona.may_change,
        changes=_changed(ended) if ended else "",
        task="\n\n".join([ended.prompt, *(f"Told while it worked: {text}" for text in steers)])
        if ended and with_task
        else "",
        turn=ended.ordinal if ended and numbered else 0,
    )
