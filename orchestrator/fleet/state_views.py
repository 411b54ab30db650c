"""The parts of an agent's view: what it asks, waits for, does and may still use.

Times are ISO 8601 in UTC; ages and durations are seconds at the moment of reading; None means unknown.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """A frozen value that every door can show."""

    model_config = ConfigDict(frozen=True)


class QuestionView(View):
    """What a waiting agent asks; answer it with a command. `text` of a permission is its input, shortened."""

    text: str
    options: tuple[str, ...] = ()
    age_seconds: float = 0.0
    id: str = ""
    kind: str = "question"
    """question | permission (answers: allow, always, deny: why)"""
    tool: str = ""
    deadline_seconds: float | None = None
    """until the default counts; None: it waits for ever"""
    fallback: str = ""
    """the default"""


class PastQuestionView(View):
    """One entry of an agent's history in the inbox."""

    id: str
    turn: int
    kind: str
    tool: str
    input: dict[str, object]
    text: str
    state: str
    """open | answered | settled (its call went on) | dropped"""
    asked_at: str
    deadline_at: str | None = None
    answer: str | None = None
    answered_at: str | None = None
    answered_by: str | None = None
    """orchestrator | person | policy | deadline"""


class BudgetView(View):
    """One cap and what counts against it, in the unit's own measure."""

    of: str
    """name of the agent whose cap it is, or `fleet`"""
    scope: str
    """agent | subtree | fleet"""
    unit: str
    """usd | tokens | turns | seconds"""
    cap: float
    used: float
    """what was used, and what is reserved for children"""
    left: float


class WaitView(View):
    """What a queued or waiting agent waits for."""

    kind: str
    """slot | inputs | checkout | question | permission | children | agents | account | budget | quota | overload"""
    on: str = ""
    """whom: names of the inputs, the holder of the checkout, whose budget it is ('' for its own)"""
    until: str | None = None
    """when it ends by itself, if it does"""
    detail: str = ""
    blocked: bool = False
    """what usually ends such a wait does not: somebody must act"""


class ActivityView(View):
    """What an agent at work is doing, where more than its work is known."""

    kind: str
    """starting | recovering | checking | stalled | retrying | looping | unknown"""
    detail: str = ""
    """the check, the repeated call, or which attempt"""
    seconds: float | None = None
    """of silence, or of the announced pause before a retry"""


class ProgressView(View):
    """What an agent at work has done since its last line of progress, or since its run began if that is later."""

    progress_age_seconds: float | None
    """of its last line of progress, None: it never wrote one"""
    tool_age_seconds: float | None
    """since a tool last began or ended"""
    in_tool: bool
    tokens_since_progress: int
    tokens_since_tool: int
    files_since_progress: int
    """files that its tools wrote"""
    same_calls: int
    """how often its last call was made in a row"""
