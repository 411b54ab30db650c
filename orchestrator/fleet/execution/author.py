"""Asks for the author of an agent's commits before its first model call, not after minutes of work."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.domain import clearance
from orchestrator.domain.author import FORM, author_in
from orchestrator.domain.event import Ended, SessionOutcome
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import AnsweredBy, QuestionState
from orchestrator.domain.text import one_line
from orchestrator.domain.tool import ToolCall
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.providers.base import SessionSpec
from orchestrator.provisioning.author import author_problem
from orchestrator.store.schema.rows import QuestionRow
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import questions

MAX_QUESTIONS = 2
"""a turn; after them the agent works on and finds out by itself"""
QUESTION = (
    "Git does not know who the author of my commits here is ({problem}). Answer `"
    + FORM
    + "` and I commit as that author; or set user.name and user.email in git's configuration, and then answer `done`."
)


@dataclass(frozen=True, kw_only=True)
class AuthorAnswers:
    """The questions for the author that the agent has asked so far, oldest first."""

    rows: Sequence[QuestionRow] = ()

    def variables(self) -> Mapping[str, str]:
        """Return the variables that make git use the author that was answered last; none if none was named."""
        authors = [author_in(row.answer) for row in self.rows if row.answer is not None]
        named = [author for author in authors if author is not None]
        return named[-1].variables() if named else {}

    def asks_again(self, turn: int) -> bool:
        """Return whether this turn may still ask: not too often, and somebody answers."""
        mine = [row for row in self.rows if row.turn == turn]
        return len(mine) < MAX_QUESTIONS and not any(row.answered_by == AnsweredBy.DEADLINE for row in mine)


async def answers_of(work: UnitOfWork, persona: Persona, agent_id: str) -> AuthorAnswers:
    """Read what the agent was answered; an answer that has arrived counts as read from then on."""
    if not persona.commits:
        return AuthorAnswers()
    rows = await work.store.read(partial(questions.of_agent, agent_id=agent_id))
    mine = [row for row in rows if row.tool == clearance.AUTHOR]
    for row in mine:
        if row.state == QuestionState.ANSWERED:
            await work.store.write(questions.settle, row.id)
    return AuthorAnswers(rows=mine)


async def unknown_author(claim: Claim, persona: Persona, spec: SessionSpec, answers: AuthorAnswers) -> Ended | None:
    """Return the end of a run that has not begun, with the question for the author; None: git knows the author."""
    has_begun = claim.continues or claim.recovers or claim.prompt_received
    if not persona.commits or has_begun or not answers.asks_again(claim.turn):
        return None
    problem = await author_problem(spec.cwd, spec.environment)
    if not problem:
        return None
    text = QUESTION.replace("{problem}", one_line(problem, 200))
    call = ToolCall(id=str(uuid.uuid4()), name=clearance.AUTHOR, input={"question": text})
    if clearance.policy_answer(call, persona) is not None:
        return None  # its persona answers questions without anybody: the agent finds out by itself
    return Ended(outcome=SessionOutcome.DEFERRED, deferred=call, cost_usd=0.0, session_cost_usd=spec.session_cost_usd)
