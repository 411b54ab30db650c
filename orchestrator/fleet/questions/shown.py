"""Which question each caller was shown last, so that a late answer never applies to another question."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.domain.tool import CallContext
from orchestrator.fleet.views import AgentView


@dataclass(frozen=True)
class ShownQuestion:
    """The question of an agent that a caller was shown last."""

    question_id: str
    refused: str | None = None
    """the key of the call whose refusal showed it: the same call, sent again, has not read it"""
    before: str | None = None
    """the question that the refused call meant"""


ByAgent = Mapping[str, ShownQuestion]
"""the questions that one caller was shown, by agent id"""


@dataclass
class ShownQuestions:
    """The questions that this daemon has shown, by caller: project and orchestrator.

    They are kept in memory only: after a restart, no caller has been shown anything.
    """

    _by_caller: dict[tuple[str, str], ByAgent] = field(default_factory=dict[tuple[str, str], ByAgent])

    def by(self, call: CallContext) -> ByAgent:
        """What this caller has been shown up to now; later notes do not change the returned mapping."""
        return self._by_caller.get((call.caller.project, call.caller.orchestrator), {})

    def note(self, call: CallContext, agents: Iterable[AgentView]) -> None:
        """Note that the caller is shown these agents, with their questions."""
        self._add(call, {agent.id: ShownQuestion(agent.question.id) for agent in agents if agent.question is not None})

    def refused(self, call: CallContext, agent_id: str, meant: str | None, question_id: str) -> None:
        """Note that the caller meant another question, and that the refusal shows it this one."""
        self._add(call, {agent_id: ShownQuestion(question_id, call.key, meant)})

    def _add(self, call: CallContext, more: ByAgent) -> None:
        if more:
            self._by_caller[call.caller.project, call.caller.orchestrator] = {**self.by(call), **more}

    def forget(self, agent_ids: Collection[str]) -> None:
        """Forget the questions of these agents."""
        for caller, shown in self._by_caller.items():
            self._by_caller[caller] = {one: question for one, question in shown.items() if one not in agent_ids}


def meant_by(call: CallContext, shown: ShownQuestion | None) -> str | None:
    """The question that this call answers if it names none: the one that its caller was shown last."""
    if shown is None:
        return None
    return shown.before if shown.refused is not None and shown.refused == call.key else shown.question_id
