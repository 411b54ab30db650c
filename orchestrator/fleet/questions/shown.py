"""Which question each caller was shown last, and how much of it: an answer applies to what its sender has read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict

from orchestrator.domain.question import QuestionKind, fits_line, is_whole
from orchestrator.domain.tool import CallContext
from orchestrator.fleet.state_views import QuestionView
from orchestrator.fleet.views import AgentView


@dataclass(frozen=True, kw_only=True)
class ShownQuestion:
    """The question of an agent that a caller was shown last."""

    question_id: str | None
    """None: the caller was shown that it asks nothing (any more)"""
    read_characters: int = 0
    """how much of it the caller has read, from its beginning"""
    is_read: bool = False
    """the caller was shown all of it"""
    refused: str | None = None
    """the key of the call whose refusal showed it: the same call, sent again, has not read it"""
    before: str | None = None
    """the question that the refused call meant"""


NOTHING = ShownQuestion(question_id=None)
ByAgent = Mapping[str, ShownQuestion]
"""the questions that one caller was shown, by agent id"""


def in_line(question: QuestionView) -> bool:
    """Whether a line about the agent shows all of its question."""
    return fits_line(QuestionKind(question.kind), question.text)


def in_full(question: QuestionView) -> bool:
    """Whether all that the daemon keeps ready shows all of the question."""
    return is_whole(QuestionKind(question.kind), question.text)


class Meant(TypedDict):
    """What a call that may be an answer means (the fields of the same names of `store.agents.commands.Command`)."""

    question_id: str | None
    read: str | None
    knows_closed: bool
    knows_agent: bool


@dataclass
class ShownQuestions:
    """The questions that this daemon has shown, by caller: project and orchestrator.

    They are kept in memory only: after a restart, no caller has been shown anything.
    """

    _by_caller: dict[tuple[str, str], ByAgent] = field(default_factory=dict[tuple[str, str], ByAgent])
    _answered: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict[tuple[str, str], "dict[str, str]"])
    """the question of each agent that a caller has answered last"""

    def by(self, call: CallContext) -> ByAgent:
        """What this caller has been shown up to now; later notes do not change the returned mapping."""
        return self._by_caller.get(_caller(call), {})

    def note(
        self, call: CallContext, agents: Iterable[AgentView], whole: Callable[[QuestionView], bool] = in_line
    ) -> None:
        """Note that the caller is shown these agents, with their questions, or that they ask nothing any more."""
        new: dict[str, ShownQuestion] = {}
        for agent in agents:
            if (question := agent.question) is None:
                new[agent.id] = NOTHING
                continue
            found = self._of(call, agent.id, question.id)
            new[agent.id] = replace(found, is_read=found.is_read or whole(question))
        self._set(call, new)

    def page(self, call: CallContext, agent_id: str, question_id: str, span: tuple[int, int], total: int) -> None:
        """Note that the caller is shown these characters of the question, of so many; a gap before them counts."""
        found, (start, end) = self._of(call, agent_id, question_id), span
        read = max(found.read_characters, end) if start <= found.read_characters else found.read_characters
        self._set(call, {agent_id: replace(found, read_characters=read, is_read=found.is_read or read >= total)})

    def refused(self, call: CallContext, agent_id: str, meant: str | None, question_id: str | None) -> None:
        """Note that the caller meant another question, and that the refusal shows it this one, or that none is open."""
        self._set(call, {agent_id: ShownQuestion(question_id=question_id, refused=call.key, before=meant)})

    def answered(self, call: CallContext, agent_id: str, question_id: str) -> None:
        """Note that the caller is told that it has answered the question."""
        self._set(call, {agent_id: ShownQuestion(question_id=question_id)})
        self._answered.setdefault(_caller(call), {})[agent_id] = question_id

    def commanded(self, call: CallContext, agent_id: str) -> None:
        """Note that the caller is told that the agent has a new task of its own."""
        self._set(call, {agent_id: NOTHING})

    def meant(
        self, call: CallContext, agent_id: str, shown: ShownQuestion | None, named: str | None, *, is_read: bool
    ) -> Meant:
        """Return what this call answers: the question that it names, or the one that its caller saw last.

        An answer that the caller has just given counts, even one in the same message.
        """
        found = shown or NOTHING
        has_not_read = found.refused is not None and found.refused == call.key
        meant = named or (found.before if has_not_read else found.question_id)
        return {
            "question_id": meant,
            "read": named if is_read else found.question_id if found.is_read else None,
            "knows_closed": meant is not None and meant == self._answered.get(_caller(call), {}).get(agent_id),
            "knows_agent": shown is not None and not has_not_read,
        }

    def _of(self, call: CallContext, agent_id: str, question_id: str) -> ShownQuestion:
        found = self.by(call).get(agent_id)
        same = found is not None and found.question_id == question_id and found.refused is None
        return found if found is not None and same else ShownQuestion(question_id=question_id)

    def _set(self, call: CallContext, new: Mapping[str, ShownQuestion]) -> None:
        self._by_caller[_caller(call)] = {**self.by(call), **new}

    def forget(self, agent_ids: Collection[str]) -> None:
        """Forget the questions of these agents."""
        for caller, shown in self._by_caller.items():
            self._by_caller[caller] = {one: question for one, question in shown.items() if one not in agent_ids}
        for answered in self._answered.values():
            for one in answered.keys() & set(agent_ids):
                del answered[one]


def _caller(call: CallContext) -> tuple[str, str]:
    return call.caller.project, call.caller.orchestrator
