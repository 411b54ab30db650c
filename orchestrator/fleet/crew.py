"""The crew tools: what every agent can do towards its fleet. They are rendered into the agent's own session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.domain.tool import Call, Json, Tool
from orchestrator.errors import ConflictError

MAX_PROGRESS_CHARACTERS = 300
MAX_QUESTION_CHARACTERS = 4000

PROGRESS: Json = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1, "maxLength": MAX_PROGRESS_CHARACTERS}},
    "required": ["text"],
    "additionalProperties": False,
}
QUESTION: Json = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "maxLength": MAX_QUESTION_CHARACTERS},
        "options": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
    },
    "required": ["question"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class CrewLine:
    """The ways from one agent to its fleet: note its progress, fetch the answer to a question.

    The question is that of this tool call, None: the agent's last one.
    """

    progress: Callable[[str], Awaitable[None]]
    answer: Callable[[str | None], Awaitable[str | None]]


def crew_tools(line: CrewLine) -> tuple[Tool, ...]:
    """The tools of one agent."""

    async def report_progress(call: Call, arguments: Json) -> str:
        del call
        await line.progress(str(arguments["text"]))
        return "noted"

    async def ask_orchestrator(call: Call, arguments: Json) -> str:
        del arguments
        answer = await line.answer(call.key)
        if answer is None:  # the gate lets this tool run only when its answer is there
            raise ConflictError("no answer has come yet", hint="ask again")
        return answer

    return (
        Tool(
            name="report_progress",
            description="Say in one line how far you are, on long work only. Nobody answers.",
            schema=PROGRESS,
            call=report_progress,
        ),
        Tool(
            name="ask_orchestrator",
            description=(
                "Ask the orchestrator what you cannot find out and must not guess. You sleep until it answers; "
                "one question at a time."
            ),
            schema=QUESTION,
            call=ask_orchestrator,
        ),
    )
