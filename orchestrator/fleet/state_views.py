"""The parts of an agent's view: its question, wait, activity and budget.

Times are ISO 8601 in UTC; ages and durations are seconds at the time of reading; None means unknown.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from orchestrator.domain.text import NO_TEXT, ForeignText, raw, storable


def _foreign(value: object) -> ForeignText:
    if isinstance(value, ForeignText):
        return value
    if isinstance(value, str):
        return ForeignText(value)
    raise ValueError("this is not text")


def _string(text: ForeignText) -> str:
    return storable(raw(text))  # JSON has no lone surrogates


Foreign = Annotated[
    ForeignText, PlainValidator(_foreign), PlainSerializer(_string, return_type=str), WithJsonSchema({"type": "string"})
]
"""text that Fleet did not write; a string in JSON"""


class View(BaseModel):
    """An immutable value that every door can show."""

    model_config = ConfigDict(frozen=True)


class QuestionView(View):
    """What a waiting agent asks; answer it with a command.

    `text` of a permission is what the tool is given: a shell's command as it is, everything else as JSON. Of a long one
    the middle is cut.
    """

    text: Foreign
    options: tuple[Foreign, ...] = ()
    age_seconds: float = 0.0
    id: str = ""
    kind: str = "question"
    """question | permission (answers: allow, always, deny: why)"""
    tool: Foreign = NO_TEXT
    deadline_seconds: float | None = None
    """until the default applies; None: it waits forever"""
    fallback: Foreign = NO_TEXT
    """the default"""


class PastQuestionView(View):
    """One entry of an agent's history in the inbox."""

    id: str
    turn: int
    kind: str
    tool: Foreign
    input: dict[str, object]
    text: Foreign
    state: str
    """open | answered | settled (its call ran) | dropped"""
    asked_at: str
    deadline_at: str | None = None
    answer: Foreign | None = None
    answered_at: str | None = None
    answered_by: str | None = None
    """orchestrator | person | policy | deadline"""


class BudgetView(View):
    """One cap and what counts against it, in the cap's unit."""

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
    """slot | inputs | checkout | question | permission | children | agents | account | budget | quota | overload |
    held
    """
    on: str = ""
    """names of the inputs, the holder of the checkout, the owner of the budget ('': the agent itself), or the code of
    the failure that holds the queue
    """
    until: str | None = None
    """when it ends by itself, if it does"""
    detail: Foreign = NO_TEXT
    blocked: bool = False
    """it does not end in the usual way: a person or orchestrator must act"""


class ActivityView(View):
    """What a working agent is doing, if more is known than that it works."""

    kind: str
    """starting | recovering | checking | stalled | retrying | looping | unknown"""
    detail: Foreign = NO_TEXT
    """the check, the repeated call, or the number of the attempt"""
    seconds: float | None = None
    """of silence, or of the announced pause before a retry"""


class ProgressView(View):
    """What a working agent has done since its last line of progress, or since its run began if that is later."""

    progress_age_seconds: float | None
    """of its last line of progress; None: it has written none"""
    tool_age_seconds: float | None
    """since a tool last started or ended"""
    in_tool: bool
    tokens_since_progress: int
    tokens_since_tool: int
    files_since_progress: int
    """files that its tools wrote"""
    same_calls: int
    """how often its last call was made in a row"""


class BudgetsView(View):
    """The caps that apply to an agent, or to the fleet."""

    budgets: tuple[BudgetView, ...]


class CommittedView(View):
    """The commits that a turn made."""

    commit: str
    """the newest"""
    branch: Foreign = NO_TEXT
    inside: Foreign = NO_TEXT
    """the inner repository that has it"""
    files: tuple[Foreign, ...] = ()
    files_changed: int = 0
    insertions: int = 0
    deletions: int = 0
