"""Takes over a turn whose run died; its transcript says how to continue, so nothing is lost or done twice.

Answered: the result is recorded without a model call. Begun: the conversation continues under a new prompt id. Not
in the transcript: the prompt is sent. In a question: the agent waits again, or continues with the answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from orchestrator import log
from orchestrator.domain.event import Ended, SessionOutcome
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.domain.turn import DAEMON, TurnStatus
from orchestrator.domain.usage import RunUsage, Usage
from orchestrator.errors import FleetError, NotFoundError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.attempt import Attempt, prompt_id
from orchestrator.fleet.sessions.steering import turn_of
from orchestrator.providers.base import Prompt, Provider
from orchestrator.store.agents import plans
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import TurnRow
from orchestrator.store.turns.recovery import CRASH_LOOP_HINT, Loss, count_lost, give_up_run, note_prompt
from orchestrator.store.turns.steering import fold
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import questions

LOG = log.logger("fleet.recovery")
CONTINUE = "Continue from where you left off."
"""what Claude Code itself says to continue a conversation (2.1.329)"""
RESUMABLE = frozenset({"process", "silence", DAEMON})
"""failures of a session, not of the model or the task: its conversation continues in a new session"""


async def taken_over(work: UnitOfWork, provider: Provider, claim: Claim, attempt: Attempt) -> Attempt:
    """Return the run as it continues according to its transcript; `ended` is set if the turn has already ended.

    Raises:
        ProviderError: a former program of the session is still alive.
    """
    turn = await work.store.read(partial(agent_queries.turn, turn_id=claim.turn_id))
    if turn is None:
        raise NotFoundError(f"turn {claim.turn_id} is gone")
    prompts = [prompt_id(turn.id), *(turn.prompts or [])]
    found = await provider.recall(attempt.spec, prompts)
    LOG.info("taken_over", status=str(found.status), attempt=turn.attempts)
    if found.steered:
        await work.commit(fold, claim, [turn_of(prompt) for prompt in found.steered], work.clock())
    lost = _uncounted(found.usage, turn)
    match found.status:
        case TranscriptStatus.ANSWERED:
            told = await _untold(provider, attempt, prompts)
            if told is None:
                return replace(attempt, ended=_recorded(attempt, found, lost))
            await work.store.write(plans.add_children_results, claim, told.id)
            await _count(work, claim, attempt, lost)
            return replace(attempt, prompt=told)
        case TranscriptStatus.DEFERRED if found.deferred is not None:
            if not await _is_answered(work, claim, found.deferred.id):
                return replace(attempt, ended=_recorded(attempt, found, lost))
            await _count(work, claim, attempt, lost)
            return replace(attempt, prompt=None)
        case TranscriptStatus.OPEN:
            fresh = str(uuid.uuid4())
            await work.store.write(note_prompt, claim, fresh)
            await _count(work, claim, attempt, lost)
            return replace(attempt, prompt=Prompt(id=fresh, text=CONTINUE))
        case _:
            return attempt


async def with_late_reads(provider: Provider, attempt: Attempt, handed: Collection[str], ended: Ended) -> Ended:
    """Return the end with the handed-in texts that the program took up while it was stopped.

    A program whose run is interrupted begins another one with the texts that it has not read (Claude Code 2.1.329,
    measured), so they stand in the conversation although the run did not report them.
    """
    late: list[str] = []
    for prompt in sorted(set(handed) - set(ended.steered)):
        try:
            found = await provider.recall(attempt.spec, [prompt])
        except FleetError as error:  # then the text is read twice at worst
            LOG.warning("late_reads_unknown", error=error.message)
            break
        if found.status is not TranscriptStatus.ABSENT:
            late.append(prompt)
    return replace(ended, steered=(*ended.steered, *late))


async def _untold(provider: Provider, attempt: Attempt, prompts: Sequence[str]) -> Prompt | None:
    """Return the report that an earlier run recorded for the turn but did not send, if there is one."""
    if attempt.told is None or attempt.told.id not in prompts:
        return None
    since = await provider.recall(attempt.spec, prompts[prompts.index(attempt.told.id) :])
    return attempt.told if since.status is TranscriptStatus.ABSENT else None


async def _is_answered(work: UnitOfWork, claim: Claim, call_id: str) -> bool:
    asked = await work.store.read(partial(questions.of_call, agent_id=claim.agent_id, call_id=call_id))
    return asked is not None and asked.answer is not None


def _recorded(attempt: Attempt, found: TranscriptState, lost: Usage) -> Ended:
    """Return the end that the transcript records; its cost is unknown."""
    return Ended(
        outcome=SessionOutcome.DEFERRED if found.deferred is not None else SessionOutcome.COMPLETE,
        text=found.text,
        usage=lost,
        session_cost_usd=attempt.spec.session_cost_usd,
        deferred=found.deferred,
    )


async def _count(work: UnitOfWork, claim: Claim, attempt: Attempt, lost: Usage) -> None:
    if lost.model_calls:
        unpriced = RunUsage(tokens=lost, session_cost_usd=attempt.spec.session_cost_usd)
        await work.store.write(count_lost, claim, unpriced)


def _uncounted(told: Usage, turn: TurnRow) -> Usage:
    """Return the usage in the transcript that the turn's row does not include."""
    return replace(
        told,
        input_tokens=max(0, told.input_tokens - turn.input_tokens),
        output_tokens=max(0, told.output_tokens - turn.output_tokens),
        cache_read_tokens=max(0, told.cache_read_tokens - turn.cache_read_tokens),
        cache_write_tokens=max(0, told.cache_write_tokens - turn.cache_write_tokens),
        model_calls=max(0, told.model_calls - turn.model_calls),
    )


async def resumed(work: UnitOfWork, claim: Claim, ended: Ended, max_resumes: int) -> Ended | None:
    """Return None if the turn continues in a new session after this end of its run, otherwise how the turn ends.

    Raises:
        StaleOwnerError: the claim is over.
    """
    if ended.outcome is not SessionOutcome.FAILED or ended.reason not in RESUMABLE:
        return ended
    loss = Loss(reason=ended.reason, detail=ended.detail, counts=ended.reason != DAEMON)
    final = await work.commit(give_up_run, claim, loss, ended.run_usage, work.clock(), max_resumes)
    if final is None:
        return None
    outcome = SessionOutcome.INTERRUPTED if final.status is TurnStatus.INTERRUPTED else SessionOutcome.FAILED
    if final.reason == ended.reason:
        return replace(ended, outcome=outcome)
    hint = final.hint if final.hint == CRASH_LOOP_HINT else ended.hint
    return replace(ended, outcome=outcome, reason=final.reason, detail=final.detail, hint=hint)
